#pragma once

// Which backend a manager has, decided while the program runs. `AnyEmbeddingBackend` and `AnyRerankerBackend` own a
// backend of whichever type; `route` makes one of several, so that some keys are computed by one engine and others by
// another. A model call costs one indirect call more.

#include "residency/backends/any/backend.hpp"  // IWYU pragma: export
#include "residency/backends/any/model.hpp"    // IWYU pragma: export
#include "residency/backends/any/route.hpp"    // IWYU pragma: export

#pragma once

// The version of residency. CMake reads it from the three lines below, so it is written down here alone.

#include "residency/compiler.hpp"

#define RESIDENCY_VERSION_MAJOR 0
#define RESIDENCY_VERSION_MINOR 1
#define RESIDENCY_VERSION_PATCH 0

/// The version as one number that grows with every release, for `#if`: 0.1.0 is 100, 1.2.3 is 10203.
#define RESIDENCY_VERSION (RESIDENCY_VERSION_MAJOR * 10000 + RESIDENCY_VERSION_MINOR * 100 + RESIDENCY_VERSION_PATCH)

// A backend loads.
// GNU: required for the satisfaction of 'LoadsModels<
// Clang: because 'Mine' does not satisfy 'LoadsModels'
// Clang: no member named 'load' in 'Mine'

#include "residency/backend.hpp"

#include <memory>

struct Model {};

struct Mine {
    using model_type = Model;
#if defined(CONTROL)
    std::unique_ptr<Model> load(const residency::ModelKey& key);
#endif
};

static_assert(residency::ModelBackend<Mine>);

// A load is given the key of its model.
// GNU: required for the satisfaction of 'LoadsModels<
// Clang: because 'Mine' does not satisfy 'LoadsModels'

#include "residency/backend.hpp"

#include <memory>

struct Model {};

struct Mine {
    using model_type = Model;
#if defined(CONTROL)
    std::unique_ptr<Model> load(const residency::ModelKey& key);
#else
    std::unique_ptr<Model> load();
#endif
};

static_assert(residency::ModelBackend<Mine>);

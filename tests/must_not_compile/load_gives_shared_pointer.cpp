// A load hands its model over: it has no other owner.
// GNU: required for the satisfaction of 'LoadsModels<
// Clang: because 'Mine' does not satisfy 'LoadsModels'
// Clang: std::unique_ptr<Model>

#include "residency/backend.hpp"

#include <memory>

struct Model {};

struct Mine {
    using model_type = Model;
#if defined(CONTROL)
    std::unique_ptr<Model> load(const residency::ModelKey& key);
#else
    std::shared_ptr<Model> load(const residency::ModelKey& key);
#endif
};

static_assert(residency::ModelBackend<Mine>);

// A backend's models are objects of a class: their destructor unloads.
// GNU: required for the satisfaction of 'NamesModelType<
// GNU: is_class_v
// Clang: because 'Mine' does not satisfy 'NamesModelType'
// Clang: std::is_class_v

#include "residency/backend.hpp"

#include <memory>

struct Model {};

struct Mine {
#if defined(CONTROL)
    using model_type = Model;
#else
    using model_type = Model*;
#endif
    std::unique_ptr<model_type> load(const residency::ModelKey& key);
};

static_assert(residency::ModelBackend<Mine>);

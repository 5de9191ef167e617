// A backend says of which class its models are.
// GNU: required for the satisfaction of 'NamesModelType<
// GNU: the required type 'typename Backend::model_type' is invalid
// Clang: because 'Mine' does not satisfy 'NamesModelType'
// Clang: no type named 'model_type' in 'Mine'

#include "residency/backend.hpp"

#include <memory>

struct Model {};

struct Mine {
#if defined(CONTROL)
    using model_type = Model;
#endif
    std::unique_ptr<Model> load(const residency::ModelKey& key);
};

static_assert(residency::ModelBackend<Mine>);

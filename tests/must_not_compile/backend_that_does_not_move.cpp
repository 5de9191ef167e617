// A backend is moved into its slot.
// GNU: required for the satisfaction of 'move_constructible<
// Clang: because 'Mine' does not satisfy 'move_constructible'

#include "residency/backend.hpp"

#include <memory>

struct Model {};

struct Mine {
    using model_type = Model;
    Mine() = default;
#if defined(CONTROL)
    Mine(Mine&&) = default;
#else
    Mine(Mine&&) = delete;
#endif
    std::unique_ptr<Model> load(const residency::ModelKey& key);
};

static_assert(residency::ModelBackend<Mine>);

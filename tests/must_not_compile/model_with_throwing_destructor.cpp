// A model's destructor, which unloads it, does not throw.
// GNU: required for the satisfaction of 'UnloadsWithoutThrowing<
// GNU: is_nothrow_destructible_v
// Clang: because 'Mine' does not satisfy 'UnloadsWithoutThrowing'
// Clang: is_nothrow_destructible_v

#include "residency/backend.hpp"

#include <memory>

struct Model {
#if defined(CONTROL)
    ~Model();
#else
    ~Model() noexcept(false);
#endif
};

struct Mine {
    using model_type = Model;
    std::unique_ptr<Model> load(const residency::ModelKey& key);
};

static_assert(residency::ModelBackend<Mine>);

// A model is destroyed by its slot: its destructor is public.
// GNU: required for the satisfaction of 'UnloadsWithoutThrowing<
// GNU: is_nothrow_destructible_v
// Clang: because 'Mine' does not satisfy 'UnloadsWithoutThrowing'
// Clang: is_nothrow_destructible_v

#include "residency/backend.hpp"

#include <memory>

class Model {
#if defined(CONTROL)
public:
#endif
    ~Model();
};

struct Mine {
    using model_type = Model;
    std::unique_ptr<Model> load(const residency::ModelKey& key);
};

static_assert(residency::ModelBackend<Mine>);

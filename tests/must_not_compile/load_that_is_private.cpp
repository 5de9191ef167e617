// A backend's load is called by its slot: it is public.
// GNU: required for the satisfaction of 'LoadsModels<
// Clang: because 'Mine' does not satisfy 'LoadsModels'
// Clang: 'load' is a private member of 'Mine'

#include "residency/backend.hpp"

#include <memory>

struct Model {};

class Mine {
public:
    using model_type = Model;

#if !defined(CONTROL)
private:
#endif
    std::unique_ptr<Model> load(const residency::ModelKey& key);
};

static_assert(residency::ModelBackend<Mine>);

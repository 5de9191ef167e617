// A slot says of its backend what is missing.
// GNU: template constraint failure for
// GNU: required for the satisfaction of 'LoadsModels<
// Clang: constraints not satisfied for class template 'ModelSlot'
// Clang: because 'Mine' does not satisfy 'LoadsModels'

#include "residency/model_slot.hpp"

#include <memory>

struct Model {};

struct Mine {
    using model_type = Model;
#if defined(CONTROL)
    std::unique_ptr<Model> load(const residency::ModelKey& key);
#endif
};

void use(residency::ModelSlot<Mine>& slot);

// A backend that says which keys it knows is not passed over because it says so in the wrong way.
// GNU: knows() must be const and give a bool
// Clang: knows() must be const and give a bool

#include "residency/model_slot.hpp"

#include <memory>

struct Model {};

struct Mine {
    using model_type = Model;
    std::unique_ptr<Model> load(const residency::ModelKey& key);
#if defined(CONTROL)
    bool knows(const residency::ModelKey& key) const;
#else
    bool knows(const residency::ModelKey& key);
#endif
};

void use() { residency::ModelSlot<Mine> slot{Mine()}; }

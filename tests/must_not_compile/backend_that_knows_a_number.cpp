// Whether a backend knows a key is a bool, so that an index or a pointer is not taken for one.
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
    int knows(const residency::ModelKey& key) const;
#endif
};

void use() { residency::ModelSlot<Mine> slot{Mine()}; }

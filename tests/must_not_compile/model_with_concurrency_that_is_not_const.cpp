// A model that says how many calls it takes at once is not passed over because it says that in the wrong way.
// GNU: max_concurrency() must be const and give a number
// Clang: max_concurrency() must be const and give a number

#include "residency/model_slot.hpp"

#include <cstddef>
#include <memory>

struct Model {
#if defined(CONTROL)
    std::size_t max_concurrency() const;
#else
    std::size_t max_concurrency();
#endif
};

struct Mine {
    using model_type = Model;
    std::unique_ptr<Model> load(const residency::ModelKey& key);
};

void use() { residency::ModelSlot<Mine> slot{Mine()}; }

// A model that says what it holds is not passed over because it says that in the wrong way.
// GNU: memory_used() must be const and give a std::size_t
// Clang: memory_used() must be const and give a std::size_t

#include "residency/model_memory.hpp"

#include <cstddef>

struct Model {
#if defined(CONTROL)
    std::size_t memory_used() const;
#else
    std::size_t memory_used();
#endif
};

void use(const Model& model) { static_cast<void>(residency::detail::memory_used_of(model)); }

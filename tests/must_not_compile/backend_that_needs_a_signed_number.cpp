// What a model needs is a std::size_t, so that a number below zero or a fraction is not taken for one.
// GNU: memory_needed() must take a const ModelKey& and give a std::size_t
// Clang: memory_needed() must take a const ModelKey& and give a std::size_t

#include "residency/backend.hpp"

#include <cstddef>
#include <memory>

struct Model {};

struct Mine {
    using model_type = Model;
    std::unique_ptr<Model> load(const residency::ModelKey& key);
#if defined(CONTROL)
    std::size_t memory_needed(const residency::ModelKey& key);
#else
    long memory_needed(const residency::ModelKey& key);
#endif
};

void use(Mine& backend) { static_cast<void>(residency::detail::call_memory_needed(backend, residency::ModelKey())); }

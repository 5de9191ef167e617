#pragma once

// Version 14 takes concepts apart, and compilers show them to users as they stand here.
// clang-format off

#include "residency/model_key.hpp"

#include <concepts>
#include <cstddef>
#include <optional>

// What a model holds, and what a backend says that it will. Both are optional: `memory_used()` of a model, and
// `memory_needed(key)` of a backend; `ModelBackend` says what they owe.

namespace residency::detail {

/// A number of bytes, or, if it depends on the key or on what was loaded, perhaps none.
template <class Given>
concept ByteCount = std::same_as<Given, std::size_t> || std::same_as<Given, std::optional<std::size_t>>;

template <class Model>
concept SaysMemoryUsed = requires(const Model& model) {
    { model.memory_used() } -> ByteCount;
};

template <class Backend>
concept SaysMemoryNeeded = requires(Backend& backend, const ModelKey& key) {
    { backend.memory_needed(key) } -> ByteCount;
};

// A backend of whichever type behind one face: whether the one that it holds says what a model needs.
template <class Backend>
concept SaysWhetherItSaysMemoryNeeded = requires(const Backend& backend) {
    { backend.says_memory_needed() } -> std::same_as<bool>;
};

/// How many bytes the model holds now, or none if it does not say.
template <class Model>
[[nodiscard]] std::optional<std::size_t> memory_used_of(const Model& model) {
    if constexpr (SaysMemoryUsed<Model>) {
        return model.memory_used();
    } else {
        static_assert(!requires(Model& asked) { asked.memory_used(); },
                      "memory_used() must be const and give a std::size_t");
        return std::nullopt;
    }
}

/// How many bytes the model for the key will need at most, or none if the backend does not say.
template <class Backend>
[[nodiscard]] std::optional<std::size_t> call_memory_needed(Backend& backend, const ModelKey& key) {
    if constexpr (SaysMemoryNeeded<Backend>) {
        return backend.memory_needed(key);
    } else {
        static_assert(!requires { backend.memory_needed(key); },
                      "memory_needed() must take a const ModelKey& and give a std::size_t");
        return std::nullopt;
    }
}

/// Whether the backend says what the model for a key will need.
template <class Backend>
[[nodiscard]] bool says_memory_needed(const Backend& backend) {
    if constexpr (SaysMemoryNeeded<Backend> && SaysWhetherItSaysMemoryNeeded<Backend>) {
        return backend.says_memory_needed();
    } else {
        return SaysMemoryNeeded<Backend>;
    }
}

}  // namespace residency::detail

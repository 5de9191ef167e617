#pragma once

// The calls of the manager that are requests, each as a type: how it is started with a completion token, how it
// blocks, what it gives.

#include "residency/model_manager.hpp"
#include "stress/fakes.hpp"

#include <cstdint>
#include <exception>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace residency::stress {

using Manager = ModelManager<StressedBackend<0>, StressedBackend<1>>;

template <std::uint32_t Slot>
[[nodiscard]] auto& slot_of(Manager& manager) {
    if constexpr (Slot == 0) {
        return manager.embedding();
    } else {
        return manager.reranker();
    }
}

/// The key of a request; with an empty name if it is to be invalid.
[[nodiscard]] inline ModelKey key_of(const RequestFacts& request) {
    return request.invalid ? ModelKey("", "f16") : key_of(request.key);
}
[[nodiscard]] inline std::vector<std::string> texts_of(const RequestFacts& request) {
    std::vector<std::string> texts;
    for (std::uint32_t row = 0; row < request.rows; ++row) {
        texts.push_back(text_of(request.id, row));
    }
    return texts;
}

struct Embed {
    using Results = std::tuple<std::exception_ptr, Embeddings>;
    static constexpr Kind kind = Kind::embed;
    static constexpr std::uint32_t slot = 0;
    template <class Token>
    static auto start(Manager& manager, const RequestFacts& request, Token&& token) {
        return manager.async_embed(key_of(request), texts_of(request), request.options, std::forward<Token>(token));
    }
    static Embeddings block(Manager& manager, const RequestFacts& request) {
        return manager.embed(key_of(request), texts_of(request), request.options);
    }
};

struct Rerank {
    using Results = std::tuple<std::exception_ptr, Ranking>;
    static constexpr Kind kind = Kind::rerank;
    static constexpr std::uint32_t slot = 1;
    static std::string query(const RequestFacts& request) {
        return request.invalid ? std::string() : text_of(request.id, 0);
    }
    template <class Token>
    static auto start(Manager& manager, const RequestFacts& request, Token&& token) {
        return manager.async_rerank(key_of(request.key), query(request), texts_of(request), request.options,
                                    std::forward<Token>(token));
    }
    static Ranking block(Manager& manager, const RequestFacts& request) {
        return manager.rerank(key_of(request.key), query(request), texts_of(request), request.options);
    }
};

template <std::uint32_t Slot>
struct Acquire {
    using Results = std::tuple<std::exception_ptr, Lease<StressedModel<Slot>>>;
    static constexpr Kind kind = Kind::acquire;
    static constexpr std::uint32_t slot = Slot;
    template <class Token>
    static auto start(Manager& manager, const RequestFacts& request, Token&& token) {
        return slot_of<Slot>(manager).async_acquire(key_of(request), request.options, std::forward<Token>(token));
    }
    static auto block(Manager& manager, const RequestFacts& request) {
        return slot_of<Slot>(manager).acquire(key_of(request), request.options);
    }
};

template <std::uint32_t Slot>
struct EnsureLoaded {
    using Results = std::tuple<std::exception_ptr, Generation>;
    static constexpr Kind kind = Kind::ensure_loaded;
    static constexpr std::uint32_t slot = Slot;
    template <class Token>
    static auto start(Manager& manager, const RequestFacts& request, Token&& token) {
        return slot_of<Slot>(manager).async_ensure_loaded(key_of(request), request.options, std::forward<Token>(token));
    }
    static Generation block(Manager& manager, const RequestFacts& request) {
        return slot_of<Slot>(manager).ensure_loaded(key_of(request), request.options);
    }
};

template <std::uint32_t Slot>
struct Unload {
    using Results = std::tuple<std::exception_ptr>;
    static constexpr Kind kind = Kind::unload;
    static constexpr std::uint32_t slot = Slot;
    template <class Token>
    static auto start(Manager& manager, const RequestFacts& request, Token&& token) {
        return request.of_key
                   ? slot_of<Slot>(manager).async_unload(key_of(request.key), request.mode, std::forward<Token>(token))
                   : slot_of<Slot>(manager).async_unload(request.mode, std::forward<Token>(token));
    }
    static void block(Manager& manager, const RequestFacts& request) {
        if (request.of_key) {
            slot_of<Slot>(manager).unload(key_of(request.key), request.mode);
        } else {
            slot_of<Slot>(manager).unload(request.mode);
        }
    }
};

struct Shutdown {
    using Results = std::tuple<std::exception_ptr, ShutdownReport>;
    static constexpr Kind kind = Kind::shutdown;
    static constexpr std::uint32_t slot = 0;
    template <class Token>
    static auto start(Manager& manager, const RequestFacts& request, Token&& token) {
        return request.deadline ? manager.async_shutdown(*request.deadline, std::forward<Token>(token))
                                : manager.async_shutdown(std::forward<Token>(token));
    }
    static ShutdownReport block(Manager& manager, const RequestFacts& request) {
        return manager.shutdown(request.deadline);
    }
};

}  // namespace residency::stress

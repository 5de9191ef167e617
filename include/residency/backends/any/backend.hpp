#pragma once

#include "residency/backend.hpp"
#include "residency/backend_calls.hpp"
#include "residency/backends/any/model.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"
#include "residency/model_memory.hpp"

#include <atomic>
#include <concepts>
#include <cstddef>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace residency {

namespace detail {

/// The engines that type-erased backends stand on: one entry for each type of backend that closes one. Any thread; no
/// entry is ever destroyed.
class AnyEngines {
public:
    /// Has `Backend::close_engine` called by `close`.
    template <ClosesEngine Backend>
    static void add() noexcept {
        static Entry entry{[]() noexcept { Backend::close_engine(); }, nullptr};
        static const bool added = push(entry);
        static_cast<void>(added);
    }
    /// Closes all of them.
    static void close() noexcept {
        for (const Entry* entry = first_.load(std::memory_order_acquire); entry != nullptr; entry = entry->next) {
            entry->close();
        }
    }

private:
    struct Entry {
        void (*close)() noexcept;
        Entry* next;
    };

    static bool push(Entry& entry) noexcept {
        entry.next = first_.load(std::memory_order_relaxed);
        while (!first_.compare_exchange_weak(entry.next, &entry, std::memory_order_release)) {}
        return true;
    }

    static inline std::atomic<Entry*> first_{nullptr};
};

/// A backend of this kind of models, whatever its type.
template <class Model>
class AnyBackendFace {
public:
    AnyBackendFace() = default;
    AnyBackendFace(const AnyBackendFace&) = delete;
    AnyBackendFace& operator=(const AnyBackendFace&) = delete;
    virtual ~AnyBackendFace() = default;
    [[nodiscard]] virtual std::unique_ptr<Model> load(const ModelKey& key, LoadContext& context) = 0;
    [[nodiscard]] virtual bool knows(const ModelKey& key) const = 0;
    [[nodiscard]] virtual std::optional<std::size_t> memory_needed(const ModelKey& key) = 0;
    [[nodiscard]] virtual bool says_memory_needed() const = 0;
};

/// `Held` is its model as one of type `Model`.
template <class Model, class Held, class Backend>
class HeldBackend final : public AnyBackendFace<Model> {
public:
    explicit HeldBackend(Backend&& backend) : backend_(std::move(backend)) {}

    [[nodiscard]] std::unique_ptr<Model> load(const ModelKey& key, LoadContext& context) override {
        auto model = call_load(backend_, key, context);
        if constexpr (std::same_as<typename Backend::model_type, Model>) {
            return model;
        } else {
            return model ? std::make_unique<Held>(std::move(model)) : nullptr;
        }
    }
    [[nodiscard]] bool knows(const ModelKey& key) const override { return call_knows(backend_, key); }
    [[nodiscard]] std::optional<std::size_t> memory_needed(const ModelKey& key) override {
        return call_memory_needed(backend_, key);
    }
    [[nodiscard]] bool says_memory_needed() const override { return residency::detail::says_memory_needed(backend_); }

private:
    Backend backend_;
};

/// What the two type-erased backends have in common.
template <class Model>
class AnyBackend {
public:
    /// The type of the models.
    using model_type = Model;

    /// Whether it owns a backend.
    [[nodiscard]] explicit operator bool() const noexcept { return face_ != nullptr; }

    /// Loads the model for `key`.
    ///
    /// Errors   what the backend throws; load_failed: this is empty
    /// Threads  as the backend's own
    [[nodiscard]] std::unique_ptr<Model> load(const ModelKey& key, LoadContext& context) const {
        demand_backend(key);
        return face_->load(key, context);
    }

    /// Whether the backend knows the key; one that does not say so may know any. If this is empty, true: the load says
    /// what is wrong. From any thread.
    [[nodiscard]] bool knows(const ModelKey& key) const { return !face_ || face_->knows(key); }

    /// How many bytes the model for `key` will need at most; no value if the backend does not say.
    ///
    /// Errors   what the backend throws; load_failed: this is empty
    /// Threads  any
    [[nodiscard]] std::optional<std::size_t> memory_needed(const ModelKey& key) const {
        demand_backend(key);
        return face_->memory_needed(key);
    }
    /// Whether the backend says what a model needs. If this is empty, true: `memory_needed` says what is wrong. From
    /// any thread.
    [[nodiscard]] bool says_memory_needed() const { return !face_ || face_->says_memory_needed(); }

    /// Closes the engines of all backends that were ever type-erased, see `ClosesEngine`.
    static void close_engine() noexcept { AnyEngines::close(); }

protected:
    AnyBackend() = default;
    template <class Held, class Backend>
    AnyBackend(std::type_identity<Held> /*held*/, Backend&& backend)
        : face_(std::make_unique<HeldBackend<Model, Held, Backend>>(std::move(backend))) {
        if constexpr (ClosesEngine<Backend>) {
            AnyEngines::add<Backend>();
        } else {
            static_assert(
                !requires(Backend & asked) { asked.close_engine(); }, "close_engine() must be static and noexcept");
        }
    }

private:
    void demand_backend(const ModelKey& key) const {
        if (!face_) {
            throw Error(errc::load_failed, key, Stage::load,
                        "the type-erased backend is empty: it was made without a backend, or moved from");
        }
    }

    std::unique_ptr<AnyBackendFace<Model>> face_{};
};

}  // namespace detail

/// An embedding backend of whichever type, which it owns: `ModelManager<AnyEmbeddingBackend, ...>` is one type whatever
/// engine it has. Everything that the backend and its models offer is passed on, the optional members included.
/// Movable; one that was moved from is empty, as one that was made without a backend is.
///
/// A manager over it is ended when the process exits, as one over an engine is: see `ClosesEngine`.
class AnyEmbeddingBackend : public detail::AnyBackend<AnyEmbeddingModel> {
public:
    /// Owns no backend: every load fails.
    AnyEmbeddingBackend() = default;
    /// Owns `backend`. Throws bad_alloc, or what moving the backend throws.
    template <class Backend>
    requires(!std::derived_from<Backend, detail::AnyBackend<AnyEmbeddingModel>> && EmbeddingBackend<Backend>)
        AnyEmbeddingBackend(Backend backend)  // NOLINT(google-explicit-constructor)
        : AnyBackend(std::type_identity<detail::HeldEmbeddingModel<typename Backend::model_type>>(),
                     std::move(backend)) {}
};

/// A reranker backend of whichever type, which it owns; otherwise as `AnyEmbeddingBackend`.
class AnyRerankerBackend : public detail::AnyBackend<AnyRerankerModel> {
public:
    /// Owns no backend: every load fails.
    AnyRerankerBackend() = default;
    /// Owns `backend`. Throws bad_alloc, or what moving the backend throws.
    template <class Backend>
    requires(!std::derived_from<Backend, detail::AnyBackend<AnyRerankerModel>> && RerankerBackend<Backend>)
        AnyRerankerBackend(Backend backend)  // NOLINT(google-explicit-constructor)
        : AnyBackend(std::type_identity<detail::HeldRerankerModel<typename Backend::model_type>>(),
                     std::move(backend)) {}
};

static_assert(EmbeddingBackend<AnyEmbeddingBackend> && RerankerBackend<AnyRerankerBackend>);

}  // namespace residency

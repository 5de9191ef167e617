#pragma once

#include "residency/detail/leased_model.hpp"
#include "residency/generation.hpp"
#include "residency/model_key.hpp"

#include <cassert>
#include <utility>

namespace residency {

// Here and not at its definition, which clang-format 14 would then not understand.
template <class Model>
class [[nodiscard("a lease that is not kept ends at once: auto lease = ...")]] Lease;

namespace detail {

/// Makes leases out of what a slot granted.
struct LeaseAccess {
    template <class Model>
    [[nodiscard]] static Lease<Model> make(LeasedModel& model) noexcept {
        return Lease<Model>(model);
    }
};

}  // namespace detail

/// Permission to use one resident model. While it lives, that very model stays, whatever else happens.
///
/// Holding a lease delays the unloading of its model and takes one of the slot's `max_leases`: hold it for as long as
/// it is used. One lease allows one model call at a time; for calls at once take a lease each. It may be moved to
/// another thread, and may outlive its slot: then the end of the last lease destroys the model there. An empty lease
/// holds nothing; one that was released or moved from is empty. Where asserts are on, using an empty one ends the
/// process and says why.
///
/// Threads: distinct leases may be used at once; one lease by one thread at a time.
template <class Model>
class Lease {
public:
    /// The type of the model.
    using model_type = Model;

    /// An empty lease.
    Lease() = default;
    /// Takes over what `other` holds.
    Lease(Lease&& other) noexcept : model_(std::exchange(other.model_, nullptr)) {}
    /// Ends what this holds, and takes over what `other` holds.
    Lease& operator=(Lease&& other) noexcept {
        if (this != &other) {
            release();
            model_ = std::exchange(other.model_, nullptr);
        }
        return *this;
    }
    // Compilers show these lines where a lease is copied.
    // clang-format off
    Lease(const Lease&) = delete;             // a lease counts once: hand it on with std::move(lease)
    Lease& operator=(const Lease&) = delete;  // a lease counts once: hand it on with std::move(lease)
    // clang-format on
    /// Ends the lease.
    ~Lease() { release(); }

    /// Ends the lease now; an empty one stays empty. From any thread, also within a completion handler.
    void release() noexcept {
        if (detail::LeasedModel* const model = std::exchange(model_, nullptr)) {
            model->owner->release(*model);
        }
    }

    /// Whether it holds a model.
    explicit operator bool() const noexcept { return model_ != nullptr; }
    /// The model; precondition: not empty.
    [[nodiscard]] Model& operator*() const& noexcept { return *static_cast<Model*>(held().model); }
    Model& operator*() const&& = delete;  // the lease would end before the reference: keep it first, auto lease = ...
    /// The model; precondition: not empty.
    [[nodiscard]] Model* operator->() const noexcept { return static_cast<Model*>(held().model); }
    /// The model's key; precondition: not empty.
    [[nodiscard]] const ModelKey& key() const noexcept { return *held().key; }
    /// The residency's generation; precondition: not empty.
    [[nodiscard]] Generation generation() const noexcept { return held().generation; }
    /// Whether the residency was revoked, by `UnloadMode::revoke` or at a shutdown's deadline: end the lease soon.
    /// Precondition: not empty.
    [[nodiscard]] bool revoked() const noexcept {
        const detail::LeasedModel& model = held();
        return model.owner->revoked(model);
    }

private:
    friend struct detail::LeaseAccess;
    explicit Lease(detail::LeasedModel& model) noexcept : model_(&model) {}

    [[nodiscard]] detail::LeasedModel& held() const noexcept {
        assert(model_ != nullptr &&
               "residency: the lease is empty: released, moved from, or none was given by try_acquire");
        return *model_;
    }

    detail::LeasedModel* model_ = nullptr;
};

}  // namespace residency

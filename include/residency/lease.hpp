#pragma once

#include "residency/generation.hpp"
#include "residency/model_key.hpp"
#include "residency/slot/slot_base.hpp"

#include <utility>

namespace residency {

template <class Model>
class Lease;

namespace detail {

/// Makes leases out of what a slot granted.
struct LeaseAccess {
    template <class Model>
    [[nodiscard]] static Lease<Model> make(SlotBase& slot, Record& record) noexcept {
        return Lease<Model>(slot, record);
    }
};

}  // namespace detail

/// Permission to use one resident model. While it lives, that very model stays, whatever else happens.
///
/// Holding a lease delays the unloading of its model and takes one of the slot's `max_leases`: hold it for as long as it is used.
/// One lease allows one model call at a time; for calls at once take a lease each. It may be moved to another thread, and may outlive
/// its slot: then whoever ends the last lease destroys the model there. An empty lease holds nothing; a moved-from lease is empty.
///
/// Threads: distinct leases may be used at once; one lease by one thread at a time.
template <class Model>
class [[nodiscard]] Lease {
public:
    /// The type of the model.
    using model_type = Model;

    /// An empty lease.
    Lease() = default;
    /// Takes over what `other` holds.
    Lease(Lease&& other) noexcept
        : slot_(std::exchange(other.slot_, nullptr)), record_(std::exchange(other.record_, nullptr)) {}
    /// Ends what this holds, and takes over what `other` holds.
    Lease& operator=(Lease&& other) noexcept {
        if (this != &other) {
            release();
            slot_ = std::exchange(other.slot_, nullptr);
            record_ = std::exchange(other.record_, nullptr);
        }
        return *this;
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    /// Ends the lease.
    ~Lease() { release(); }

    /// Ends the lease now; an empty one stays empty. From any thread, also within a completion handler.
    void release() noexcept {
        if (slot_ != nullptr) {
            std::exchange(slot_, nullptr)->release(*std::exchange(record_, nullptr));
        }
    }

    /// Whether it holds a model.
    explicit operator bool() const noexcept { return slot_ != nullptr; }
    /// The model; precondition: not empty.
    [[nodiscard]] Model& operator*() const noexcept { return *static_cast<Model*>(record_->model); }
    /// The model; precondition: not empty.
    [[nodiscard]] Model* operator->() const noexcept { return static_cast<Model*>(record_->model); }
    /// The model's key; precondition: not empty.
    [[nodiscard]] const ModelKey& key() const noexcept { return record_->key; }
    /// The residency's generation; precondition: not empty.
    [[nodiscard]] Generation generation() const noexcept { return record_->generation; }
    /// Whether `unload` was called with `UnloadMode::revoke`: whoever sees that should end the lease soon. Precondition: not empty.
    [[nodiscard]] bool revoked() const noexcept { return slot_->revoked(*record_); }

private:
    friend struct detail::LeaseAccess;
    Lease(detail::SlotBase& slot, detail::Record& record) noexcept : slot_(&slot), record_(&record) {}

    detail::SlotBase* slot_ = nullptr;
    detail::Record* record_ = nullptr;
};

}  // namespace residency

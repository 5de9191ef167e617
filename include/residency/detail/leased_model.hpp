#pragma once

#include "residency/core/shared_key.hpp"
#include "residency/generation.hpp"

namespace residency::detail {

struct LeasedModel;

/// What a lease needs of the slot that granted it.
class LeaseOwner {
public:
    /// Ends a lease on `model`.
    virtual void release(LeasedModel& model) noexcept = 0;
    /// Whether the residency of `model` was revoked.
    [[nodiscard]] virtual bool revoked(const LeasedModel& model) const noexcept = 0;

protected:
    ~LeaseOwner() = default;
};

/// A resident model as its leases see it. None of it changes while a lease exists.
struct LeasedModel {
    /// The slot that granted the leases.
    LeaseOwner* owner = nullptr;
    /// The model itself, whose type its lease knows.
    void* model = nullptr;
    /// The model's key.
    core::SharedKey key{};
    /// The residency's generation.
    Generation generation{};
};

}  // namespace residency::detail

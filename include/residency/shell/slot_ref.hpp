#pragma once

#include "residency/compiler.hpp"

#include <memory>

namespace residency::detail {

/// How an initiation knows its slot. It borrows the slot of the caller, which is enough for an operation that starts at
/// once, as most do: they are spared two atomic steps. A copy, which a deferred operation keeps, owns the slot.
template <class Slot>
class SlotRef {
public:
    SlotRef(const std::shared_ptr<Slot>& owner) noexcept : owner_(&owner) {}  // NOLINT(google-explicit-constructor)
    SlotRef(const SlotRef& other) noexcept : kept_(*other.owner_), owner_(&kept_) {}
    SlotRef& operator=(const SlotRef&) = delete;
    ~SlotRef() = default;

    /// For what outlives the initiation.
    [[nodiscard]] const std::shared_ptr<Slot>& owner() const noexcept { return *owner_; }
    [[nodiscard]] Slot& operator*() const noexcept { return **owner_; }
    [[nodiscard]] Slot* operator->() const noexcept { return owner_->get(); }

private:
    std::shared_ptr<Slot> kept_{};
    const std::shared_ptr<Slot>* owner_;
};

}  // namespace residency::detail

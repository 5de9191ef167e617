#pragma once

#include "residency/core/key_memory.hpp"
#include "residency/core/memory.hpp"
#include "residency/core/shared_key.hpp"
#include "residency/core/time.hpp"
#include "residency/status.hpp"

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace residency::detail {

/// One model that holds memory of a budget, or waits for it.
struct MemoryHolding {
    core::MemoryId id{};
    std::string slot{};
    core::SharedKey key{};
    /// None while it waits.
    std::optional<ResidentState> state{};
};

/// A slot, as its budget knows it. Its functions take the slot's mutex; they are called with no mutex held.
class MemoryUser {
public:
    MemoryUser() = default;
    MemoryUser(const MemoryUser&) = delete;
    MemoryUser& operator=(const MemoryUser&) = delete;
    virtual ~MemoryUser() = default;

    /// Adds what the residents do with their memory; from now on every change is a request `look`. Gives the time.
    /// Throws bad_alloc.
    virtual core::Time read(std::vector<core::MemoryUse>& uses) = 0;
    /// Changes are of no interest any more.
    virtual void stop_watching() noexcept = 0;
    /// The budget has decided.
    virtual void answer(const core::MemoryAnswer& answer) noexcept = 0;
    /// The budget wants a request `look` at that time.
    virtual void look_at(core::Time at) noexcept = 0;
    /// The answer to a request `available`: see `core::MemoryLedger::available`.
    virtual void available(std::size_t bytes) noexcept = 0;
    /// The budget's limit is another.
    virtual void limit_changed() noexcept = 0;
    /// Adds the models that hold memory, and those that wait for it.
    virtual void describe(std::vector<MemoryHolding>& all) const = 0;
};

}  // namespace residency::detail

#pragma once

#include "residency/model_key.hpp"
#include "residency/shell/memory_broker.hpp"
#include "residency/status.hpp"

#include <cstddef>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace residency {

/// A model that holds memory of a budget, or a key that waits for it, as `MemoryBudget::status()` saw it.
struct MemoryHolder {
    /// The name of its slot.
    std::string slot{};
    /// The key.
    ModelKey key{};
    /// How many bytes it holds, or waits for.
    std::size_t bytes = 0;
    /// What its resident is doing; none if its key waits for memory, or has it and waits for a place.
    std::optional<ResidentState> state{};
};

/// A memory budget, as `MemoryBudget::status()` saw it.
struct MemoryStatus {
    /// The limit in bytes.
    std::size_t limit = 0;
    /// How many bytes are reserved.
    std::size_t used = 0;
    /// What holds them.
    std::vector<MemoryHolder> holders{};
    /// What waits for memory.
    std::vector<MemoryHolder> waiting{};
};

/// Prints the budget, a line for each that holds memory or waits for it.
inline std::ostream& operator<<(std::ostream& out, const MemoryStatus& status) {
    out << "memory: " << status.used << " of " << status.limit << " bytes";
    const auto print = [&out](const std::vector<MemoryHolder>& all, const char* without_resident) {
        for (const MemoryHolder& each : all) {
            out << "\n  " << each.slot << ' ' << each.key << ": " << each.bytes << " bytes, ";
            if (each.state) {
                out << *each.state;
            } else {
                out << without_resident;
            }
        }
    };
    print(status.holders, "waits for a place");
    print(status.waiting, "waits for memory");
    return out;
}

namespace detail {
struct MemoryAccess;
}

/// How much memory the models of any number of slots may hold together, also those of several managers. A key is loaded
/// only once its bytes are reserved, so that the sum is never more than the limit, but for what a model turns out to
/// need beyond its estimate.
///
/// To make room for a key, idle models of all slots go, the one that was idle for the longest time first, as many as
/// suffice; models in use drain as for a switch of keys (`SlotOptions::min_stay`, priority). Pinned models
/// (`keep_alive_forever`) never go for memory, and a key that could only be loaded in their place, or that needs more
/// than the limit, is `insufficient_memory` at once. A request whose key waits for memory is in `Stage::memory`.
///
/// How much a key needs the backend says (`memory_needed`), or else `SlotOptions::model_memory`; or its last model did
/// (`memory_used`), if that is more and a request for the key was waiting when that model went.
///
/// Share it as `std::make_shared<MemoryBudget>(bytes)` through `SlotOptions::memory`. It may outlive its managers, and
/// a manager may end while others go on. All of its slots need the same Clock. A child made by fork() cannot use its
/// parent's.
///
/// Threads: all member functions may be called from any thread at once.
class MemoryBudget {
public:
    /// A budget of `limit` bytes. Throws bad_alloc.
    explicit MemoryBudget(std::size_t limit) : broker_(std::make_shared<detail::MemoryBroker>(limit)) {}
    MemoryBudget(const MemoryBudget&) = delete;
    MemoryBudget& operator=(const MemoryBudget&) = delete;
    ~MemoryBudget() = default;

    /// The limit in bytes.
    [[nodiscard]] std::size_t limit() const noexcept { return broker_->limit(); }
    /// Sets the limit. If more is used, idle models go at once, the others once they are idle, and until then nothing
    /// more is reserved; loads that have their memory go on. What models used before is forgotten: the next loads go by
    /// the backend's estimates.
    void set_limit(std::size_t bytes) noexcept { broker_->set_limit(bytes); }
    /// How many bytes are reserved: for models that load, are ready or are being unloaded.
    [[nodiscard]] std::size_t used() const noexcept { return broker_->used(); }
    /// Has idle models unloaded, the one that was idle for the longest time first, until `bytes` bytes have come back
    /// or no idle one is left; pinned ones stay. Returns before they are gone.
    void trim(std::size_t bytes) noexcept { broker_->trim(bytes); }
    /// What holds memory, and what waits for it. Each slot is looked at in an instant of its own. Throws bad_alloc.
    [[nodiscard]] MemoryStatus status() const {
        MemoryStatus status;
        status.limit = limit();
        status.used = used();
        broker_->describe([&](detail::MemoryHolding&& each, std::size_t bytes, bool is_reserved) {
            (is_reserved ? status.holders : status.waiting)
                .push_back({std::move(each.slot), *each.key, bytes, each.state});
        });
        return status;
    }

private:
    friend detail::MemoryAccess;

    const std::shared_ptr<detail::MemoryBroker> broker_;
};

namespace detail {

/// What slots need of a budget.
struct MemoryAccess {
    [[nodiscard]] static std::shared_ptr<MemoryBroker> broker(const std::shared_ptr<MemoryBudget>& budget) {
        return budget ? budget->broker_ : nullptr;
    }
};

}  // namespace detail
}  // namespace residency

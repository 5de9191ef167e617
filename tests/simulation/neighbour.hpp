#pragma once

// A second manager on the same memory budget, with models of its own. It does less than the first one: it takes leases,
// calls, unloads and goes; its models hold what was said of them, and none is pinned.

#include "residency/memory_budget.hpp"
#include "residency/model_manager.hpp"
#include "residency/testing/virtual_clock.hpp"
#include "simulation/choices.hpp"
#include "simulation/oracle.hpp"
#include "simulation/seeded_queue.hpp"
#include "simulation/settings.hpp"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace residency::simulation {

class Neighbour {
public:
    /// `between`: other threads may come. All of these outlive it.
    Neighbour(const Settings& settings, Oracle& oracle, std::shared_ptr<MemoryBudget> budget, SeededQueue& queue,
              std::function<void()> between)
        : settings_(settings), oracle_(oracle), between_(std::move(between)) {
        ManagerOptions options;
        options.embedding = options.reranker = settings.neighbour;
        options.memory = std::move(budget);
        manager_ = std::make_unique<Manager>(Backend<0>{*this}, Backend<1>{*this}, options,
                                             Executors::all(QueueExecutor(queue)));
    }
    Neighbour(const Neighbour&) = delete;
    Neighbour& operator=(const Neighbour&) = delete;
    ~Neighbour() = default;

    /// Its host does something. `may_end`: no thread is inside one of its functions. Gives what, for the trace.
    std::string act(Choices& choices, bool may_end) {
        const int slot = static_cast<int>(choices.below(2));
        const int key = static_cast<int>(choices.below(Settings::neighbour_keys));
        const std::string which = " slot " + std::to_string(slot) + " key " + std::to_string(key);
        switch (choices.weighted({6, 4, 6, 2, 1})) {
            case 0:
                start(slot, key, false, static_cast<Priority>(choices.below(3)));
                return "the neighbour calls," + which;
            case 1:
                start(slot, key, true, static_cast<Priority>(choices.below(3)));
                return "the neighbour acquires," + which;
            case 2: release(); return "the neighbour ends a lease";
            case 3: unload(slot, key); return "the neighbour unloads," + which;
            default:
                if (may_end && calls_ == 0 && choices.once_in(4)) {
                    end();
                    return "the neighbour is destroyed";
                }
                return "the neighbour does nothing";
        }
    }
    /// Its oldest lease ends, if there is one.
    void release() {
        if (!leases_.empty()) {
            note();
            --facts().leases;
            const std::shared_ptr<void> last = std::move(leases_.front());
            leases_.erase(leases_.begin());
        }
    }
    /// The manager is destroyed, if it is there.
    void end() {
        note();
        const std::unique_ptr<Manager> last = std::move(manager_);
    }
    /// Nothing is left to run now.
    void check_quiet(std::size_t used) const {
        oracle_.memory.neighbour.drains = false;
        if (!manager_) {
            return;
        }
        check_quiet(manager_->embedding().status(), used);
        check_quiet(manager_->reranker().status(), used);
    }

private:
    // The models of both slots differ in nothing but their type.
    template <int Slot>
    class Model {
    public:
        Model(Neighbour& owner, std::size_t bytes) : owner_(owner), bytes_(bytes) {}
        Model(const Model&) = delete;
        Model& operator=(const Model&) = delete;
        ~Model() {
            owner_.between_();
            owner_.facts().holds -= bytes_;
        }
        Embeddings embed(std::span<const std::string> texts) {
            owner_.between_();
            return Embeddings(texts.size(), 1);
        }
        std::vector<float> rerank(std::string_view /*query*/, std::span<const std::string> documents) {
            owner_.between_();
            return std::vector<float>(documents.size());
        }

    private:
        Neighbour& owner_;
        std::size_t bytes_;
    };
    template <int Slot>
    struct Backend {
        using model_type = Model<Slot>;

        std::unique_ptr<model_type> load(const ModelKey& key) { return owner.template load<Slot>(key); }
        [[nodiscard]] std::size_t memory_needed(const ModelKey& key) const { return owner.size_of(Slot, key); }

        Neighbour& owner;
    };
    using Manager = ModelManager<Backend<0>, Backend<1>, testing::VirtualClock>;

    [[nodiscard]] NeighbourFacts& facts() noexcept { return oracle_.memory.neighbour; }
    // What the first manager has that is idle may go, or might have to have gone, from now on.
    void note() noexcept { oracle_.memory.pressed = ++oracle_.sequence; }
    [[nodiscard]] std::size_t size_of(int slot, const ModelKey& key) const {
        return settings_.neighbour_sizes[static_cast<std::size_t>(slot)][static_cast<std::size_t>(key.name[0] - 'a')];
    }
    static ModelKey key_of(int key) { return ModelKey(std::string(1, static_cast<char>('a' + key)), "f16"); }

    template <int Slot>
    std::unique_ptr<Model<Slot>> load(const ModelKey& key) {
        const std::size_t bytes = size_of(Slot, key);
        facts().holds += bytes;
        oracle_.check_held();
        oracle_.see(Sight::loaded_by_neighbour);
        auto model = std::make_unique<Model<Slot>>(*this, bytes);
        between_();
        return model;
    }

    void start(int slot, int key, bool bare, Priority priority) {
        if (!manager_) {
            return;
        }
        note();
        const std::size_t need = size_of(slot, key_of(key));
        const std::uint64_t since = oracle_.carried_out;
        ++facts().waiting;
        facts().wanted += need;
        ++calls_;
        RequestOptions options;
        options.priority = priority;
        const auto answered = [this, need, since](const std::exception_ptr& error) {
            note();
            --facts().waiting;
            facts().wanted -= need;
            try {
                if (error) {
                    std::rethrow_exception(error);
                }
            } catch (const Error& failure) {
                oracle_.require(
                    failure.code() == errc::shutting_down || failure.code() == errc::overloaded ||
                        (failure.code() == errc::insufficient_memory && oracle_.memory.impossible[need] >= since),
                    std::string("the neighbour's request failed: ") + failure.what());
            }
        };
        const auto start_in = [&](auto& of) {
            using LeaseType = typename std::decay_t<decltype(of)>::lease_type;
            of.async_acquire(key_of(key), options, [this, answered](std::exception_ptr error, LeaseType lease) {
                answered(error);
                if (lease) {
                    ++facts().leases;
                    leases_.push_back(std::make_shared<LeaseType>(std::move(lease)));
                }
            });
        };
        if (bare && slot == 0) {
            start_in(manager_->embedding());
        } else if (bare) {
            start_in(manager_->reranker());
        } else if (slot == 0) {
            manager_->async_embed(
                key_of(key), {"text"}, options,
                [answered](std::exception_ptr error, const Embeddings& /*rows*/) { answered(error); });
        } else {
            manager_->async_rerank(
                key_of(key), "query", {"document"}, options,
                [answered](std::exception_ptr error, const Ranking& /*ranking*/) { answered(error); });
        }
        --calls_;
    }
    void unload(int slot, int key) {
        if (!manager_) {
            return;
        }
        note();
        ++calls_;
        const auto ignore = [](std::exception_ptr /*error*/) {};
        if (slot == 0) {
            manager_->embedding().async_unload(key_of(key), UnloadMode::drain, ignore);
        } else {
            manager_->reranker().async_unload(key_of(key), UnloadMode::drain, ignore);
        }
        --calls_;
    }

    // What drains for good counts as memory that comes back.
    void check_quiet(const SlotStatus& status, std::size_t used) const {
        bool drains = oracle_.destroyed;
        for (const SlotFacts& slot : oracle_.slots) {
            for (const ResidencyFacts& residency : slot.residencies) {
                drains = drains || residency.state == ResidentState::draining;
            }
        }
        for (const ResidentStatus& resident : status.residents) {
            oracle_.memory.neighbour.drains |= resident.state == ResidentState::draining;
            oracle_.require(resident.state == ResidentState::ready || resident.leases != 0,
                            "R9: the neighbour's model is neither ready nor in use");
            oracle_.require(used <= oracle_.memory.limit || drains || oracle_.memory.neighbour.leases != 0 ||
                                oracle_.memory.neighbour.waiting != 0,
                            "H38: more is used than the limit, and the neighbour's idle model stays");
        }
    }

    const Settings& settings_;
    Oracle& oracle_;
    const std::function<void()> between_;
    // Of both kinds: all that happens to them is that they end.
    std::vector<std::shared_ptr<void>> leases_{};
    int calls_ = 0;
    std::unique_ptr<Manager> manager_{};
};

}  // namespace residency::simulation

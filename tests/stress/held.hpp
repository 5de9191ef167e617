#pragma once

#include "residency/lease.hpp"
#include "residency/runtime/mutex.hpp"
#include "stress/fakes.hpp"
#include "stress/random.hpp"
#include "stress/tally.hpp"
#include "stress/witness.hpp"

#include <cstddef>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

namespace residency::stress {

/// A lease that is accounted for until just before it ends.
template <std::uint32_t Slot>
class Held {
public:
    Held() = default;
    /// Precondition: `lease` is not empty.
    Held(Witness& witness, Lease<StressedModel<Slot>> lease)
        : witness_(&witness), facts_(&lease->facts()), lease_(std::move(lease)) {
        witness.take(*facts_);
        witness.know(*facts_, lease_.generation());
    }
    Held(Held&& other) noexcept
        : witness_(other.witness_),
          facts_(std::exchange(other.facts_, nullptr)),
          lease_(std::move(other.lease_)),
          home_(other.home_) {}
    Held& operator=(Held&& other) noexcept {
        end();
        witness_ = other.witness_;
        facts_ = std::exchange(other.facts_, nullptr);
        lease_ = std::move(other.lease_);
        home_ = other.home_;
        return *this;
    }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    ~Held() { end(); }

    [[nodiscard]] ModelFacts& facts() const noexcept { return *facts_; }
    [[nodiscard]] std::thread::id home() const noexcept { return home_; }

    /// Looks at the model, which is still that model.
    void look() const {
        witness_->require(&lease_->facts() == facts_ && facts_->alive.get() && lease_.key() == key_of(facts_->key),
                          "R1: the model under a lease is another");
        (void)lease_.revoked();
    }

private:
    void end() noexcept {
        if (facts_ != nullptr) {
            look();
            witness_->give_back(*std::exchange(facts_, nullptr));
            lease_.release();
        }
    }

    Witness* witness_ = nullptr;
    ModelFacts* facts_ = nullptr;
    Lease<StressedModel<Slot>> lease_{};
    std::thread::id home_ = std::this_thread::get_id();
};

/// Leases that any thread may end.
class Parked {
public:
    explicit Parked(Tally& tally) : tally_(tally) {}

    template <std::uint32_t Slot>
    void put(Held<Slot> held) {
        tally_.did(Deed::lease_parked);
        const runtime::MutexLock lock(mutex_);
        std::get<Slot>(leases_).push_back(std::move(held));
    }
    /// Ends one of each slot, if there is one; whether there was.
    bool drop() {
        const bool embedding = drop_of<0>();
        return drop_of<1>() || embedding;
    }
    void clear() {
        while (drop()) {}
    }
    [[nodiscard]] bool empty() const {
        const runtime::MutexLock lock(mutex_);
        return std::get<0>(leases_).empty() && std::get<1>(leases_).empty();
    }

private:
    template <std::uint32_t Slot>
    bool drop_of() {
        Held<Slot> held;
        {
            const runtime::MutexLock lock(mutex_);
            auto& leases = std::get<Slot>(leases_);
            if (leases.empty()) {
                return false;
            }
            const std::size_t index = dice().below(static_cast<std::uint32_t>(leases.size()));
            held = std::move(leases[index]);
            leases[index] = std::move(leases.back());
            leases.pop_back();
        }
        if (held.home() != std::this_thread::get_id()) {
            tally_.did(Deed::lease_ended_elsewhere);
        }
        return true;
    }

    Tally& tally_;
    mutable runtime::Mutex mutex_;
    std::tuple<std::vector<Held<0>>, std::vector<Held<1>>> leases_ RESIDENCY_GUARDED_BY(mutex_);
};

}  // namespace residency::stress

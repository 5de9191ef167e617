#pragma once

#include "stress/caller.hpp"
#include "stress/host.hpp"
#include "stress/settings.hpp"
#include "stress/shared_memory.hpp"
#include "stress/tally.hpp"
#include "stress/watcher.hpp"
#include "stress/world.hpp"

#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace residency::stress {

/// One manager from its making to its end, and the threads that use it all the time.
class Round {
public:
    Round(BlackBox& box, Tally& tally, const Settings& settings, std::size_t threads)
        : world_(box, tally, settings, settings.observed ? 700 : threads * settings.steps + 200),
          watcher_(world_.witness, settings.slow_observer),
          host_(settings, tally),
          own_(world_, false) {
        box.begin(settings.describe());
        seed_new_threads(settings.seed ^ settings.number << 32U);
        for (std::size_t index = 0; index < threads; ++index) {
            callers_.push_back(std::make_unique<Caller>(world_, index == 0));
        }
        ManagerOptions options;
        options.embedding = settings.slots[0];
        options.reranker = settings.slots[1];
        if (settings.observed) {
            tally.did(settings.slow_observer ? Deed::observed_slowly : Deed::observed);
            options.observer = [this](const Event& event) { watcher_(event); };
        }
        if (settings.memory_limit != 0) {
            tally.did(Deed::budget);
            memory_.emplace(box, tally, world_.witness.held, settings.memory_limit);
            options.memory = memory_->budget();
        }
        world_.manager = std::make_unique<Manager>(
            StressedBackend<0>(world_.witness, world_.requests, settings.batches[0]),
            StressedBackend<1>(world_.witness, world_.requests, settings.batches[1]), options, host_.executors());
        world_.access.open(*world_.manager);
    }

    void run() {
        std::vector<std::thread> threads;
        for (const auto& caller : callers_) {
            threads.emplace_back([this, &caller, seed = dice().next()] { use(*caller, seed); });
        }
        std::thread janitor([this] {
            on_host_thread() = true;
            tidy();
        });
        std::thread keeper([this, seed = dice().next()] {
            seed_thread(seed);
            on_host_thread() = true;
            while (memory_ && phase_ != Phase::over) {
                memory_->act();
            }
        });
        until([this] { return arrived_ == callers_.size(); });
        janitor.join();
        end();
        phase_ = Phase::over;
        keeper.join();
        for (std::thread& thread : threads) {
            thread.join();
        }
        for (const auto& caller : callers_) {
            caller->run();
        }
        own_.run();
        if (kept_embedding_ || kept_reranker_ || !world_.parked.empty()) {
            world_.tally.did(Deed::lease_outlived_manager);
        }
        kept_embedding_.reset();
        kept_reranker_.reset();
        // A handler that still runs on a context of the host's may park one more.
        until([this] {
            world_.parked.clear();
            return world_.all_ended() && residents() == 0;
        });
        host_.finish();
        // All threads of the library's have ended: those that it detached, soon; all others, by now.
        if (world_.settings.end == End::on_own_thread || world_.settings.end == End::as_shut_down) {
            until([] { return threads_alive == 1; });
        }
        if (memory_) {
            until([this] { return memory_->is_empty(); });
        }
        Witness& witness = world_.witness;
        witness.require(threads_alive == 1, "R12: a thread of the library's is left");
        witness.check_nothing_left();
        witness.require(watcher_.events() < 3000, "the stress is to stay well below what the queue of events holds");
    }

private:
    enum class Phase : std::uint8_t {
        /// The callers use the manager; who is done runs what is left of its own.
        acting,
        /// They also cancel and end leases, while the manager goes.
        bustling,
        /// They go.
        over,
    };

    // A wait here for ever is seen by the watchdog.
    template <class Condition>
    static void until(const Condition& condition) {
        while (!condition()) {
            std::this_thread::sleep_for(std::chrono::microseconds(50));
        }
    }
    [[nodiscard]] int residents() const noexcept {
        return world_.witness.slots[0].residents.get() + world_.witness.slots[1].residents.get();
    }

    // A caller's thread.
    void use(Caller& caller, std::uint64_t seed) {
        seed_thread(seed);
        on_host_thread() = true;
        for (std::uint32_t count = 0; count < world_.settings.steps && !world_.witness.box.broken(); ++count) {
            caller.step(count);
        }
        caller.leave_manager();
        ++arrived_;
        for (Phase phase = phase_; phase != Phase::over; phase = phase_) {
            if (phase == Phase::bustling) {
                caller.bustle();
            } else {
                caller.poll();
            }
            std::this_thread::yield();
        }
    }
    // Ends leases while the callers act, so that no request waits for one for ever.
    void tidy() {
        while (arrived_ != callers_.size()) {
            world_.parked.drop();
            std::this_thread::sleep_for(std::chrono::microseconds(300));
        }
    }

    void end() {
        Manager& manager = *world_.manager;
        const End how = world_.settings.end;
        if (world_.settings.comes_to_rest()) {
            world_.access.close();
            until([this] {
                world_.parked.drop();
                return world_.all_ended();
            });
            settle(manager, how == End::idle);
        } else if (how != End::after_shutdown) {
            keep<0>(manager, kept_embedding_);
            keep<1>(manager, kept_reranker_);
        }
        const ManagerStatus status = manager.status();
        world_.tally.add(status.embedding);
        world_.tally.add(status.reranker);
        switch (how) {
            case End::quiet:
                world_.tally.did(Deed::ended_quiet);
                world_.destroy_manager();
                break;
            case End::idle:
                world_.tally.did(Deed::ended_idle);
                world_.destroy_manager();
                break;
            case End::busy:
                world_.tally.did(Deed::ended_busy);
                phase_ = Phase::bustling;
                start_chains(manager);
                world_.destroy_manager();
                break;
            case End::on_own_thread:
                world_.tally.did(Deed::ended_on_own_thread);
                phase_ = Phase::bustling;
                start_chains(manager);
                destroy_within(manager);
                break;
            case End::as_shut_down:
                world_.tally.did(Deed::ended_as_shut_down);
                phase_ = Phase::bustling;
                start_chains(manager);
                destroy_as_shut_down(manager);
                break;
            case End::after_shutdown:
                world_.tally.did(Deed::ended_after_shutdown);
                phase_ = Phase::bustling;
                start_chains(manager);
                shut_down(manager);
                world_.destroy_manager();
                break;
        }
    }
    // Requests whose handlers make the next while the manager ends.
    void start_chains(Manager& manager) {
        for (std::uint32_t count = 0; count < 3; ++count) {
            world_.chain<Embed>(manager, dice().below(20));
            world_.chain<EnsureLoaded<1>>(manager, dice().below(20));
        }
    }
    void shut_down(Manager& manager) {
        own_.start_calls(manager);
        RequestFacts* const request = world_.begin(Kind::shutdown, Way::blocking, 0, true);
        if (request != nullptr) {
            const ShutdownReport report = Shutdown::block(manager, *request);
            world_.has_begun(*request);
            world_.conclude(*request, nullptr, report);
        } else {
            world_.witness.closing.set(true);
            manager.shutdown();
        }
    }
    // No thread uses the manager: then no lease and no waiter is left, and what is idle goes by itself.
    void settle(const Manager& manager, bool until_idle) {
        until([&] {
            const ManagerStatus status = manager.status();
            return !world_.parked.drop() && status.embedding.leases == 0 && status.reranker.leases == 0;
        });
        const auto nothing_resident = [&] {
            const ManagerStatus status = manager.status();
            return status.embedding.residents.empty() && status.reranker.residents.empty();
        };
        if (until_idle) {
            until(nothing_resident);
        }
        Witness& witness = world_.witness;
        const bool is_empty = nothing_resident();
        const ManagerStatus status = manager.status();
        witness.require(status.embedding.waiting == 0 && status.reranker.waiting == 0,
                        "R9: a waiter without a request");
        check_batches(0, status.embedding.counters);
        check_batches(1, status.reranker.counters);
        if (is_empty) {
            witness.require(residents() == 0, "R1: a place was given away while its model lives");
            witness.require(status.embedding.counters.loaded == witness.slots[0].models.get() &&
                                status.reranker.counters.loaded == witness.slots[1].models.get(),
                            "S34: other loads than the library knows of");
        }
    }
    // Nothing is in flight: what the slot counted is what the models saw, and what was complete before they did.
    void check_batches(std::uint32_t number, const SlotCounters& counters) {
        const Witness::Slot& slot = world_.witness.slots.at(number);
        std::uint64_t unseen = 0;
        std::uint64_t texts = 0;
        // Of texts of requests that had several and failed: whether they were given a part is not known.
        std::uint64_t doubtful = 0;
        for (const RequestFacts& request : world_.requests) {
            // A model may have begun with it just after it was complete.
            const bool is_unseen = request.was_unseen.get() && request.calls.get() == 0;
            if (!request.is_call() || request.slot != number || (!is_unseen && !request.is_cut.get())) {
                continue;
            }
            if (request.rows > 1) {
                doubtful += request.rows - static_cast<std::uint32_t>(std::popcount(request.begun_texts.get()));
            } else {
                ++unseen;
                texts += request.rows;
            }
        }
        world_.witness.require(
            counters.batches >= slot.batches.get() && counters.batches <= slot.batches.get() + unseen + doubtful,
            "batches are not counted as the models saw them");
        const std::uint64_t seen = slot.texts.get() + texts;
        world_.witness.require(counters.texts >= seen && counters.texts <= seen + doubtful,
                               "texts are not counted as the models saw them");
        world_.tally.did(Deed::batches_counted);
    }
    // Holds a lease until the manager is gone, if there is one to be had.
    template <std::uint32_t Slot>
    void keep(Manager& manager, std::optional<Held<Slot>>& kept) {
        for (std::uint32_t key = 0; key < most_keys && !kept; ++key) {
            if (auto lease = slot_of<Slot>(manager).try_acquire(key_of(key))) {
                kept.emplace(world_.witness, std::move(lease));
            }
        }
    }
    void destroy_within(Manager& manager) {
        std::atomic<bool> gone{false};
        // In time, because a lease that is kept may stand in its way.
        RequestOptions options;
        options.timeout = std::chrono::milliseconds(dice().below(4));
        manager.embedding().async_ensure_loaded(key_of(0), options,
                                                [this, &gone](const std::exception_ptr&, Generation) {
                                                    world_.destroy_manager();
                                                    gone = true;
                                                });
        until([&gone] { return gone.load(); });
    }
    void destroy_as_shut_down(Manager& manager) {
        std::atomic<bool> gone{false};
        world_.witness.closing.set(true);
        // In time, as above.
        own_.start_calls(manager);
        manager.async_shutdown(std::chrono::milliseconds(dice().below(4)),
                               [this, &gone](const std::exception_ptr&, const ShutdownReport&) {
                                   world_.destroy_manager();
                                   gone = true;
                               });
        until([&gone] { return gone.load(); });
    }

    World world_;
    std::optional<SharedMemory> memory_;
    Watcher watcher_;
    Host host_;
    std::vector<std::unique_ptr<Caller>> callers_;
    // Of the thread that runs the round.
    Caller own_;
    std::optional<Held<0>> kept_embedding_;
    std::optional<Held<1>> kept_reranker_;
    std::atomic<Phase> phase_{Phase::acting};
    std::atomic<std::size_t> arrived_{0};
};

}  // namespace residency::stress

#pragma once

#include "residency/error.hpp"
#include "stress/calls.hpp"
#include "stress/facts.hpp"
#include "stress/handler_requests.hpp"
#include "stress/random.hpp"
#include "stress/status_check.hpp"
#include "stress/world.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <tuple>
#include <type_traits>
#include <utility>

namespace residency::stress {

/// A thread that makes requests in every way: with handlers, with coroutines on its own context, and blocking.
class Caller : public HandlerRequests {
public:
    /// `blocks`: it only makes calls that block, as long as they take. No other thread waits for a handler of its own.
    Caller(World& world, bool blocks) : HandlerRequests(world), blocks_(blocks) {
        const std::uint32_t half = world.settings.steps / 2;
        // The one that blocks always does, because no other waits for the future of a shutdown.
        const bool shuts_down = world.settings.shuts_down && (blocks || dice().coin());
        shutdown_at_ = shuts_down ? half + dice().below(half) : world.settings.steps;
    }

    /// Does something with the manager, and runs what is ready.
    void step(std::uint32_t number) {
        Manager& manager = *world_.manager;
        if (number == shutdown_at_ || (number < shutdown_at_ && will_shut_down() && world_.witness.closing.get())) {
            shutdown_at_ = number;
            shut_down(manager);
        } else if (blocks_) {
            block_on_any(manager);
        } else {
            act(manager);
        }
        poll();
    }
    /// The manager is not to be called any more.
    void leave_manager() noexcept { may_call_ = false; }
    /// Cancels what waits, ends leases, runs what is ready.
    void bustle() {
        if (dice().once_in(4)) {
            cancel();
        }
        if (dice().once_in(40)) {
            world_.parked.drop();
        }
        poll();
    }

private:
    // If another shutdown begins before its own, then its own begins, too: they meet.
    [[nodiscard]] bool will_shut_down() const noexcept { return shutdown_at_ < world_.settings.steps; }
    void act(Manager& manager) {
        switch (dice().below(17)) {
            case 15: start_crowd<Embed>(manager); break;
            case 16: start_crowd<Rerank>(manager); break;
            case 0:
            case 1: start<Embed>(manager); break;
            case 2: start<Rerank>(manager); break;
            case 3: dice().coin() ? start<Acquire<0>>(manager) : start<Acquire<1>>(manager); break;
            case 4: dice().coin() ? start<EnsureLoaded<0>>(manager) : start<EnsureLoaded<1>>(manager); break;
            case 5:
                if (dice().coin()) {
                    dice().coin() ? start<Unload<0>>(manager) : start<Unload<1>>(manager);
                }
                break;
            case 6: dice().coin() ? block<Embed>(manager, false) : block<Rerank>(manager, false); break;
            case 7: dice().coin() ? block<Acquire<0>>(manager, false) : block<Acquire<1>>(manager, false); break;
            case 8: try_acquire<0>(manager); break;
            case 9: try_acquire<1>(manager); break;
            case 10:
            case 11: cancel(); break;
            case 12: world_.parked.drop(); break;
            case 13: look(manager); break;
            case 14: spawn(manager); break;
        }
    }
    void shut_down(Manager& manager) {
        start_calls(manager);
        if (blocks_) {
            // One that blocks is also an end of its own (`End::after_shutdown`).
            switch (dice().below(4)) {
                case 0: start_alone<Shutdown>(manager, true); break;
                case 1: block<Shutdown>(manager, true, Way::blocking); break;
                default: block<Shutdown>(manager, true, Way::future); break;
            }
        } else if (dice().coin()) {
            start<Shutdown>(manager);
        } else {
            spawn(pending_.emplace_back(), [&](Pending& pending) { return visit<1, Shutdown>(manager, pending); });
        }
    }

    // -- Blocking -----------------------------------------------------------------------------------------------------

    void block_on_any(Manager& manager) {
        switch (dice().below(18)) {
            case 12: start_alone<Embed>(manager, false); break;
            case 13: start_alone<Rerank>(manager, false); break;
            case 14: start_alone<Acquire<0>>(manager, false); break;
            case 15: start_alone<EnsureLoaded<1>>(manager, false); break;
            case 16: start_alone<Unload<0>>(manager, true); break;
            case 0:
            case 1: block<Embed>(manager, false); break;
            case 2: block<Rerank>(manager, false); break;
            case 3: block<Acquire<0>>(manager, false); break;
            case 4: block<Acquire<1>>(manager, false); break;
            case 5: block<EnsureLoaded<0>>(manager, false); break;
            case 6: block<EnsureLoaded<1>>(manager, false); break;
            case 7: block<Unload<0>>(manager, true); break;
            case 8: block<Unload<1>>(manager, true); break;
            default: look(manager); break;
        }
    }
    template <class Call>
    void block(Manager& manager, bool patient) {
        block<Call>(manager, patient, dice().coin() ? Way::future : Way::blocking);
    }
    // With a future, or in one call.
    template <class Call>
    void block(Manager& manager, bool patient, Way way) {
        RequestFacts* const request = world_.begin(Call::kind, way, Call::slot, patient);
        if (request == nullptr) {
            return;
        }
        if (way == Way::future) {
            // As a value: an exception of a future is also its promise's, which may free it last, on another thread
            // and where ThreadSanitizer does not see libstdc++ count its owners.
            auto future = Call::start(manager, *request, asio::use_future(AsTuple()));
            world_.has_begun(*request);
            conclude(*request, future.get());
            return;
        }
        typename Call::Results results;
        try {
            if constexpr (std::tuple_size_v<typename Call::Results> == 1) {
                Call::block(manager, *request);
            } else {
                std::get<1>(results) = Call::block(manager, *request);
            }
        } catch (...) {
            std::get<0>(results) = std::current_exception();
        }
        conclude(*request, std::move(results));
        world_.has_begun(*request);
    }
    // What a future has.
    struct AsTuple {
        template <class... Results>
        std::tuple<std::exception_ptr, Results...> operator()(std::exception_ptr error, Results... results) const {
            return {std::move(error), std::move(results)...};
        }
    };
    // A lease is held for a moment.
    template <class... Results>
    void conclude(RequestFacts& request, std::tuple<std::exception_ptr, Results...> results) {
        std::apply(
            [&](const std::exception_ptr& error, Results&... given) {
                if constexpr (std::is_void_v<decltype(world_.conclude(request, error, std::move(given)...))>) {
                    world_.conclude(request, error, std::move(given)...);
                } else {
                    const auto held = world_.conclude(request, error, std::move(given)...);
                    dawdle(3);
                }
            },
            results);
    }

    // -- With coroutines ----------------------------------------------------------------------------------------------

    void spawn(Manager& manager) {
        spawn(pending_.emplace_back(), [&](Pending& pending) {
            switch (dice().below(4)) {
                case 0: return visit<0, Embed>(manager, pending);
                case 1: return visit<1, Rerank>(manager, pending);
                case 2: return visit<0, EnsureLoaded<1>>(manager, pending);
                default: return visit<1, Unload<0>>(manager, pending);
            }
        });
    }
    template <class Errand>
    void spawn(Pending& pending, const Errand& errand) {
        const auto done = [this](const std::exception_ptr& error) {
            require(!error, "a coroutine of the stress threw");
        };
        asio::co_spawn(loop_, errand(pending), asio::bind_cancellation_slot(pending.signal.slot(), done));
    }
    // Leases a model and makes another request meanwhile.
    template <std::uint32_t Slot, class Call>
    asio::awaitable<void> visit(Manager& manager, Pending& pending) {
        co_await asio::this_coro::throw_if_cancelled(false);
        co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
        Held<Slot> held;
        if (RequestFacts* const request = may_call_ ? begin<Acquire<Slot>>(pending) : nullptr) {
            Ticket ticket(world_, *request);
            auto [error, lease] = co_await Acquire<Slot>::start(manager, *request, asio::as_tuple(asio::use_awaitable));
            (void)ticket.complete();
            held = world_.conclude(*request, error, std::move(lease));
        }
        if constexpr (Call::kind == Kind::shutdown) {
            // It would wait for this very lease.
            held = Held<Slot>();
        }
        if (RequestFacts* const request = may_call_ ? begin<Call>(pending) : nullptr) {
            Ticket ticket(world_, *request);
            auto results = co_await Call::start(manager, *request, asio::as_tuple(asio::use_awaitable));
            (void)ticket.complete();
            std::apply([&](auto&... given) { world_.conclude(*request, std::move(given)...); }, results);
        }
    }
    // Never patient: a coroutine may hold what it waits for.
    template <class Call>
    RequestFacts* begin(Pending& pending) {
        RequestFacts* const request = world_.begin(Call::kind, Way::coroutine, Call::slot, false);
        if (request != nullptr) {
            pending.request = request;
            request->cancelled.set(pending.cancelled);
        }
        return request;
    }

    // -- What is no request -------------------------------------------------------------------------------------------

    template <std::uint32_t Slot>
    void try_acquire(Manager& manager) {
        const std::uint32_t key = dice().below(most_keys);
        const bool after_shutdown = world_.witness.shut_down.get();
        auto lease = slot_of<Slot>(manager).try_acquire(key_of(key));
        world_.tally.did(lease ? Deed::try_acquire_served : Deed::try_acquire_refused);
        if (lease) {
            world_.witness.require(!after_shutdown, "R12: try_acquire gave a lease after a shutdown");
            Held<Slot> held(world_.witness, std::move(lease));
            world_.witness.require(held.facts().key == key && held.facts().slot == Slot,
                                   "R11: a lease on another model");
            world_.spend(std::move(held));
        }
    }

    void look(Manager& manager) {
        world_.tally.did(Deed::looked);
        const std::array before{manager.embedding().generation(), manager.reranker().generation()};
        const ManagerStatus status = manager.status();
        check_status(world_, 0, status.embedding);
        check_status(world_, 1, status.reranker);
        const std::array after{manager.embedding().generation(), manager.reranker().generation()};
        require(before[0] <= status.embedding.generation && status.embedding.generation <= after[0] &&
                    before[1] <= status.reranker.generation && status.reranker.generation <= after[1],
                "R6: the counter fell");
        world_.witness.check_counter(0, [&] { return manager.embedding().status().generation; });
        world_.witness.check_counter(1, [&] { return manager.reranker().status().generation; });
    }
    bool blocks_;
    bool may_call_ = true;
    std::uint32_t shutdown_at_ = 0;
};

}  // namespace residency::stress

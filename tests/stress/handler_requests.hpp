#pragma once

#include "stress/calls.hpp"
#include "stress/facts.hpp"
#include "stress/handler.hpp"
#include "stress/noting_executor.hpp"
#include "stress/random.hpp"
#include "stress/short_lived.hpp"
#include "stress/world.hpp"

#include <boost/asio/any_completion_executor.hpp>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

namespace residency::stress {

/// Whether handlers of this call are bound to executors of this type; if not, to an any_io_executor with one of them in
/// it. For each call and type the compiler makes hundreds of functions, so each kind of operation has one context's.
template <class Call, class Executor>
inline constexpr bool binds = false;
template <class Call>
inline constexpr bool binds<Call, asio::any_io_executor> = true;
template <class Call>
inline constexpr bool binds<Call, asio::any_completion_executor> = true;
template <class Inner>
inline constexpr bool binds<Embed, NotingExecutor<Inner>> = true;
template <class Inner>
inline constexpr bool binds<Rerank, NotingExecutor<Inner>> = true;
template <>
inline constexpr bool binds<Embed, asio::io_context::executor_type> = true;
template <>
inline constexpr bool binds<Rerank, asio::thread_pool::executor_type> = true;
template <>
inline constexpr bool binds<Acquire<0>, asio::io_context::executor_type> = true;
template <std::uint32_t Slot>
inline constexpr bool binds<EnsureLoaded<Slot>, asio::io_context::executor_type> = true;
template <std::uint32_t Slot>
inline constexpr bool binds<Unload<Slot>, asio::io_context::executor_type> = true;

/// The requests of one thread whose completion is a handler: without an executor, on the thread's own context, or on a
/// context that ends with that handler.
class HandlerRequests {
public:
    explicit HandlerRequests(World& world) : world_(world) {}

    /// Makes a few calls of models, whose handlers note that they are posted and run in `poll` or `run`.
    void start_calls(Manager& manager) {
        for (std::uint32_t count = 1 + dice().below(8); count != 0; --count) {
            dice().coin() ? start_noted<Embed>(manager) : start_noted<Rerank>(manager);
        }
    }
    /// Runs what is ready.
    void poll() {
        loop_.restart();
        catch_thrown([this] { loop_.poll(); });
        std::erase_if(short_lived_, [](const auto& context) { return context->poll(); });
    }
    /// Waits for what is left.
    void run() {
        loop_.restart();
        catch_thrown([this] { loop_.run(); });
        for (const auto& context : short_lived_) {
            require_tracked(context->run());
        }
        short_lived_.clear();
    }

protected:
    // What can be cancelled: a request, or the one that a coroutine is at.
    struct Pending {
        asio::cancellation_signal signal{};
        RequestFacts* request = nullptr;
        // Asio passes a cancellation on to a coroutine by way of its executor: it may reach a later request than the
        // one it was meant for.
        bool cancelled = false;
    };

    // A request, like another one if there is one; null if there were enough.
    template <class Call>
    RequestFacts* start(Manager& manager, const RequestFacts* like = nullptr) {
        RequestFacts* const request = world_.begin(Call::kind, Way::handler, Call::slot, true, like);
        if (request == nullptr) {
            return nullptr;
        }
        starting() = true;
        switch (dice().below(7)) {
            case 0:
            case 1: Call::start(manager, *request, handler_of(*request, false)); break;
            case 2:
                world_.tally.did(Deed::erased_executor);
                start<Call>(manager, *request, asio::any_completion_executor(loop_.get_executor()));
                break;
            case 3:
                request->is_noted.set(true);
                request->loop.set(&loop_);
                start<Call>(manager, *request, asio::any_io_executor(NotingExecutor(loop_.get_executor(), *request)));
                break;
            case 4:
                request->is_noted.set(true);
                request->loop.set(&loop_);
                start<Call>(manager, *request, NotingExecutor(loop_.get_executor(), *request));
                break;
            case 5:
                request->loop.set(&loop_);
                start<Call>(manager, *request, loop_.get_executor());
                break;
            case 6: {
                world_.tally.did(Deed::context_ended_in_handler);
                ShortLivedContext& context = *short_lived_.emplace_back(std::make_unique<ShortLivedContext>());
                start_in<Call>(manager, *request, context);
                break;
            }
        }
        starting() = false;
        world_.has_begun(*request);
        return request;
    }
    // Requests that may share calls.
    template <class Call>
    void start_crowd(Manager& manager) {
        const RequestFacts* like = nullptr;
        for (std::uint32_t count = 3 + dice().below(6); count != 0; --count) {
            like = start<Call>(manager, like);
        }
    }
    template <class Call>
    void start_noted(Manager& manager) {
        if (RequestFacts* const request = world_.begin(Call::kind, Way::handler, Call::slot, true)) {
            starting() = true;
            request->is_noted.set(true);
            request->loop.set(&loop_);
            start<Call>(manager, *request, NotingExecutor(loop_.get_executor(), *request));
            starting() = false;
            world_.has_begun(*request);
        }
    }
    Handler handler_of(RequestFacts& request, bool may_throw, ShortLived* last_of = nullptr) {
        return {.ticket = Ticket(world_, request), .world = &world_, .may_throw = may_throw, .last_of = last_of};
    }

    template <class Call, class Executor>
    void start(Manager& manager, RequestFacts& request, const Executor& executor) {
        start_on<Call>(manager, request, executor, handler_of(request, true));
    }
    // On a context of its own, which ends when the handler has run.
    template <class Call, class Context>
    void start_in(Manager& manager, RequestFacts& request, Context& context) {
        Handler handler = handler_of(request, false, &context);
        switch (dice().below(4)) {
            case 0:
                start_on<Call>(manager, request, asio::any_completion_executor(context.executor()), std::move(handler));
                break;
            case 1:
                start_on<Call>(manager, request, asio::any_io_executor(context.executor()), std::move(handler));
                break;
            default: start_on<Call>(manager, request, context.executor(), std::move(handler)); break;
        }
    }
    // On `executor`, and so that it can be cancelled.
    template <class Call, class Executor>
    void start_on(Manager& manager, RequestFacts& request, const Executor& executor, Handler handler) {
        using Bound = std::conditional_t<binds<Call, Executor>, Executor, asio::any_io_executor>;
        Pending& pending = pending_.emplace_back();
        pending.request = &request;
        Call::start(manager, request,
                    asio::bind_cancellation_slot(pending.signal.slot(),
                                                 asio::bind_executor(Bound(executor), std::move(handler))));
    }
    // On a context of its own; waits for its handler and destroys it.
    template <class Call>
    void start_alone(Manager& manager, bool patient) {
        RequestFacts* const request = world_.begin(Call::kind, Way::handler, Call::slot, patient);
        if (request == nullptr) {
            return;
        }
        if (dice().once_in(8)) {
            world_.tally.did(Deed::pool_ended_after_handler);
            const auto pool = std::make_unique<ShortLivedPool>();
            start_alone<Call>(manager, *request, *pool);
            require_tracked(pool->run());
        } else {
            world_.tally.did(Deed::context_ended_in_handler);
            // In memory of its own, which AddressSanitizer watches once it is freed.
            const auto context = std::make_unique<ShortLivedContext>();
            start_alone<Call>(manager, *request, *context);
            if (dice().coin()) {
                while (!context->poll()) {}
            } else {
                require_tracked(context->run());
            }
        }
    }
    template <class Call, class Context>
    void start_alone(Manager& manager, RequestFacts& request, Context& context) {
        starting() = true;
        start_in<Call>(manager, request, context);
        starting() = false;
        world_.has_begun(request);
    }
    void require_tracked(bool ran) noexcept {
        require(ran, "R9: the context of a handler ran out of work before the handler was posted to it");
    }
    // Calls `run`, again after each handler that throws.
    template <class Run>
    void catch_thrown(const Run& run) {
        for (;;) {
            try {
                run();
                return;
            } catch (const HandlerFailure&) {
                world_.tally.did(Deed::handler_threw);
            }
        }
    }

    void cancel() {
        const std::size_t recent = std::min<std::size_t>(pending_.size(), 16);
        if (recent == 0) {
            return;
        }
        // One whose model is at work, if there is one.
        const auto running =
            std::find_if(pending_.end() - static_cast<std::ptrdiff_t>(recent), pending_.end(), [](const Pending& each) {
                return each.request != nullptr && each.request->ends.get() == 0 &&
                       each.request->fate.get() == Fate::running;
            });
        Pending& pending = running != pending_.end()
                               ? *running
                               : pending_[pending_.size() - 1 - dice().below(static_cast<std::uint32_t>(recent))];
        if (pending.request == nullptr || pending.request->ends.get() != 0) {
            return;
        }
        constexpr std::array types{asio::cancellation_type::terminal, asio::cancellation_type::partial,
                                   asio::cancellation_type::total};
        constexpr std::array deeds{Deed::cancelled_terminal, Deed::cancelled_partial, Deed::cancelled_total};
        const std::uint32_t type = dice().below(3);
        world_.tally.did(deeds.at(type));
        world_.witness.box.note(Note::cancelled, pending.request->slot, pending.request->key, pending.request->id);
        pending.cancelled = true;
        pending.request->cancelled.set(true);
        pending.signal.emit(types.at(type));
    }
    void require(bool holds, const char* sentence) noexcept { world_.witness.require(holds, sentence); }

    World& world_;
    // Without the hint of one thread, which would let what the thread posts to itself be overtaken: first in, first
    // out.
    asio::io_context loop_{};
    std::vector<std::unique_ptr<ShortLivedContext>> short_lived_{};
    // After the context, whose coroutines use it, in its making: it goes first, and they are done by then.
    std::deque<Pending> pending_{};
};

}  // namespace residency::stress

#pragma once

#include "stress/access.hpp"
#include "stress/calls.hpp"
#include "stress/facts.hpp"
#include "stress/random.hpp"
#include "stress/short_lived.hpp"
#include "stress/world.hpp"

#include <cstdint>
#include <exception>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace residency::stress {

/// Whether this thread is within a call that starts a request with a `Handler`.
[[nodiscard]] inline bool& starting() noexcept {
    thread_local bool value = false;
    return value;
}

/// What a handler throws. It leaves the function that runs the handler's context (H12).
struct HandlerFailure : std::runtime_error {
    HandlerFailure() : std::runtime_error("a handler of the stress threw") {}
};

/// The handler of a request, of whichever call: for each type of handler the compiler makes hundreds of functions,
/// which calls with the same results have in common.
struct Handler {
    /// Makes requests like this one.
    using Chain = void (World::*)(Manager& in, std::uint32_t more);

    Ticket ticket;
    World* world;
    /// It runs where its exceptions are caught.
    bool may_throw = false;
    /// What ends with it, on a thread of the host's; null if nothing does.
    ShortLived* last_of = nullptr;
    /// How it makes the next request, `more` times; null if it is none of a chain.
    Chain chain = nullptr;
    std::uint32_t more = 0;

    template <class... Results>
    void operator()(const std::exception_ptr& error, Results... results) {
        if (last_of != nullptr) {
            on_host_thread() = true;
        }
        handle(error, std::move(results)...);
        if (last_of != nullptr) {
            last_of->finish();
        }
    }

private:
    template <class... Results>
    void handle(const std::exception_ptr& error, Results... results) {
        RequestFacts* const request = ticket.complete();
        if (request == nullptr) {
            world->witness.require(false, "R9: a handler was called twice");
            return;
        }
        world->witness.require(!starting(), "R9: a request completed within the call that started it");
        if constexpr (std::is_void_v<decltype(world->conclude(*request, error, std::move(results)...))>) {
            world->conclude(*request, error, std::move(results)...);
        } else if (auto held = world->conclude(*request, error, std::move(results)...); !error) {
            world->spend(std::move(held));
        }
        if (chain != nullptr) {
            go_on();
            return;
        }
        world->witness.call_back();
        if (may_throw && dice().once_in(30)) {
            throw HandlerFailure();
        }
    }
    void go_on() const {
        if (more != 0) {
            if (const auto use = world->access.use()) {
                world->tally.did(Deed::request_chained);
                (world->*chain)(*use, more - 1);
            }
        }
    }
};

template <class Call>
void World::chain(Manager& in, std::uint32_t more) {
    if (RequestFacts* const request = begin(Call::kind, Way::handler, Call::slot, true)) {
        Call::start(
            in, *request,
            Handler{.ticket = Ticket(*this, *request), .world = this, .chain = &World::chain<Call>, .more = more});
    }
}

}  // namespace residency::stress

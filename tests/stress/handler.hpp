#pragma once

#include "stress/access.hpp"
#include "stress/calls.hpp"
#include "stress/facts.hpp"
#include "stress/random.hpp"
#include "stress/short_lived.hpp"
#include "stress/world.hpp"

#include <exception>
#include <stdexcept>
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

/// The handler of a request that is made from outside of the library.
template <class Call>
struct Handler {
    Ticket ticket;
    World* world;
    /// It runs where its exceptions are caught.
    bool may_throw;
    /// What ends with it, on a thread of the host's; null if nothing does.
    ShortLived* last_of = nullptr;

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
        if constexpr (Call::kind == Kind::acquire) {
            if (auto held = world->conclude(*request, error, std::move(results)...); !error) {
                world->spend(std::move(held));
            }
        } else {
            world->conclude(*request, error, std::move(results)...);
        }
        world->witness.call_back();
        if (may_throw && dice().once_in(30)) {
            throw HandlerFailure();
        }
    }
};

}  // namespace residency::stress

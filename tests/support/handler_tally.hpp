#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>

namespace residency::test {

/// Counts completion handlers: those that were handed to the library, and their calls. Any thread.
class HandlerTally {
    struct State {
        std::atomic<std::size_t> made{0};
        std::atomic<std::size_t> ran{0};
    };

    template <class Handler>
    struct Counted {
        std::shared_ptr<State> state;
        Handler handler;

        template <class... Results>
        void operator()(Results&&... results) {
            ++state->ran;
            handler(std::forward<Results>(results)...);
        }
    };

public:
    /// The same handler, counted.
    template <class Handler>
    [[nodiscard]] auto count(Handler handler) {
        ++state_->made;
        return Counted<Handler>{state_, std::move(handler)};
    }

    /// The last `count` of them never came to the library: their calls threw.
    void forget(std::size_t count) { state_->made -= count; }

    /// How many handlers there were.
    [[nodiscard]] std::size_t made() const noexcept { return state_->made; }
    /// How often they were called.
    [[nodiscard]] std::size_t ran() const noexcept { return state_->ran; }

private:
    std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace residency::test

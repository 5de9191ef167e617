#pragma once

#include "residency/runtime/asio.hpp"

#include <cstddef>
#include <functional>
#include <memory>
#include <thread>
#include <type_traits>
#include <utility>

namespace residency::test {

/// The context of one request's handler, as its owner sees it: whether the handler has run, and what was touched
/// afterwards.
struct Witness {
    /// The handler has run: from here on its owner may destroy its context.
    bool has_run = false;
    /// How often the executor was used after that: a work guard ended, or something was posted.
    std::size_t late = 0;
    /// Called once, at the beginning of the next post.
    std::function<void()> before_post{};
};

/// An executor of a Witness. Runs what it is given on a thread of its own before `execute` returns, which is the
/// soonest that a handler may ever run. With `Tracked` it is outstanding work, whose end is a use of the context.
template <bool Tracked = false>
class WitnessExecutor {
public:
    WitnessExecutor(Witness& witness, asio::execution_context& context) noexcept
        : witness_(&witness), context_(&context) {}
    WitnessExecutor(const WitnessExecutor&) noexcept = default;
    WitnessExecutor(WitnessExecutor&& other) noexcept
        : witness_(std::exchange(other.witness_, nullptr)), context_(other.context_) {}
    WitnessExecutor& operator=(const WitnessExecutor&) = delete;
    WitnessExecutor& operator=(WitnessExecutor&&) = delete;
    ~WitnessExecutor() {
        if (Tracked && witness_ != nullptr) {
            touch();
        }
    }

    template <class Function>
    void execute(Function&& function) const {
        // It may end with what it runs.
        Witness& witness = *witness_;
        touch();
        if (const std::function<void()> hook = std::exchange(witness.before_post, nullptr)) {
            hook();
        }
        std::thread([work = std::decay_t<Function>(std::forward<Function>(function))]() mutable {
            // Gone when this returns, as in an io_context.
            auto once = std::move(work);
            std::move(once)();
        }).join();
        witness.has_run = true;
    }
    [[nodiscard]] asio::execution_context& query(asio::execution::context_t) const noexcept { return *context_; }
    [[nodiscard]] static constexpr asio::execution::blocking_t query(asio::execution::blocking_t) noexcept {
        return asio::execution::blocking_t::never;
    }
    [[nodiscard]] WitnessExecutor require(asio::execution::blocking_t::never_t) const noexcept { return *this; }
    [[nodiscard]] WitnessExecutor<true> require(asio::execution::outstanding_work_t::tracked_t) const noexcept {
        return {*witness_, *context_};
    }
    [[nodiscard]] WitnessExecutor<false> require(asio::execution::outstanding_work_t::untracked_t) const noexcept {
        return {*witness_, *context_};
    }

    friend bool operator==(const WitnessExecutor& left, const WitnessExecutor& right) noexcept {
        return left.witness_ == right.witness_;
    }
    friend bool operator!=(const WitnessExecutor& left, const WitnessExecutor& right) noexcept {
        return !(left == right);
    }

private:
    void touch() const noexcept { witness_->late += witness_->has_run ? 1 : 0; }

    Witness* witness_;
    asio::execution_context* context_;
};

/// An executor over an io_context that calls `before_post` once, at the beginning of the next post: what happens
/// between a request's last bookkeeping and the posting of its handler.
class HookedExecutor {
public:
    HookedExecutor(asio::io_context& context, std::function<void()>& before_post) noexcept
        : context_(&context), before_post_(&before_post) {}

    template <class Function>
    void execute(Function&& function) const {
        if (const std::function<void()> hook = std::exchange(*before_post_, nullptr)) {
            hook();
        }
        asio::post(*context_, std::forward<Function>(function));
    }
    [[nodiscard]] asio::execution_context& query(asio::execution::context_t) const noexcept { return *context_; }
    [[nodiscard]] static constexpr asio::execution::blocking_t query(asio::execution::blocking_t) noexcept {
        return asio::execution::blocking_t::never;
    }
    [[nodiscard]] HookedExecutor require(asio::execution::blocking_t::never_t) const noexcept { return *this; }

    friend bool operator==(const HookedExecutor& left, const HookedExecutor& right) noexcept {
        return left.context_ == right.context_;
    }
    friend bool operator!=(const HookedExecutor& left, const HookedExecutor& right) noexcept {
        return !(left == right);
    }

private:
    asio::io_context* context_;
    std::function<void()>* before_post_;
};

}  // namespace residency::test

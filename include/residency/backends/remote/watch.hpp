#pragma once

#include "residency/backends/remote/beast.hpp"
#include "residency/backends/remote/connection.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <utility>

namespace residency::detail::remote {

/// Ends what a request waits for when its time is over or its stop_token is set: closes its connection.
///
/// All of it is used on the strand of the request's coroutine, `request_stop` aside.
class Watch : public std::enable_shared_from_this<Watch> {
public:
    using Clock = std::chrono::steady_clock;

    /// Why it ended what the request waited for.
    enum class Cause : std::uint8_t {
        /// It did not.
        nothing,
        /// A connection took too long to be made.
        connect_timeout,
        /// The request took too long.
        request_timeout,
        /// The stop_token was set.
        stop,
    };

    /// For a request on `executor` that has `time`.
    Watch(const asio::any_io_executor& executor, std::chrono::milliseconds time)
        : timer_(executor), deadline_(Clock::now() + time) {}

    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;
    ~Watch() = default;

    /// Begins to watch.
    void begin(std::stop_token stop) {
        wait_until(deadline_);
        stop_.emplace(std::move(stop), Stop{weak_from_this(), timer_.get_executor()});
    }
    /// Ends it: nothing is closed any more.
    void end() noexcept {
        stop_.reset();
        connection_ = nullptr;
        resolver_ = nullptr;
        timer_.cancel();
    }

    /// The request makes this connection now, which may take `time`.
    void connects(Connection& connection, Tcp::resolver& resolver, std::chrono::milliseconds time) {
        connection_ = &connection;
        resolver_ = &resolver;
        connect_deadline_ = Clock::now() + time;
        wait_until((std::min)(deadline_, *connect_deadline_));
    }
    /// It uses this connection.
    void uses(Connection& connection) {
        connection_ = &connection;
        resolver_ = nullptr;
        if (connect_deadline_) {
            connect_deadline_.reset();
            wait_until(deadline_);
        }
    }
    /// It uses none.
    void uses_none() noexcept {
        connection_ = nullptr;
        resolver_ = nullptr;
    }

    /// Why it ended what the request waited for. A connection that timed out counts once.
    [[nodiscard]] Cause cause() const noexcept { return cause_; }
    /// A connection that took too long is given up, and the request may go on.
    void forget_connect_timeout() noexcept {
        if (cause_ == Cause::connect_timeout) {
            cause_ = Cause::nothing;
        }
    }
    /// The request goes on, and has `time` from now on, whichever of its times was over.
    void extend(std::chrono::milliseconds time) {
        deadline_ = Clock::now() + time;
        if (cause_ != Cause::stop) {
            cause_ = Cause::nothing;
        }
        wait_until(deadline_);
    }

private:
    struct Stop {
        std::weak_ptr<Watch> watch;
        asio::any_io_executor executor;
        void operator()() const noexcept {
            try {
                asio::post(executor, [watch = watch] {
                    if (const std::shared_ptr<Watch> self = watch.lock()) {
                        self->finish(Cause::stop);
                    }
                });
            } catch (...) {  // NOLINT(bugprone-empty-catch): out of memory: the request goes on until its time is over
            }
        }
    };

    void wait_until(Clock::time_point time) {
        timer_.expires_at(time);
        timer_.async_wait([watch = weak_from_this()](const boost::system::error_code&) {
            if (const std::shared_ptr<Watch> self = watch.lock()) {
                self->look();
            }
        });
    }
    // A wait that had expired when it was cancelled comes here, too.
    void look() noexcept {
        const Clock::time_point now = Clock::now();
        if (now >= deadline_) {
            finish(Cause::request_timeout);
        } else if (connect_deadline_ && now >= *connect_deadline_) {
            finish(Cause::connect_timeout);
        }
    }
    void finish(Cause cause) noexcept {
        // After a time that was over the request may go on, but not after a stop, also if that came second.
        if (cause_ == Cause::nothing || cause == Cause::stop) {
            cause_ = cause;
        }
        if (resolver_ != nullptr) {
            resolver_->cancel();
        }
        if (connection_ != nullptr) {
            connection_->close();
        }
    }

    asio::steady_timer timer_;
    Clock::time_point deadline_;
    std::optional<Clock::time_point> connect_deadline_{};
    Connection* connection_ = nullptr;
    Tcp::resolver* resolver_ = nullptr;
    Cause cause_ = Cause::nothing;
    std::optional<std::stop_callback<Stop>> stop_{};
};

}  // namespace residency::detail::remote

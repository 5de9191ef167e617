#pragma once

#include "stress/access.hpp"
#include "stress/random.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>

#include <atomic>
#include <utility>

namespace residency::stress {

namespace asio = boost::asio;

/// A handler that says when it has run, on a thread of the host's.
template <class Handler, class Done>
struct LastHandler {
    Handler handler;
    Done done;

    template <class... Results>
    void operator()(Results... results) {
        on_host_thread() = true;
        std::move(handler)(std::move(results)...);
        done();
    }
};

/// An io_context for the handler of one request. It may be destroyed as soon as that has run (H16).
class ShortLivedContext {
public:
    [[nodiscard]] asio::io_context::executor_type executor() noexcept { return context_.get_executor(); }
    /// `handler`, which stops the context.
    template <class Handler>
    [[nodiscard]] auto last(Handler handler) {
        const auto stop = [this] {
            done_ = true;
            context_.stop();
        };
        return LastHandler<Handler, decltype(stop)>{std::move(handler), stop};
    }
    /// Runs what is ready. Whether the handler has run.
    bool poll() {
        context_.poll();
        return done_;
    }
    /// Runs until the handler has run, or until the context has no work left. Whether the handler has run.
    bool run() {
        context_.run();
        return done_;
    }

private:
    asio::io_context context_{1};
    bool done_ = false;
};

/// The same with a thread of its own.
class ShortLivedPool {
public:
    [[nodiscard]] asio::thread_pool::executor_type executor() noexcept { return pool_.get_executor(); }
    /// `handler`, after which `run` returns.
    template <class Handler>
    [[nodiscard]] auto last(Handler handler) {
        const auto finish = [this] { done_ = true; };
        return LastHandler<Handler, decltype(finish)>{std::move(handler), finish};
    }
    /// Waits until the pool has no work left. Whether the handler has run.
    bool run() {
        pool_.join();
        return done_;
    }

private:
    asio::thread_pool pool_{1};
    std::atomic<bool> done_{false};
};

}  // namespace residency::stress

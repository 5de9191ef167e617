#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>

#include <atomic>

namespace residency::stress {

namespace asio = boost::asio;

/// What ends with the handler of one request, which says when it has run.
class ShortLived {
public:
    virtual ~ShortLived() = default;
    virtual void finish() noexcept = 0;
};

/// An io_context for the handler of one request. It may be destroyed as soon as that has run (H16).
class ShortLivedContext final : public ShortLived {
public:
    [[nodiscard]] asio::io_context::executor_type executor() noexcept { return context_.get_executor(); }
    void finish() noexcept override {
        done_ = true;
        context_.stop();
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
class ShortLivedPool final : public ShortLived {
public:
    [[nodiscard]] asio::thread_pool::executor_type executor() noexcept { return pool_.get_executor(); }
    void finish() noexcept override { done_ = true; }
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

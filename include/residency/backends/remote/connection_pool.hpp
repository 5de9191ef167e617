#pragma once

#include "residency/backends/remote/beast.hpp"
#include "residency/backends/remote/connection.hpp"
#include "residency/runtime/mutex.hpp"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

namespace residency::detail::remote {

/// The idle connections to one endpoint. They go when the pool goes, or before that with the context that they live in:
/// a model may outlive that, under a lease.
///
/// Threads  any
class ConnectionPool : public std::enable_shared_from_this<ConnectionPool> {
public:
    /// Keeps at most `most`.
    explicit ConnectionPool(std::size_t most) noexcept : most_(most) {}

    /// An idle connection of this context that is fit for use, the last one that was put back; or null.
    [[nodiscard]] std::unique_ptr<Connection> take(const asio::execution_context& context) {
        for (;;) {
            std::unique_ptr<Connection> taken;
            {
                const runtime::MutexLock lock(mutex_);
                const auto last = std::find_if(idle_.rbegin(), idle_.rend(), [&](const auto& connection) {
                    return &connection->context() == &context;
                });
                if (last == idle_.rend()) {
                    return nullptr;
                }
                taken = std::move(*last);
                idle_.erase(std::next(last).base());
            }
            if (taken->is_quiet()) {
                return taken;
            }
        }
    }

    /// Keeps an idle connection, unless there are as many as it may keep.
    void put(std::unique_ptr<Connection> connection) {
        asio::use_service<Closer>(connection->context()).watch(shared_from_this());
        const runtime::MutexLock lock(mutex_);
        if (idle_.size() < most_) {
            idle_.push_back(std::move(connection));
        }
    }

    /// Closes those of `context`.
    void drop(const asio::execution_context& context) {
        const runtime::MutexLock lock(mutex_);
        std::erase_if(idle_, [&](const auto& connection) { return &connection->context() == &context; });
    }

private:
    // Drops the connections of a context before that is destroyed.
    class Closer final : public asio::execution_context::service {
    public:
        using key_type = Closer;
        static inline asio::execution_context::id id{};

        explicit Closer(asio::execution_context& context) : service(context) {}

        void watch(const std::shared_ptr<ConnectionPool>& pool) {
            const runtime::MutexLock lock(mutex_);
            const auto is_it = [&](const auto& known) {
                return !known.owner_before(pool) && !pool.owner_before(known);
            };
            if (std::none_of(pools_.begin(), pools_.end(), is_it)) {
                std::erase_if(pools_, [](const auto& known) { return known.expired(); });
                pools_.push_back(pool);
            }
        }

    private:
        void shutdown() noexcept override {
            std::vector<std::weak_ptr<ConnectionPool>> pools;
            {
                const runtime::MutexLock lock(mutex_);
                pools.swap(pools_);
            }
            for (const std::weak_ptr<ConnectionPool>& known : pools) {
                if (const std::shared_ptr<ConnectionPool> pool = known.lock()) {
                    pool->drop(context());
                }
            }
        }

        runtime::Mutex mutex_{};
        std::vector<std::weak_ptr<ConnectionPool>> pools_ RESIDENCY_GUARDED_BY(mutex_){};
    };

    const std::size_t most_;
    runtime::Mutex mutex_{};
    std::vector<std::unique_ptr<Connection>> idle_ RESIDENCY_GUARDED_BY(mutex_){};
};

}  // namespace residency::detail::remote

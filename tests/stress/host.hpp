#pragma once

#include "residency/runtime/executors.hpp"
#include "stress/settings.hpp"
#include "stress/tally.hpp"

#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>

#include <cstddef>
#include <memory>
#include <vector>

namespace residency::stress {

/// The contexts of one manager's host, if the manager does not make its own threads. They outlive the manager, and all
/// that it left running.
class Host {
public:
    Host(const Settings& settings, Tally& tally) {
        switch (settings.home) {
            case Home::owned_threads: tally.did(Deed::owned_threads); break;
            case Home::one_pool:
                tally.did(Deed::one_pool);
                executors_ = Executors::all(add(settings.pool_threads));
                break;
            case Home::strand_and_pool: {
                tally.did(Deed::strand_and_pool);
                const auto pool = add(settings.pool_threads);
                executors_ = {asio::make_strand(pool), pool, pool};
                break;
            }
            case Home::separate_contexts:
                tally.did(Deed::separate_contexts);
                executors_ = {add(1), add(settings.pool_threads), add(1)};
                break;
        }
    }

    [[nodiscard]] const Executors& executors() const noexcept { return executors_; }

    /// Runs what is left and ends the threads.
    void finish() {
        for (const auto& pool : pools_) {
            pool->join();
        }
    }

private:
    asio::thread_pool::executor_type add(std::size_t threads) {
        return pools_.emplace_back(std::make_unique<asio::thread_pool>(threads))->get_executor();
    }

    std::vector<std::unique_ptr<asio::thread_pool>> pools_;
    Executors executors_;
};

}  // namespace residency::stress

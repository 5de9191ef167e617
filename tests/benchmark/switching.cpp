// The rare and heavy: a switch from one model to another, and a shutdown with many who wait.

#include "no_op.hpp"

#include "residency/model_slot.hpp"

#include <benchmark/benchmark.h>

#include <boost/asio/bind_executor.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace residency::cost::switching_benchmark {
namespace {

using Slot = ModelSlot<NoOpBackend>;
using SlotLease = Slot::lease_type;

/// A thread for loads, as a slot has one, and the context that this thread runs.
class Host {
public:
    static Host& get() {
        static Host host;
        return host;
    }
    ~Host() {
        loading_guard_.reset();
        thread_.join();
    }
    Host(const Host&) = delete;
    Host& operator=(const Host&) = delete;

    // Not made anew for each run: who posts to one may still be leaving it when that ends.
    asio::io_context mine{1};
    asio::io_context loading{1};

private:
    Host() = default;

    asio::executor_work_guard<asio::io_context::executor_type> my_guard_{mine.get_executor()};
    asio::executor_work_guard<asio::io_context::executor_type> loading_guard_{loading.get_executor()};
    std::thread thread_{[this] { loading.run(); }};
};

// -- A switch: unload one model, load the other -----------------------------------------------------------------------

void switch_ours(benchmark::State& state) {
    Host& host = Host::get();
    const auto mine = host.mine.get_executor();
    Slot slot(NoOpBackend(), roomy(), Executors{mine, mine, host.loading.get_executor()});
    const ModelKey keys[] = {{"bge-small-en-v1.5", "q8_0"}, {"minilm-reranker-v2", "f16"}};
    std::size_t turn = 0;
    for (auto _ : state) {
        bool done = false;
        slot.async_acquire(keys[++turn % 2],
                           asio::bind_executor(mine, [&done](const std::exception_ptr&, SlotLease) { done = true; }));
        while (!done) {
            host.mine.run_one();
        }
    }
    bool over = false;
    slot.async_shutdown(
        asio::bind_executor(mine, [&over](const std::exception_ptr&, const ShutdownReport&) { over = true; }));
    while (!over) {
        host.mine.run_one();
    }
}

// Two posts to the loading thread, and the hand-over to the thread that waits.
void switch_floor(benchmark::State& state) {
    Host& host = Host::get();
    for (auto _ : state) {
        bool done = false;
        asio::post(host.loading,
                   [&] { asio::post(host.loading, [&] { asio::post(host.mine, [&done] { done = true; }); }); });
        while (!done) {
            host.mine.run_one();
        }
    }
}

BENCHMARK(switch_ours)->Name("switch/ours")->MeasureProcessCPUTime();
BENCHMARK(switch_floor)->Name("switch/floor")->MeasureProcessCPUTime();

// -- A shutdown that fails 100,000 waiters ----------------------------------------------------------------------------

constexpr std::size_t waiters = 100'000;

void shutdown_ours(benchmark::State& state) {
    for (auto _ : state) {
        state.PauseTiming();
        asio::io_context context{1};
        SlotOptions options = roomy();
        options.max_leases = 1;
        std::optional<Slot> slot(std::in_place, NoOpBackend(), options, Executors::all(context.get_executor()));
        std::size_t completed = 0;
        slot->async_ensure_loaded(usual_key(), [](const std::exception_ptr&, Generation) {});
        context.poll();
        SlotLease lease = slot->try_acquire(usual_key());
        for (std::size_t index = 0; index < waiters; ++index) {
            slot->async_acquire(
                usual_key(),
                asio::bind_executor(context.get_executor(), [&completed](const std::exception_ptr& error, SlotLease) {
                    completed += error ? 1 : 0;
                }));
        }
        context.restart();
        state.ResumeTiming();

        slot->async_shutdown(
            asio::bind_executor(context.get_executor(), [](const std::exception_ptr&, const ShutdownReport&) {}));
        context.poll();

        state.PauseTiming();
        if (completed != waiters) {
            state.SkipWithError("not every waiter completed");
        }
        lease.release();
        context.restart();
        context.poll();
        slot.reset();
        state.ResumeTiming();
    }
}

void shutdown_floor(benchmark::State& state) {
    for (auto _ : state) {
        state.PauseTiming();
        asio::io_context context{1};
        std::size_t completed = 0;
        std::vector<std::function<void(const std::exception_ptr&)>> handlers(
            waiters, [&completed](const std::exception_ptr& error) { completed += error ? 1 : 0; });
        state.ResumeTiming();

        for (auto& handler : handlers) {
            asio::post(context, [handler = std::move(handler),
                                 error = std::make_exception_ptr(std::system_error(
                                     std::make_error_code(std::errc::operation_canceled),
                                     "slot 'embedding' is shutting down or has shut down"))] { handler(error); });
        }
        context.poll();

        state.PauseTiming();
        if (completed != waiters) {
            state.SkipWithError("not every waiter completed");
        }
        handlers = {};
        state.ResumeTiming();
    }
}

BENCHMARK(shutdown_ours)->Name("shutdown/ours")->Unit(benchmark::kMillisecond);
BENCHMARK(shutdown_floor)->Name("shutdown/floor")->Unit(benchmark::kMillisecond);

// -- Looking in while others work -------------------------------------------------------------------------------------

template <bool is_looked_at>
void status_while_acquiring(benchmark::State& state) {
    static Slot slot{NoOpBackend(), roomy()};
    slot.ensure_loaded(usual_key());
    std::jthread looks;
    if (is_looked_at && state.thread_index() == 0) {
        looks = std::jthread([](const std::stop_token& stop) {
            while (!stop.stop_requested()) {
                benchmark::DoNotOptimize(slot.status());
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            }
        });
    }
    for (auto _ : state) {
        const SlotLease lease = slot.try_acquire(usual_key());
        benchmark::DoNotOptimize(lease);
    }
}
BENCHMARK(status_while_acquiring<true>)->Name("status/ours")->Threads(4)->MeasureProcessCPUTime()->UseRealTime();
BENCHMARK(status_while_acquiring<false>)->Name("status/floor")->Threads(4)->MeasureProcessCPUTime()->UseRealTime();

}  // namespace
}  // namespace residency::cost::switching_benchmark

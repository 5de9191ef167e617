// A lease on a model that is ready: taken at once, and asked for.

#include "alternatives.hpp"
#include "chain.hpp"
#include "floors.hpp"
#include "no_op.hpp"

#include "residency/model_slot.hpp"

#include <boost/asio/bind_executor.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <utility>

namespace residency::cost::lease_benchmark {
namespace {

using Slot = ModelSlot<NoOpBackend>;
using SlotLease = Slot::lease_type;

// With threads of its own, like a host's first slot; the process has threads, without which a mutex costs less than it
// does in any host.
Slot& ready_slot() {
    static Slot slot{NoOpBackend(), roomy()};
    slot.ensure_loaded(usual_key());
    return slot;
}

void lease_ours(benchmark::State& state) {
    Slot& slot = ready_slot();
    for (auto _ : state) {
        const SlotLease lease = slot.try_acquire(usual_key());
        benchmark::DoNotOptimize(&*lease);
    }
}
BENCHMARK(lease_ours)->Name("lease/ours");

void lease_floor(benchmark::State& state) {
    ready_slot();
    LeaseFloor floor;
    for (auto _ : state) {
        floor.begin();
        floor.end();
    }
}
BENCHMARK(lease_floor)->Name("lease/floor");

void lease_mutex(benchmark::State& state) {
    ready_slot();
    asio::io_context context;
    const auto holder = std::make_shared<MutexHolder<NoOpEmbedder>>(context.get_executor(), std::chrono::minutes(5));
    while (state.KeepRunningBatch(chain_length)) {
        for (std::size_t index = 0; index < chain_length; ++index) {
            const auto use = holder->use();
            benchmark::DoNotOptimize(&*use);
        }
        // The handlers of the waits that were replaced.
        context.poll();
        context.restart();
    }
}
BENCHMARK(lease_mutex)->Name("lease/mutex");

// -- Asked for, all executors one context on this thread --------------------------------------------------------------

constexpr std::size_t at_once = 32;

template <class Start>
void run_chains(benchmark::State& state, asio::io_context& context, Chain<Start>& chain) {
    while (state.KeepRunningBatch(chain_length)) {
        chain([&context] { context.run_one(); });
    }
}

struct OneThread {
    asio::io_context context{1};
    Slot slot{NoOpBackend(), roomy(), Executors::all(context.get_executor())};

    OneThread() {
        ready_slot();
        bool loaded = false;
        slot.async_ensure_loaded(usual_key(), [&loaded](const std::exception_ptr&, Generation) { loaded = true; });
        while (!loaded) {
            context.run_one();
        }
    }
};

void acquire_ours(benchmark::State& state) {
    OneThread host;
    Chain chain(at_once, [&host](auto& self) {
        host.slot.async_acquire(
            usual_key(), asio::bind_executor(host.context.get_executor(), [&self](std::exception_ptr, SlotLease lease) {
                benchmark::DoNotOptimize(&*lease);
                lease.release();
                self.done();
            }));
    });
    run_chains(state, host.context, chain);
}
BENCHMARK(acquire_ours)->Name("acquire/ours");

void acquire_control(benchmark::State& state) {
    OneThread host;
    Chain chain(at_once, [&host](auto& self) {
        host.slot.async_acquire(usual_key(), [&self](std::exception_ptr, SlotLease lease) {
            benchmark::DoNotOptimize(&*lease);
            lease.release();
            self.done();
        });
    });
    run_chains(state, host.context, chain);
}
BENCHMARK(acquire_control)->Name("acquire_erased/ours");

void acquire_floor(benchmark::State& state) {
    OneThread host;
    LeaseFloor floor;
    Chain chain(at_once, [&](auto& self) {
        floor.begin();
        asio::post(host.context, [&] {
            floor.end();
            self.done();
        });
    });
    run_chains(state, host.context, chain);
}
BENCHMARK(acquire_floor)->Name("acquire/floor");

void acquire_control_floor(benchmark::State& state) {
    OneThread host;
    LeaseFloor floor;
    const asio::any_io_executor executor = host.context.get_executor();
    Chain chain(at_once, [&](auto& self) {
        floor.begin();
        asio::post(executor, [&] {
            floor.end();
            self.done();
        });
    });
    run_chains(state, host.context, chain);
}
BENCHMARK(acquire_control_floor)->Name("acquire_erased/floor");

template <template <class> class Holder>
void acquire_alternative(benchmark::State& state) {
    OneThread host;
    const auto holder = std::make_shared<Holder<NoOpEmbedder>>(host.context.get_executor(), std::chrono::minutes(5));
    Chain chain(at_once, [&](auto& self) {
        holder->async_use([&self](auto use) {
            benchmark::DoNotOptimize(&*use);
            { const auto ends = std::move(use); }
            self.done();
        });
    });
    run_chains(state, host.context, chain);
}
BENCHMARK(acquire_alternative<MutexHolder>)->Name("acquire/mutex");
BENCHMARK(acquire_alternative<StrandHolder>)->Name("acquire/strand");

}  // namespace
}  // namespace residency::cost::lease_benchmark

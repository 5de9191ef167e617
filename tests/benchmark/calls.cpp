// A model is called, the model does nothing: asked for and blocking, from one thread and from many.

#include "alternatives.hpp"
#include "chain.hpp"
#include "floors.hpp"
#include "no_op.hpp"

#include "residency/model_manager.hpp"

#include <boost/asio/bind_executor.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <exception>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace residency::cost::calls_benchmark {
namespace {

using Manager = ModelManager<NoOpBackend, NoOpRerankerBackend>;

std::vector<std::string> one_text() { return std::vector<std::string>(1, "a cat sat"); }

/// A pool of four threads, as a host has one, and on it what is compared; both for all benchmarks of this program.
class Host {
public:
    static Host& get() {
        static Host host;
        return host;
    }
    ~Host() {
        // The waits of the alternatives.
        pool_.stop();
        guard_.reset();
        for (std::thread& thread : threads_) {
            thread.join();
        }
    }
    Host(const Host&) = delete;
    Host& operator=(const Host&) = delete;

    [[nodiscard]] auto pool() { return pool_.get_executor(); }
    /// Where the benchmark's thread gets its answers. Not made anew for each run: who posts to it may still be leaving
    /// it when that ends.
    [[nodiscard]] asio::io_context& mine() { return mine_; }
    [[nodiscard]] Manager& manager() { return manager_; }
    template <template <class> class Holder>
    [[nodiscard]] Holder<NoOpEmbedder>& holder() {
        static const auto holder = std::make_shared<Holder<NoOpEmbedder>>(pool(), std::chrono::minutes(5));
        return *holder;
    }

private:
    Host() { manager_.embedding().ensure_loaded(usual_key()); }

    void run() { pool_.run(); }

    asio::io_context mine_{1};
    asio::executor_work_guard<asio::io_context::executor_type> my_guard_{mine_.get_executor()};
    asio::io_context pool_;
    asio::executor_work_guard<asio::io_context::executor_type> guard_{pool_.get_executor()};
    std::array<std::thread, 4> threads_{std::thread([this] { run(); }), std::thread([this] { run(); }),
                                        std::thread([this] { run(); }), std::thread([this] { run(); })};
    Manager manager_{{}, {}, {.embedding = roomy()}, Executors::all(pool_.get_executor())};
};

// -- Asked for by a thread that runs its own context, answered there; one or ten at a time ----------------------------

template <class Start>
void run_chains(benchmark::State& state, asio::io_context& context, Chain<Start> chain) {
    while (state.KeepRunningBatch(chain_length)) {
        chain([&context] { context.run_one(); });
    }
}

std::size_t width_of(const benchmark::State& state) { return static_cast<std::size_t>(state.range(0)); }

void embed_ours(benchmark::State& state) {
    Manager& manager = Host::get().manager();
    asio::io_context& mine = Host::get().mine();
    run_chains(state, mine, Chain(width_of(state), [&](auto& chain) {
                   manager.async_embed(usual_key(), one_text(),
                                       asio::bind_executor(mine.get_executor(),
                                                           [&chain](std::exception_ptr, Embeddings) { chain.done(); }));
               }));
}

void embed_floor(benchmark::State& state) {
    const auto pool = Host::get().pool();
    asio::io_context& mine = Host::get().mine();
    run_chains(state, mine, Chain(width_of(state), [&](auto& chain) {
                   asio::post(pool, [&mine, &chain] { asio::post(mine, [&chain] { chain.done(); }); });
               }));
}

template <template <class> class Holder>
void embed_alternative(benchmark::State& state) {
    auto& holder = Host::get().holder<Holder>();
    asio::io_context& mine = Host::get().mine();
    run_chains(state, mine, Chain(width_of(state), [&](auto& chain) {
                   holder.async_use([&mine, &chain, texts = one_text()](auto use) {
                       asio::post(mine, [&chain, answer = (*use).embed(texts)] { chain.done(); });
                   });
               }));
}

void depths(benchmark::internal::Benchmark* benchmark) { benchmark->Arg(1)->Arg(10)->MeasureProcessCPUTime(); }
BENCHMARK(embed_ours)->Name("embed/ours")->Apply(depths);
BENCHMARK(embed_floor)->Name("embed/floor")->Apply(depths);
BENCHMARK(embed_alternative<MutexHolder>)->Name("embed/mutex")->Apply(depths);
BENCHMARK(embed_alternative<StrandHolder>)->Name("embed/strand")->Apply(depths);

// -- Asked for where everything is one context on one thread: no thread is woken, all that is left is work ------------

struct OneThread {
    asio::io_context context{1};
    asio::executor_work_guard<asio::io_context::executor_type> guard{context.get_executor()};
    Manager manager{{}, {}, {.embedding = roomy()}, Executors::all(context.get_executor())};

    OneThread() {
        Host::get();
        bool loaded = false;
        manager.embedding().async_ensure_loaded(usual_key(),
                                                [&loaded](const std::exception_ptr&, Generation) { loaded = true; });
        while (!loaded) {
            context.run_one();
        }
    }
};

constexpr std::size_t at_once = 32;

void embed_alone_ours(benchmark::State& state) {
    OneThread host;
    run_chains(state, host.context, Chain(at_once, [&](auto& chain) {
                   host.manager.async_embed(
                       usual_key(), one_text(),
                       asio::bind_executor(host.context.get_executor(),
                                           [&chain](std::exception_ptr, Embeddings) { chain.done(); }));
               }));
}
BENCHMARK(embed_alone_ours)->Name("embed_alone/ours");

void embed_alone_floor(benchmark::State& state) {
    OneThread host;
    run_chains(state, host.context, Chain(at_once, [&](auto& chain) {
                   asio::post(host.context, [&host, &chain] { asio::post(host.context, [&chain] { chain.done(); }); });
               }));
}
BENCHMARK(embed_alone_floor)->Name("embed_alone/floor");

// -- Blocking, from one thread and from many --------------------------------------------------------------------------

void blocking_ours(benchmark::State& state) {
    Manager& manager = Host::get().manager();
    for (auto _ : state) {
        benchmark::DoNotOptimize(manager.embed(usual_key(), one_text()));
    }
}

void blocking_floor(benchmark::State& state) {
    const auto pool = Host::get().pool();
    for (auto _ : state) {
        std::promise<void> promise;
        std::future<void> future = promise.get_future();
        asio::post(pool, [promise = std::move(promise)]() mutable { promise.set_value(); });
        future.get();
    }
}

template <template <class> class Holder>
void blocking_alternative(benchmark::State& state) {
    auto& holder = Host::get().holder<Holder>();
    for (auto _ : state) {
        std::promise<Embeddings> promise;
        std::future<Embeddings> future = promise.get_future();
        holder.async_use([promise = std::move(promise), texts = one_text()](auto use) mutable {
            promise.set_value((*use).embed(texts));
        });
        benchmark::DoNotOptimize(future.get());
    }
}

void callers(benchmark::internal::Benchmark* benchmark) {
    benchmark->ThreadRange(1, 16)->MeasureProcessCPUTime()->UseRealTime();
}
BENCHMARK(blocking_ours)->Name("blocking/ours")->Apply(callers);
BENCHMARK(blocking_floor)->Name("blocking/floor")->Apply(callers);
BENCHMARK(blocking_alternative<MutexHolder>)->Name("blocking/mutex")->Apply(callers);
BENCHMARK(blocking_alternative<StrandHolder>)->Name("blocking/strand")->Apply(callers);

}  // namespace
}  // namespace residency::cost::calls_benchmark

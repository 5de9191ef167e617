// Waiting: n requests join the queue of a slot, and then all are cancelled or all are granted; beside a list whose
// nodes are as big. What counts is how the cost of one grows with n.

#include "no_op.hpp"

#include "residency/model_slot.hpp"

#include <benchmark/benchmark.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <list>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace residency::cost::queue_benchmark {
namespace {

using Slot = ModelSlot<NoOpBackend>;
using SlotLease = Slot::lease_type;

/// Whether requests come and go in order, or at random: which key each is for, and which leaves next.
enum class Order : std::int64_t { in_order, random };

/// Which request is for which key, and in which order they leave: the same for both sides.
struct Plan {
    std::size_t waiters;
    std::vector<std::size_t> keys;
    std::vector<std::size_t> leaving;

    explicit Plan(const benchmark::State& state)
        : waiters(static_cast<std::size_t>(state.range(0))), keys(waiters), leaving(waiters) {
        const auto key_count = static_cast<std::size_t>(state.range(1));
        std::mt19937 random(1);
        std::iota(leaving.begin(), leaving.end(), std::size_t{0});
        for (std::size_t index = 0; index < waiters; ++index) {
            keys[index] = index % key_count;
        }
        if (static_cast<Order>(state.range(2)) == Order::random) {
            std::shuffle(leaving.begin(), leaving.end(), random);
            std::shuffle(keys.begin(), keys.end(), random);
        }
    }
};

/// A slot with all its keys resident and its one lease taken, so that every request waits.
class Queue {
public:
    explicit Queue(const benchmark::State& state)
        : plan_(state), slot_(NoOpBackend(), options_for(state), Executors::all(context_.get_executor())) {
        for (std::int64_t key = 0; key < state.range(1); ++key) {
            keys_.emplace_back("bge-small-en-v1.5 number " + std::to_string(key), "q8_0");
            slot_.async_ensure_loaded(keys_.back(), [](const std::exception_ptr&, Generation) {});
            run();
        }
        lease_ = slot_.try_acquire(keys_.front());
    }

    void join_and_cancel() {
        std::vector<asio::cancellation_signal> signals(plan_.waiters);
        for (std::size_t index = 0; index < plan_.waiters; ++index) {
            slot_.async_acquire(
                keys_[plan_.keys[index]],
                asio::bind_cancellation_slot(
                    signals[index].slot(),
                    asio::bind_executor(context_.get_executor(), [this](const std::exception_ptr& error, SlotLease) {
                        ended_ += error ? 1 : 0;
                    })));
        }
        for (const std::size_t index : plan_.leaving) {
            signals[index].emit(asio::cancellation_type::total);
            context_.poll_one();
        }
    }

    void join_and_grant() {
        for (std::size_t index = 0; index < plan_.waiters; ++index) {
            slot_.async_acquire(
                keys_[plan_.keys[index]],
                asio::bind_executor(context_.get_executor(), [this](const std::exception_ptr&, SlotLease lease) {
                    ended_ += lease ? 1 : 0;
                    lease_ = std::move(lease);
                    // The next one's turn.
                    if (ended_ != plan_.waiters) {
                        lease_.release();
                    }
                }));
        }
        lease_.release();
        run();
    }

    void check(benchmark::State& state) {
        if (ended_ != plan_.waiters) {
            state.SkipWithError("not every request was answered as it should be");
        }
        ended_ = 0;
    }

private:
    static SlotOptions options_for(const benchmark::State& state) {
        SlotOptions options = roomy();
        options.max_leases = 1;
        options.max_resident = static_cast<std::size_t>(state.range(1));
        return options;
    }
    void run() {
        context_.restart();
        context_.poll();
    }

    asio::io_context context_{1};
    asio::executor_work_guard<asio::io_context::executor_type> guard_{context_.get_executor()};
    Plan plan_;
    std::vector<ModelKey> keys_;
    std::size_t ended_ = 0;
    Slot slot_;
    SlotLease lease_;
};

/// As big as what the library keeps of a waiter and its handler, with the list's two pointers.
struct Node {
    std::size_t key;
    std::array<char, 248> rest;
};

void count(benchmark::State& state, const Plan& plan) {
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(plan.waiters));
}

template <void (Queue::*what)()>
void queue_ours(benchmark::State& state) {
    Queue queue(state);
    for (auto _ : state) {
        (queue.*what)();
        queue.check(state);
    }
    count(state, Plan(state));
}

// Grants are in order of arrival whatever the order of keys is, so `in_order` there means from the front.
template <bool by_plan>
void queue_list(benchmark::State& state) {
    const Plan plan(state);
    std::vector<std::list<Node>> lists(static_cast<std::size_t>(state.range(1)));
    std::vector<std::list<Node>::iterator> places(plan.waiters);
    for (auto _ : state) {
        for (std::size_t index = 0; index < plan.waiters; ++index) {
            std::list<Node>& list = lists[plan.keys[index]];
            list.emplace_back(Node{plan.keys[index], {}});
            benchmark::DoNotOptimize(list.back());
            places[index] = std::prev(list.end());
        }
        for (std::size_t index = 0; index < plan.waiters; ++index) {
            const std::size_t next = by_plan ? plan.leaving[index] : index;
            benchmark::DoNotOptimize(places[next]->key);
            lists[plan.keys[next]].erase(places[next]);
        }
    }
    count(state, plan);
}

void sizes(benchmark::internal::Benchmark* benchmark) {
    for (const std::int64_t waiters : {100, 1'000, 10'000, 100'000}) {
        for (const std::int64_t keys : {1, 100}) {
            for (const Order order : {Order::in_order, Order::random}) {
                benchmark->Args({waiters, keys, static_cast<std::int64_t>(order)});
            }
        }
    }
    benchmark->ArgNames({"waiters", "keys", "random"});
}
BENCHMARK(queue_ours<&Queue::join_and_cancel>)->Name("cancel/ours")->Apply(sizes);
BENCHMARK(queue_list<true>)->Name("cancel/floor")->Apply(sizes);
BENCHMARK(queue_ours<&Queue::join_and_grant>)->Name("grant/ours")->Apply(sizes);
BENCHMARK(queue_list<false>)->Name("grant/floor")->Apply(sizes);

}  // namespace
}  // namespace residency::cost::queue_benchmark

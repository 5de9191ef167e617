#include "residency/runtime/executors.hpp"

#include "support/catch.hpp"
#include "support/threads.hpp"

#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <future>
#include <latch>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using namespace residency;
using residency::runtime::default_inference_threads;
using residency::runtime::OwnedThreads;
using residency::runtime::runs_in_this_thread;
using residency::test::threads_left;
using residency::test::threads_made;

TEST_CASE("Executors: all three or not complete") {
    asio::io_context context;
    CHECK_FALSE(Executors{}.complete());
    CHECK_FALSE((Executors{context.get_executor(), {}, {}}.complete()));
    const Executors all = Executors::all(context.get_executor());
    CHECK(all.complete());
    CHECK(all.control == all.inference);
    CHECK(all.control == all.loading);
}

TEST_CASE("OwnedThreads: as many threads as asked for, which run at once, and end when their work is done", "[H12]") {
    const auto context = std::make_shared<asio::io_context>();
    std::latch together(3);
    std::atomic<int> done = 0;
    {
        const OwnedThreads threads(context, 3, nullptr);
        CHECK_FALSE(threads.runs_in_this_thread());
        for (int thread = 0; thread < 3; ++thread) {
            asio::post(*threads.context(), [&] {
                // Returns only if three of these run at once.
                together.arrive_and_wait();
                ++done;
            });
        }
    }
    CHECK(done == 3);
    CHECK(context.use_count() == 1);
}

TEST_CASE("OwnedThreads: what a handler throws is reported on its thread, which goes on", "[H12]") {
    std::promise<std::string> reported;
    std::promise<void> next;
    {
        const OwnedThreads threads(std::make_shared<asio::io_context>(), 1, [&](const std::exception_ptr& thrown) {
            try {
                std::rethrow_exception(thrown);
            } catch (const std::exception& error) {
                reported.set_value(error.what());
            }
        });
        asio::post(*threads.context(), [] { throw std::runtime_error("out of a handler"); });
        asio::post(*threads.context(), [&] { next.set_value(); });
        CHECK(reported.get_future().get() == "out of a handler");
        next.get_future().get();
    }
}

TEST_CASE("OwnedThreads: what a handler throws is passed over where nobody wants to know", "[H12]") {
    std::promise<void> next;
    const OwnedThreads threads(std::make_shared<asio::io_context>(), 1, nullptr);
    asio::post(*threads.context(), [] { throw std::runtime_error("out of a handler"); });
    asio::post(*threads.context(), [&] { next.set_value(); });
    next.get_future().get();
}

TEST_CASE("OwnedThreads: detached, they end by themselves and keep their context until then", "[H12]") {
    std::weak_ptr<asio::io_context> watched;
    std::promise<void> goes_on;
    std::promise<void> at_work;
    std::atomic<bool> finished = false;
    {
        const auto context = std::make_shared<asio::io_context>();
        watched = context;
        OwnedThreads threads(context, 1, nullptr);
        asio::post(*threads.context(), [&] {
            at_work.set_value();
            goes_on.get_future().get();
            finished = true;
        });
        at_work.get_future().get();
        threads.detach();
    }
    CHECK_FALSE(watched.expired());
    CHECK_FALSE(finished);
    goes_on.set_value();
    while (!watched.expired()) {
        std::this_thread::yield();
    }
    CHECK(finished);
}

TEST_CASE("OwnedThreads: know their own", "[H12]") {
    const OwnedThreads threads(std::make_shared<asio::io_context>(), 2, nullptr);
    std::promise<bool> there;
    asio::post(*threads.context(), [&] { there.set_value(threads.runs_in_this_thread()); });
    CHECK(there.get_future().get());
    CHECK_FALSE(threads.runs_in_this_thread());
}

TEST_CASE("OwnedThreads: where a thread cannot be made, those that were end, and it is said", "[H12]") {
    for (int possible = 0; possible < 3; ++possible) {
        const auto context = std::make_shared<asio::io_context>();
        threads_made = 0;
        threads_left = possible;
        CHECK_THROWS_AS(OwnedThreads(context, 3, nullptr), std::system_error);
        threads_left = -1;
        CHECK(threads_made == possible);
        CHECK(context.use_count() == 1);
    }
}

TEST_CASE("default_inference_threads: four or as many as leases, but no more than the processor has") {
    const std::size_t processors = std::max<std::size_t>(1, std::thread::hardware_concurrency());
    CHECK(default_inference_threads(1) == std::min<std::size_t>(4, processors));
    CHECK(default_inference_threads(10) == std::min<std::size_t>(10, processors));
    CHECK(default_inference_threads(1'000'000) == processors);
}

TEST_CASE("runs_in_this_thread: a strand runs where that runs which it is made of", "[H15]") {
    asio::io_context context;
    asio::thread_pool pool(1);
    const std::vector<asio::any_io_executor> of_context{
        asio::make_strand(context), asio::make_strand(asio::any_io_executor(context.get_executor())),
        asio::make_strand(asio::any_io_executor(asio::make_strand(context)))};
    const std::vector<asio::any_io_executor> of_pool{asio::make_strand(pool),
                                                     asio::make_strand(asio::any_io_executor(pool.get_executor()))};
    const auto running = [](const std::vector<asio::any_io_executor>& strands) {
        return std::count_if(strands.begin(), strands.end(), &runs_in_this_thread);
    };
    CHECK(running(of_context) == 0);
    CHECK(running(of_pool) == 0);
    // Not within the strands: their work could not begin all the same.
    asio::post(context, [&] {
        CHECK(running(of_context) == 3);
        CHECK(running(of_pool) == 0);
    });
    context.run();
    std::promise<std::ptrdiff_t> in_pool;
    asio::post(pool, [&] { in_pool.set_value(running(of_pool)); });
    CHECK(in_pool.get_future().get() == 2);
    pool.join();
}

TEST_CASE("runs_in_this_thread: knows io_context and thread_pool, and claims nothing of others", "[H15]") {
    asio::io_context context;
    asio::thread_pool pool(1);
    CHECK_FALSE(runs_in_this_thread(context.get_executor()));
    CHECK_FALSE(runs_in_this_thread(pool.get_executor()));
    CHECK_FALSE(runs_in_this_thread(asio::any_io_executor()));
    bool in_context = false;
    bool other = true;
    asio::post(context, [&] {
        in_context = runs_in_this_thread(context.get_executor());
        other = runs_in_this_thread(pool.get_executor());
    });
    context.run();
    CHECK(in_context);
    CHECK_FALSE(other);
    std::promise<bool> in_pool;
    asio::post(pool, [&] { in_pool.set_value(runs_in_this_thread(pool.get_executor())); });
    CHECK(in_pool.get_future().get());
    pool.join();
}

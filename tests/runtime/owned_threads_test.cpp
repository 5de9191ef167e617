#include "residency/runtime/owned_threads.hpp"

#include "support/catch.hpp"
#include "support/last_words.hpp"
#include "support/threads.hpp"

#include <boost/asio/post.hpp>

#include <atomic>
#include <cfenv>
#include <cmath>
#include <cstddef>
#include <exception>
#include <functional>
#include <future>
#include <iostream>
#include <latch>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace owned_threads_test {

namespace asio = boost::asio;
using OwnedThreads = residency::runtime::OwnedThreads<std::function<void(std::exception_ptr, std::size_t)>>;
using residency::test::last_words_of_exception;
using residency::test::threads_left;
using residency::test::threads_made;

namespace {

std::shared_ptr<OwnedThreads> start(const std::vector<std::size_t>& counts) {
    const auto threads = std::make_shared<OwnedThreads>(counts);
    threads->start([](const std::exception_ptr&, std::size_t) {});
    return threads;
}

// A host that rounds upward and, where the C library can do so, has a signal for each 0/0, 1/0 and overflow; until this
// goes.
class HostWithTraps {
public:
    HostWithTraps() {
        std::fegetenv(&before_);
        std::fesetround(FE_UPWARD);
#if defined(__GLIBC__) && defined(__x86_64__)
        ::feenableexcept(FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW);
#endif
    }
    ~HostWithTraps() { std::fesetenv(&before_); }
    HostWithTraps(const HostWithTraps&) = delete;
    HostWithTraps& operator=(const HostWithTraps&) = delete;

private:
    std::fenv_t before_{};
};

}  // namespace

TEST_CASE("OwnedThreads: each thread has the default floating-point environment, whatever its maker has", "[H12]") {
    std::latch together(3);
    std::atomic<int> as_usual = 0;
    std::shared_ptr<OwnedThreads> threads;
    {
        const HostWithTraps host;
        threads = start({2, 1});
        CHECK(std::fegetround() == FE_UPWARD);
    }
    const auto compute = [&] {
        together.arrive_and_wait();  // On a thread of its own each.
        const volatile double zero = 0.0;
        const volatile double one = 1.0;
        const volatile double tiny = 1e-30;
        const bool nearest = std::fegetround() == FE_TONEAREST && one + tiny == one;
        if (nearest && std::isnan(zero / zero) && std::isinf(one / zero)) {
            ++as_usual;
        }
    };
    for (const std::size_t pool : {0U, 0U, 1U}) {
        asio::post(threads->executor(pool), compute);
    }
    threads->end_and_join();
    CHECK(as_usual == 3);
}

TEST_CASE("OwnedThreads: a pool has as many threads as asked for, which run at once", "[H12]") {
    std::latch together(3);
    std::atomic<int> done = 0;
    const auto threads = start({3});
    CHECK_FALSE(threads->runs_in_this_thread());
    for (int thread = 0; thread < 3; ++thread) {
        asio::post(threads->executor(0), [&] {
            // Returns only if three of these run at once.
            together.arrive_and_wait();
            ++done;
        });
    }
    threads->end_and_join();
    CHECK(done == 3);
}

TEST_CASE("OwnedThreads: a pool does what those before it post until their last thread has returned", "[H12][R12]") {
    std::vector<int> order;
    const auto threads = start({2, 1, 1});
    std::promise<void> goes_on;
    asio::post(threads->executor(0), [&, waits = goes_on.get_future().share()] {
        waits.get();
        order.push_back(0);
        asio::post(threads->executor(1), [&] {
            order.push_back(1);
            asio::post(threads->executor(2), [&] { order.push_back(2); });
        });
    });
    // Ends only when the first pool's work is done, which it is not before this.
    std::thread releases([&] { goes_on.set_value(); });
    threads->end_and_join();
    releases.join();
    CHECK(order == std::vector<int>{0, 1, 2});
}

TEST_CASE("OwnedThreads: what is called before a pool ends may still post to it, and runs where joining waits for it",
          "[H12][R12]") {
    const auto threads = start({2, 1, 1});
    bool here = false;
    bool done = false;
    threads->end_and_join(1, [&] {
        here = threads->runs_in_this_thread();
        asio::post(threads->executor(1), [&] { asio::post(threads->executor(2), [&] { done = true; }); });
    });
    CHECK(done);
    CHECK_FALSE(here);
}

TEST_CASE("OwnedThreads: detached on one of themselves, they end in their order and then are gone", "[H12]") {
    std::weak_ptr<OwnedThreads> watched;
    std::promise<void> goes_on;
    std::promise<void> detached;
    std::atomic<int> finished = 0;
    {
        auto threads = start({1, 1});
        watched = threads;
        asio::post(threads->executor(0), [&, waits = goes_on.get_future().share(), next = threads->executor(1)] {
            watched.lock()->end_and_detach();
            detached.set_value();
            waits.get();
            ++finished;
            asio::post(next, [&] { ++finished; });
        });
        detached.get_future().get();
    }
    CHECK_FALSE(watched.expired());
    goes_on.set_value();
    while (!watched.expired()) {
        std::this_thread::yield();
    }
    CHECK(finished == 2);
}

TEST_CASE("OwnedThreads: an exception ends the process, after it was reported with the pool that it left", "[H12]") {
    const std::string words = last_words_of_exception([] {
        const auto threads = std::make_shared<OwnedThreads>(std::vector<std::size_t>{1, 1});
        threads->start([](const std::exception_ptr&, std::size_t pool) { std::cerr << "pool " << pool << std::endl; });
        asio::post(threads->executor(1), [] { throw std::runtime_error("out of the handler"); });
        threads->end_and_join();
    });
    CHECK(words == "pool 1\nterminate: out of the handler\n");
}

TEST_CASE("OwnedThreads: know their own", "[H12]") {
    const auto threads = start({1, 2});
    std::promise<bool> there;
    asio::post(threads->executor(1), [&] { there.set_value(threads->runs_in_this_thread()); });
    CHECK(there.get_future().get());
    CHECK_FALSE(threads->runs_in_this_thread());
    threads->end_and_join();
}

TEST_CASE("OwnedThreads: where a thread cannot be made, those that were end, and the constructor says so", "[H12]") {
    for (int possible = 0; possible < 4; ++possible) {
        std::weak_ptr<OwnedThreads> watched;
        {
            const auto threads = std::make_shared<OwnedThreads>(std::vector<std::size_t>{2, 1, 1});
            watched = threads;
            threads_made = 0;
            threads_left = possible;
            CHECK_THROWS_AS(threads->start([](const std::exception_ptr&, std::size_t) {}), std::system_error);
            threads_left = -1;
            CHECK(threads_made == possible);
        }
        CHECK(watched.expired());
    }
}

}  // namespace owned_threads_test

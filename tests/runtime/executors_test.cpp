#include "residency/runtime/executors.hpp"

#include "support/catch.hpp"

#include <boost/asio/post.hpp>
#include <boost/asio/require.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>

#include <algorithm>
#include <cstddef>
#include <future>
#include <vector>

namespace executors_test {

namespace asio = boost::asio;
using namespace residency;
using residency::runtime::default_max_calls;
using residency::runtime::runs_in_this_thread;

TEST_CASE("Executors: complete with control, inference and loading") {
    asio::io_context context;
    CHECK_FALSE(Executors{}.complete());
    CHECK_FALSE((Executors{context.get_executor(), {}, {}}.complete()));
    CHECK((Executors{context.get_executor(), context.get_executor(), context.get_executor()}.complete()));
    const Executors all = Executors::all(context.get_executor());
    CHECK(all.complete());
    CHECK(all.control == all.inference);
    CHECK(all.control == all.loading);
    CHECK(all.control == all.callbacks);
}

TEST_CASE("default_max_calls: one for each processor that may be used, but no more than leases", "[H27]") {
    const std::size_t processors = usable_processors();
    CHECK(default_max_calls(1) == 1);
    CHECK(default_max_calls(10) == std::min<std::size_t>(10, processors));
    CHECK(default_max_calls(1'000'000) == processors);
}

TEST_CASE("runs_in_this_thread: an executor is known whatever it was required to do", "[H15]") {
    asio::io_context context;
    const auto plain = context.get_executor();
    const auto tracked = asio::require(plain, asio::execution::outstanding_work.tracked);
    const auto never = asio::require(plain, asio::execution::blocking.never);
    const auto all = asio::require(asio::require(tracked, asio::execution::blocking.never),
                                   asio::execution::relationship.continuation);
    const std::vector<asio::any_io_executor> executors{
        plain,
        tracked,
        never,
        all,
        asio::make_strand(tracked),
        asio::require(asio::make_strand(plain), asio::execution::blocking.never),
        asio::make_strand(asio::any_io_executor(all))};
    const auto running = [&] { return std::count_if(executors.begin(), executors.end(), &runs_in_this_thread); };
    CHECK(running() == 0);
    std::ptrdiff_t inside = 0;
    asio::post(context, [&] { inside = running(); });
    context.poll();
    CHECK(inside == std::ssize(executors));
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

}  // namespace executors_test

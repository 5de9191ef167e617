#include "residency/runtime/completion.hpp"
#include "residency/runtime/blocking_call.hpp"

#include "support/associated.hpp"
#include "support/catch.hpp"

#include <boost/asio/any_completion_executor.hpp>
#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/require.hpp>

#include <chrono>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

namespace completion_test {

namespace asio = boost::asio;
using namespace residency::runtime;
using residency::test::AllocatorCounts;
using residency::test::CountingAllocator;

namespace {

const int an_owner = 0;
const void* const owner = &an_owner;

// Has a handler called with results, as an operation does that kept its executor busy.
template <class... Results, class Handler, class... Arguments>
void complete_pending(const Delivery& delivery, Handler handler, Arguments&&... results) {
    HandlerWork<Handler> work = work_for(handler, delivery);
    complete<Results...>(delivery, std::move(work), std::move(handler), std::forward<Arguments>(results)...);
}

}  // namespace

TEST_CASE("UserCodeScope: marks this thread, for its owner alone, for as long as it exists", "[H15]") {
    const int another = 0;
    CHECK_FALSE(UserCodeScope::active(owner));
    {
        const UserCodeScope outer(owner);
        CHECK(UserCodeScope::active(owner));
        CHECK_FALSE(UserCodeScope::active(&another));
        {
            const UserCodeScope inner(&another);
            CHECK(UserCodeScope::active(owner));
            CHECK(UserCodeScope::active(&another));
        }
        CHECK_FALSE(UserCodeScope::active(&another));
        bool elsewhere = true;
        std::thread([&elsewhere] { elsewhere = UserCodeScope::active(owner); }).join();
        CHECK_FALSE(elsewhere);
    }
    CHECK_FALSE(UserCodeScope::active(owner));
}

TEST_CASE("complete: posts to callbacks, or to the handler's own executor, and only callbacks are the owner's",
          "[H15][H16]") {
    asio::io_context callbacks;
    asio::io_context own;
    const Delivery delivery{callbacks.get_executor(), callbacks.get_executor(), owner};
    std::string calls;
    complete_pending<int>(
        delivery,
        [&](int value) {
            calls += "callbacks " + std::to_string(value) + ";";
            CHECK(UserCodeScope::active(owner));
        },
        1);
    complete_pending<std::string>(delivery,
                                  asio::bind_executor(own,
                                                      [&](const std::string& value) {
                                                          calls += "own " + value + ";";
                                                          CHECK_FALSE(UserCodeScope::active(owner));
                                                      }),
                                  "two");
    CHECK(calls.empty());
    CHECK(own.poll() == 1);
    CHECK(calls == "own two;");
    CHECK(callbacks.poll() == 1);
    CHECK(calls == "own two;callbacks 1;");
    CHECK_FALSE(UserCodeScope::active(owner));
}

TEST_CASE("complete: an executor that cannot be posted to is reached through control, which calls no handler",
          "[R16][H21]") {
    asio::io_context control;
    asio::io_context callbacks;
    asio::io_context own;
    const Delivery delivery{callbacks.get_executor(), control.get_executor(), owner};
    int calls = 0;
    complete_pending<>(delivery, asio::bind_executor(asio::any_completion_executor(own.get_executor()), [&] {
                           ++calls;
                           CHECK(own.get_executor().running_in_this_thread());
                       }));
    CHECK(own.poll() == 0);
    CHECK(control.poll() == 1);
    CHECK(calls == 0);
    own.restart();
    CHECK(own.poll() == 1);
    CHECK(calls == 1);
    CHECK(callbacks.poll() == 0);

    // The system's executor would call it on control's own thread.
    std::promise<std::thread::id> called;
    complete_pending<>(delivery, asio::bind_executor(asio::any_completion_executor(asio::system_executor()),
                                                     [&] { called.set_value(std::this_thread::get_id()); }));
    CHECK(called.get_future().get() != std::this_thread::get_id());
    control.restart();
    CHECK(control.poll() == 0);
}

TEST_CASE("HandlerWork: keeps the handler's executor busy until its completion has been posted", "[H16]") {
    asio::io_context own;
    const Delivery delivery{own.get_executor(), own.get_executor(), owner};
    int calls = 0;
    auto handler = [&calls] { ++calls; };
    HandlerWork<decltype(handler)> work = work_for(handler, delivery);
    CHECK(own.poll() == 0);
    CHECK_FALSE(own.stopped());
    complete<>(delivery, std::move(work), handler);
    CHECK(own.run() == 1);
    CHECK(calls == 1);
}

TEST_CASE("HandlerWork: an executor that counts as work itself is let go before its handler is called", "[H16]") {
    auto own = std::make_unique<asio::io_context>();
    asio::io_context callbacks;
    const Delivery delivery{callbacks.get_executor(), callbacks.get_executor(), owner};
    int calls = 0;
    complete_pending<>(
        delivery, asio::bind_executor(asio::require(own->get_executor(), asio::execution::outstanding_work.tracked),
                                      [&] { ++calls; }));
    // Returns, so nothing counts as work any more.
    CHECK(own->run() == 1);
    CHECK(calls == 1);
}

TEST_CASE("Completion: clears the cancellation slot just before it calls", "[H16]") {
    asio::io_context context;
    const Delivery delivery{context.get_executor(), context.get_executor(), owner};
    asio::cancellation_signal signal;
    bool had_handler = true;
    signal.slot().assign([](asio::cancellation_type) {});
    complete_pending<>(delivery,
                       asio::bind_cancellation_slot(signal.slot(), [&] { had_handler = signal.slot().has_handler(); }));
    CHECK(signal.slot().has_handler());
    CHECK(context.poll() == 1);
    CHECK_FALSE(had_handler);
}

TEST_CASE("Completion: a handler that throws leaves its context, and the mark is taken off", "[H12]") {
    asio::io_context context;
    const Delivery delivery{context.get_executor(), context.get_executor(), owner};
    complete_pending<>(delivery, [] { throw std::runtime_error("out"); });
    CHECK_THROWS_WITH(context.poll(), "out");
    CHECK_FALSE(UserCodeScope::active(owner));
}

TEST_CASE("KeptHandler: uses the handler's allocator, and gives the memory back when it is taken", "[R9]") {
    AllocatorCounts counts;
    int calls = 0;
    auto handler = asio::bind_allocator(CountingAllocator<>(counts), [&] { ++calls; });
    {
        KeptHandler<decltype(handler)> kept(std::move(handler));
        CHECK(counts.live == 1);
        auto taken = kept.take();
        CHECK(counts.live == 0);
        taken();
    }
    CHECK(calls == 1);
    auto another =
        asio::bind_allocator(CountingAllocator<>(counts), [alive = std::make_shared<int>()] { (void)alive; });
    {
        // Destroyed uncalled.
        const KeptHandler<decltype(another)> kept(std::move(another));
        CHECK(counts.live == 1);
    }
    CHECK(counts.live == 0);
    CHECK(counts.allocations == 2);
}

TEST_CASE("KeptHandler: without an allocator of its own it is kept in place", "[R9]") {
    auto alive = std::make_shared<int>(7);
    auto handler = [alive] { return *alive; };
    {
        KeptHandler<decltype(handler)> kept(std::move(handler));
        CHECK((*kept)() == 7);
        auto taken = kept.take();
        CHECK(taken() == 7);
        CHECK(alive.use_count() == 2);
    }
    CHECK(alive.use_count() == 1);
}

TEST_CASE("BlockingCall: waits for its handler, on whichever thread that is called") {
    BlockingCall<std::string> call;
    std::thread caller([handler = call.handler()]() mutable { std::move(handler)(nullptr, "answer"); });
    CHECK(call.wait() == "answer");
    caller.join();
}

TEST_CASE("BlockingCall: throws what the handler is given") {
    BlockingCall<int> call;
    call.handler()(std::make_exception_ptr(std::runtime_error("failed")));
    CHECK_THROWS_WITH(call.wait(), "failed");
}

TEST_CASE("BlockingCall: a handler that is destroyed uncalled does not leave its thread waiting", "[H11]") {
    BlockingCall<int> call;
    std::thread dropper([handler = call.handler()] { (void)handler; });
    CHECK_THROWS_AS(call.wait(), std::runtime_error);
    dropper.join();
}

TEST_CASE("BlockingCall: waits no longer than its timeout, and goes on waiting when it is asked again", "[H14]") {
    BlockingCall<int> call;
    auto handler = call.handler();
    CHECK_FALSE(call.wait_until(std::chrono::steady_clock::time_point::min()));
    std::move(handler)(nullptr, 3);
    CHECK(call.wait_until(std::chrono::steady_clock::time_point::min()));
    CHECK(call.wait() == 3);
}

TEST_CASE("BlockingCall: its handler is called at once, not posted: it only wakes a thread") {
    asio::io_context context;
    const Delivery delivery{context.get_executor(), context.get_executor(), owner};
    BlockingCall<int> call;
    complete_pending<std::exception_ptr, int>(delivery, call.handler(), nullptr, 5);
    CHECK(call.wait() == 5);
    CHECK(context.poll() == 0);
}

}  // namespace completion_test

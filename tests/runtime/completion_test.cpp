#include "residency/runtime/completion.hpp"

#include "support/associated.hpp"
#include "support/catch.hpp"

#include <boost/asio/any_completion_executor.hpp>
#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>

#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

namespace asio = boost::asio;
using namespace residency::runtime;
using residency::test::AllocatorCounts;
using residency::test::CountingAllocator;

TEST_CASE("UserCodeScope: marks this thread for as long as it lives", "[H15]") {
    CHECK_FALSE(UserCodeScope::active());
    {
        const UserCodeScope outer;
        CHECK(UserCodeScope::active());
        {
            const UserCodeScope inner;
            CHECK(UserCodeScope::active());
        }
        CHECK(UserCodeScope::active());
        bool elsewhere = true;
        std::thread([&elsewhere] { elsewhere = UserCodeScope::active(); }).join();
        CHECK_FALSE(elsewhere);
    }
    CHECK_FALSE(UserCodeScope::active());
}

TEST_CASE("complete: posts to control, or to the handler's own executor, and marks the call", "[H15][H16]") {
    asio::io_context control;
    asio::io_context own;
    std::string calls;
    bool marked = true;
    complete<int>(
        control.get_executor(), Way::control,
        [&](int value) {
            calls += "control " + std::to_string(value) + ";";
            marked = marked && UserCodeScope::active();
        },
        1);
    complete<std::string>(control.get_executor(), Way::control,
                          asio::bind_executor(own,
                                              [&](const std::string& value) {
                                                  calls += "own " + value + ";";
                                                  marked = marked && UserCodeScope::active();
                                              }),
                          "two");
    CHECK(calls.empty());
    CHECK(own.poll() == 1);
    CHECK(calls == "own two;");
    CHECK(control.poll() == 1);
    CHECK(calls == "own two;control 1;");
    CHECK(marked);
    CHECK_FALSE(UserCodeScope::active());
}

TEST_CASE("complete: an executor that cannot be posted to is reached through control, or without it if that is gone",
          "[H11][H21]") {
    auto control = std::make_unique<asio::io_context>();
    asio::io_context own;
    int calls = 0;
    const auto handler = asio::bind_executor(asio::any_completion_executor(own.get_executor()), [&] {
        ++calls;
        CHECK(own.get_executor().running_in_this_thread());
    });
    const asio::any_io_executor executor = control->get_executor();
    complete<>(executor, Way::control, handler);
    CHECK(own.poll() == 0);
    CHECK(control->poll() == 1);
    own.restart();
    CHECK(own.poll() == 1);
    CHECK(calls == 1);
    control.reset();
    complete<>(executor, Way::system_executor, handler);
    CHECK(calls == 1);
    own.restart();
    // By way of one of Asio's own threads.
    CHECK(own.run() == 1);
    CHECK(calls == 2);
    complete<>(executor, Way::at_once, handler);
    CHECK(calls == 2);
    own.restart();
    CHECK(own.poll() == 1);
    CHECK(calls == 3);
}

TEST_CASE("Completion: clears the cancellation slot just before it calls", "[H16]") {
    asio::io_context control;
    asio::cancellation_signal signal;
    bool had_handler = true;
    signal.slot().assign([](asio::cancellation_type) {});
    complete<>(control.get_executor(), Way::control,
               asio::bind_cancellation_slot(signal.slot(), [&] { had_handler = signal.slot().has_handler(); }));
    CHECK(signal.slot().has_handler());
    CHECK(control.poll() == 1);
    CHECK_FALSE(had_handler);
}

TEST_CASE("Completion: a handler that throws leaves its context, and the mark is taken off", "[H12]") {
    asio::io_context control;
    complete<>(control.get_executor(), Way::control, [] { throw std::runtime_error("out"); });
    CHECK_THROWS_WITH(control.poll(), "out");
    CHECK_FALSE(UserCodeScope::active());
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

TEST_CASE("BlockingCall: its handler is called at once, not posted: it only wakes a thread") {
    asio::io_context control;
    BlockingCall<int> call;
    complete<std::exception_ptr, int>(control.get_executor(), Way::control, call.handler(), nullptr, 5);
    CHECK(call.wait() == 5);
    CHECK(control.poll() == 0);
}

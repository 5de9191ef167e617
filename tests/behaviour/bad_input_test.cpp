// What users get wrong, and what backends, models, observers and handlers do that they should not: each is answered,
// and harms nothing else.

#include "residency/model_manager.hpp"

#include "support/bench.hpp"
#include "support/catch.hpp"
#include "support/last_words.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>

#include <chrono>
#include <functional>
#include <future>
#include <iostream>
#include <limits>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace residency::test::bad_input_test {

namespace {

using namespace std::chrono_literals;

// Another request goes on as if nothing had happened.
void check_harmless(ManagerBench& bench, const ModelKey& key) {
    auto answer = bench.embed(key);
    bench.run();
    REQUIRE(answer.calls() == 1);
    CHECK(answer.value().size() == 1);
}

std::string refused(const SlotOptions& options) {
    try {
        const SlotBench bench(options);
    } catch (const std::invalid_argument& error) {
        return error.what();
    }
    return "accepted";
}

TEST_CASE("bad input: an empty key name is invalid_request for every call, and loads nothing", "[bad_input]") {
    ManagerBench bench;
    auto embed = bench.embed("");
    auto rerank = bench.rerank("");
    auto acquire = bench.acquire("");
    auto ensure = bench.ensure("");
    auto unload = bench.unload("");
    CHECK(embed.calls() == 0);
    bench.run();
    CHECK(embed.code() == errc::invalid_request);
    CHECK(rerank.code() == errc::invalid_request);
    CHECK(acquire.code() == errc::invalid_request);
    CHECK(ensure.code() == errc::invalid_request);
    CHECK(unload.code() == errc::invalid_request);
    CHECK(embed.error().stage() == Stage::admission);
    CHECK(bench.world->counts().loads == 0);
    check_harmless(bench, a);
    bench.finish(6);
}

TEST_CASE("bad input: a key of 1 MiB is invalid_request, and its message stays short", "[bad_input]") {
    ManagerBench bench;
    auto name = bench.embed(ModelKey(std::string(1 << 20, 'k')));
    auto quantization = bench.acquire(ModelKey("k", std::string(1 << 20, 'q')));
    auto longest = bench.embed(ModelKey(std::string(ModelKey::max_part_length, 'k')));
    bench.run();
    CHECK(name.code() == errc::invalid_request);
    CHECK(std::string(name.error().what()).size() < 400);
    CHECK(quantization.code() == errc::invalid_request);
    CHECK(longest.value().size() == 1);
    check_harmless(bench, a);
    bench.finish(4);
}

TEST_CASE("bad input: an empty query is invalid_request, also without documents", "[bad_input]") {
    ManagerBench bench;
    Outcome<Ranking> some;
    Outcome<Ranking> none;
    bench.manager->async_rerank(a, "", {"document"}, bench.handlers.count(some.handler()));
    bench.manager->async_rerank(a, "", {}, bench.handlers.count(none.handler()));
    bench.run();
    CHECK(some.code() == errc::invalid_request);
    CHECK(none.code() == errc::invalid_request);
    CHECK(bench.world->counts().loads == 0);
    bench.finish(2);
}

TEST_CASE("bad input: options that cannot be are refused by the constructor, which names the field", "[bad_input]") {
    constexpr auto huge = std::numeric_limits<std::size_t>::max();
    const auto names = [](const SlotOptions& options, const std::string& field) {
        const std::string message = refused(options);
        INFO(message);
        CHECK(message.find('.' + field + ' ') != std::string::npos);
    };
    names({.keep_alive = -1ms}, "keep_alive");
    names({.keep_alive = std::chrono::milliseconds::min()}, "keep_alive");
    names({.max_resident = 0}, "max_resident");
    names({.max_resident = huge}, "max_resident");
    names({.max_leases = 0}, "max_leases");
    names({.max_leases = huge}, "max_leases");
    names({.max_queue = 0}, "max_queue");
    names({.max_queue = huge}, "max_queue");
    names({.cooldown = -1ms}, "cooldown");
    names({.cooldown = 2s, .max_cooldown = 1s}, "max_cooldown");
    names({.max_cooldown = -1ms}, "max_cooldown");
    names({.aging = -1ms}, "aging");
    CHECK(refused({}) == "accepted");
}

TEST_CASE("bad input: the largest times overflow nothing, and zero is zero", "[bad_input]") {
    constexpr auto most = std::chrono::milliseconds::max();
    SlotBench bench({.keep_alive = most, .cooldown = most, .max_cooldown = most, .aging = most});
    bench.use(a, {.timeout = most, .keep_alive = most});
    VirtualClock::advance(std::chrono::hours(24 * 365));
    bench.run();
    CHECK(bench.only_resident().state == ResidentState::ready);
    bench.finish(1);

    SlotBench zero({.keep_alive = 0ms, .cooldown = 0ms, .max_cooldown = 0ms, .aging = 0ms});
    zero.world->fail_next(FakeStep::load, a, std::runtime_error("no"));
    auto failed = zero.acquire(a);
    zero.run();
    CHECK(failed.code() == errc::load_failed);
    zero.use(a);
    CHECK(zero.slot->status().residents.empty());
    zero.finish(2);
}

TEST_CASE("bad input: a request's options that cannot be are invalid_request", "[bad_input]") {
    SlotBench bench;
    auto keep_alive = bench.acquire(a, {.keep_alive = -1ms});
    auto priority = bench.acquire(a, {.priority = static_cast<Priority>(7)});
    auto generation = bench.acquire(a, {.expected_generation = Generation(99)});
    bench.run();
    CHECK(keep_alive.code() == errc::invalid_request);
    CHECK_THAT(std::string(keep_alive.error().detail()), contains_text("RequestOptions::keep_alive is negative"));
    CHECK(priority.code() == errc::invalid_request);
    CHECK_THAT(std::string(priority.error().detail()), contains_text("RequestOptions::priority is none of"));
    CHECK(generation.code() == errc::model_changed);
    CHECK(bench.world->counts().loads == 0);
    bench.finish(3);
}

TEST_CASE("bad input: a NaN and a wrong number of rows are bad_result, and the next call works", "[bad_input][R9]") {
    for (const FakeFault fault : {FakeFault::nan, FakeFault::too_few, FakeFault::too_many}) {
        ManagerBench bench;
        bench.world->spoil_next(fault, a, 1);
        auto embed = bench.embed(a, {"one", "two"});
        bench.run();
        CHECK(embed.code() == errc::bad_result);
        CHECK(embed.code() == condition::backend);
        bench.world->spoil_next(fault, b, 1);
        auto rerank = bench.rerank(b);
        bench.run();
        CHECK(rerank.code() == errc::bad_result);
        check_harmless(bench, a);
        CHECK(bench.manager->status().embedding.leases == 0);
        bench.finish(3);
    }
}

TEST_CASE("bad input: a backend and a model that throw what is no std::exception", "[bad_input][R11]") {
    ManagerBench bench;
    bench.world->fail_next(FakeStep::load, a, 42);
    auto load = bench.embed(a);
    bench.run();
    CHECK(load.code() == errc::load_failed);
    int nested = 0;
    try {
        std::rethrow_exception(load.exception());
    } catch (const Error& error) {
        try {
            std::rethrow_if_nested(error);
        } catch (int thrown) {
            nested = thrown;
        }
    }
    CHECK(nested == 42);
    bench.world->fail_next(FakeStep::inference, b, 43);
    auto inference = bench.embed(b);
    bench.run();
    CHECK(inference.code() == errc::inference_failed);
    check_harmless(bench, b);
    bench.finish(3);
}

TEST_CASE("bad input: a load that gives null is load_failed, in words", "[bad_input][R11]") {
    ManagerBench bench;
    bench.world->spoil_next(FakeFault::null_model, a, 1);
    auto load = bench.embed(a);
    bench.run();
    CHECK(load.code() == errc::load_failed);
    CHECK(std::string(load.error().what()).find("null") != std::string::npos);
    check_harmless(bench, b);
    bench.finish(2);
}

TEST_CASE("bad input: an observer that throws at every event", "[bad_input][R10]") {
    auto world = std::make_shared<FakeWorld>();
    std::size_t seen = 0;
    {
        Contexts contexts;
        ModelSlot<FakeEmbeddingBackend, VirtualClock> slot{
            FakeEmbeddingBackend(world), {}, contexts.executors(), [&seen](const Event&) {
                ++seen;
                throw std::runtime_error("observer");
            }};
        Outcome<Generation> loaded;
        slot.async_ensure_loaded(a, loaded.handler());
        contexts.run();
        CHECK(loaded.value() == slot.generation());
        Outcome<ShutdownReport> report;
        slot.async_shutdown(report.handler());
        contexts.run();
        CHECK(report.value().clean());
    }
    CHECK(seen >= 5);
    check_at_rest(*world);
}

TEST_CASE("bad input: what an observer captured by reference is not used once its slot is gone", "[bad_input][H19]") {
    const auto seen_in_all = [](bool deliver_before_the_end) {
        std::size_t seen = 0;
        auto world = std::make_shared<FakeWorld>();
        Contexts contexts;
        {
            ModelSlot<FakeEmbeddingBackend, VirtualClock> slot{
                FakeEmbeddingBackend(world), {}, contexts.executors(), [&seen](const Event&) { ++seen; }};
            slot.async_ensure_loaded(a, [](std::exception_ptr, Generation) {});
            contexts.run();
            CHECK(seen == 2);
            slot.async_unload(a, [](std::exception_ptr) {});
            if (deliver_before_the_end) {
                contexts.run();
            }
        }
        contexts.run();
        check_at_rest(*world);
        return seen;
    };
    CHECK(seen_in_all(true) == 4);
    CHECK(seen_in_all(false) == 2);
}

TEST_CASE("bad input: a slot destroyed with leases alive frees nothing under them", "[bad_input][H11][R1]") {
    auto world = std::make_shared<FakeWorld>();
    ModelSlot<FakeEmbeddingBackend>::lease_type lease;
    {
        ModelSlot<FakeEmbeddingBackend> slot{FakeEmbeddingBackend(world)};
        lease = slot.acquire(a);
    }
    REQUIRE(lease);
    CHECK(lease->embed(std::vector<std::string>{"text"}).size() == 1);
    CHECK(world->counts().live == 1);
    lease.release();
    check_at_rest(*world);
}

TEST_CASE("bad input: a handler that throws leaves the host's run, and the slot is as if it had returned",
          "[bad_input][R9]") {
    SlotBench bench;
    bench.slot->async_ensure_loaded(a, [](std::exception_ptr, Generation) { throw std::runtime_error("handler"); });
    CHECK_THROWS_WITH(bench.run(), "handler");
    bench.use(a);
    bench.finish(1);
}

TEST_CASE(
    "bad input: a handler that lets its request's error go on ends the process, after an event that says all of it",
    "[bad_input][H12][H19]") {
    const std::string words = last_words_of_exception([] {
        auto world = std::make_shared<FakeWorld>();
        world->fail_next(FakeStep::load, a, std::runtime_error("no such file"));
        ModelSlot<FakeEmbeddingBackend> slot{FakeEmbeddingBackend(world), {}, {}, [&](const Event& event) {
                                                 if (event.type == EventType::handler_threw) {
                                                     std::cerr << event << std::endl;
                                                 }
                                             }};
        slot.async_ensure_loaded(a, [](std::exception_ptr error, Generation) {
            if (error) {
                std::rethrow_exception(error);
            }
        });
        // Ends when the process does.
        std::promise<void>().get_future().wait();
    });
    CHECK(words ==
          "handler_threw: residency: load_failed for 'a@f16' in stage load: no such file (try again after 1000 ms)\n"
          "terminate: residency: load_failed for 'a@f16' in stage load: no such file (try again after 1000 ms)\n");
}

TEST_CASE("bad input: a deadline in the past gets what can be had at once, and nothing else", "[bad_input]") {
    SlotBench bench;
    for (const auto timeout : {0ms, -1ms, -5'000ms, std::chrono::milliseconds::min()}) {
        auto late = bench.acquire(a, {.timeout = timeout});
        bench.run();
        CHECK(late.code() == errc::timed_out);
        CHECK(late.error().stage() == Stage::queue);
    }
    CHECK(bench.world->counts().loads == 0);
    bench.load(a);
    auto lease = bench.acquire(a, {.timeout = -1ms});
    bench.run();
    CHECK(lease.value());
    lease.value().release();
    bench.finish(6);
}

TEST_CASE("bad input: cancelling before the start and after the end does nothing", "[bad_input][R9]") {
    ManagerBench bench;
    asio::cancellation_signal signal;
    signal.emit(asio::cancellation_type::terminal);
    auto embed = bench.embed(a, {"text"}, {}, signal.slot());
    bench.run();
    signal.emit(asio::cancellation_type::terminal);
    bench.run();
    CHECK(embed.calls() == 1);
    CHECK(embed.value().size() == 1);
    bench.finish(1);
}

TEST_CASE("bad input: 10,000 texts in one call are one request", "[bad_input][R8]") {
    ManagerBench bench;
    auto embed = bench.embed(a, std::vector<std::string>(10'000, "text"));
    auto rerank = bench.rerank(a, std::vector<std::string>(10'000, "document"));
    bench.run();
    CHECK(embed.value().size() == 10'000);
    CHECK(rerank.value().size() == 10'000);
    CHECK(bench.manager->status().embedding.counters.leases_granted == 1);
    bench.finish(2);
}

TEST_CASE("bad input: every call after a shutdown is answered", "[bad_input][R12]") {
    ManagerBench bench;
    auto first = bench.shutdown();
    bench.run();
    CHECK(first.value().clean());
    auto embed = bench.embed(a);
    auto empty = bench.embed(a, {});
    auto rerank = bench.rerank(a);
    auto acquire = bench.acquire(a);
    auto ensure = bench.ensure(a);
    auto unload = bench.unload(a);
    auto again = bench.shutdown();
    CHECK_FALSE(bench.manager->embedding().try_acquire(a));
    bench.run();
    CHECK(embed.code() == errc::shutting_down);
    CHECK(empty.code() == errc::shutting_down);
    CHECK(rerank.code() == errc::shutting_down);
    CHECK(acquire.code() == errc::shutting_down);
    CHECK(ensure.code() == errc::shutting_down);
    CHECK_FALSE(unload.exception());
    CHECK(again.value().clean());
    bench.check_ended(8);
}

TEST_CASE("bad input: a blocking call on a thread of the library's throws would_deadlock instead of hanging",
          "[bad_input]") {
    ThreadedManager bench;
    auto& models = *bench.manager;
    Outcome<> done;
    std::vector<boost::system::error_code> codes;
    models.embedding().async_ensure_loaded(a, [&, finish = done.handler()](std::exception_ptr, Generation) mutable {
        const auto refuses = [&codes](const std::function<void()>& call) {
            try {
                call();
                codes.emplace_back();
            } catch (const Error& error) {
                codes.push_back(error.code());
            }
        };
        refuses([&] { (void)models.embed(a, {"text"}); });
        refuses([&] { (void)models.rerank(a, "query", {"document"}); });
        refuses([&] { (void)models.embedding().acquire(a); });
        refuses([&] { models.embedding().ensure_loaded(a); });
        refuses([&] { models.embedding().unload(a); });
        refuses([&] { models.embedding().unload(); });
        refuses([&] { models.shutdown(); });
        finish(nullptr);
    });
    done.wait();
    CHECK(codes == std::vector<boost::system::error_code>(7, make_error_code(errc::would_deadlock)));
    bench.finish(0);
}

}  // namespace

}  // namespace residency::test::bad_input_test

// S27 to S29: what models and observers do wrong. Then what else users, backends and handlers do that they should not:
// each is answered, and harms nothing else.

#include "support/bench.hpp"
#include "support/last_words.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <future>
#include <iostream>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace errors_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

// Another request goes on as if nothing had happened.
void check_harmless(ManagerBench& bench, const ModelKey& key) {
    auto answer = bench.embed(key);
    bench.run();
    REQUIRE(answer.calls() == 1);
    CHECK(answer.value().size() == 1);
}

}  // namespace

// -- 27 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S27: a model that throws fails that request, with the cause, and the next one works", "[S27][R9]") {
    ManagerBench bench;
    bench.world->fail_next(FakeStep::inference, a, std::runtime_error("token 30,000 is out of range"));
    bench.world->fail_next(FakeStep::inference, b, std::runtime_error("no logits"));
    const auto embed = bench.embed(a);
    const auto rerank = bench.rerank(b);
    bench.run();
    for (const Error& error : {embed.error(), rerank.error()}) {
        CHECK(error.code() == errc::inference_failed);
        CHECK(error.code() == condition::backend);
        CHECK(error.stage() == Stage::inference);
    }
    CHECK(embed.error().key() == a);
    CHECK(rerank.error().key() == b);
    CHECK_THAT(embed.error().what(), contains_text("token 30,000 is out of range"));
    CHECK(nested_message(embed.exception()) == "token 30,000 is out of range");
    CHECK(nested_message(rerank.exception()) == "no logits");
    CHECK(bench.events.count(EventType::inference_failed) == 2);

    const Generation generation = bench.manager->embedding().generation();
    auto again = bench.embed(a);
    auto again_too = bench.rerank(b);
    bench.run();
    REQUIRE(again.calls() == 1);
    CHECK(bench.world->model(testing::answered_by(again.value())).key == a);
    REQUIRE(again_too.calls() == 1);
    CHECK(again_too.value().size() == 2);
    // On the same models: a request that fails is no reason to load again.
    CHECK(bench.manager->embedding().generation() == generation);
    CHECK(bench.world->counts().loads == 2);
    CHECK(bench.manager->embedding().status().leases == 0);
    CHECK(bench.manager->embedding().status().failures.empty());
    bench.finish(4);
}

TEST_CASE("S27: what a model or a backend throws keeps its code if it has one, and may be anything", "[S27][R9][R11]") {
    ManagerBench bench;
    bench.world->fail_next(FakeStep::inference, a,
                           Error(errc::invalid_request, a, Stage::inference, "a text is longer than the context"));
    const auto own_code = bench.embed(a);
    bench.run();
    CHECK(own_code.code() == errc::invalid_request);
    CHECK_THAT(own_code.error().what(), contains_text("a text is longer than the context"));
    CHECK(own_code.error().stage() == Stage::inference);
    bench.world->fail_next(FakeStep::inference, a, 17);
    const auto no_exception = bench.embed(a);
    bench.run();
    CHECK(no_exception.code() == errc::inference_failed);
    CHECK(nested_message(no_exception.exception()) == "not a std::exception");
    bench.world->fail_next(FakeStep::load, b, 17);
    const auto load = bench.embed(b);
    bench.run();
    CHECK(load.code() == errc::load_failed);
    CHECK(nested_message(load.exception()) == "not a std::exception");
    check_harmless(bench, a);
    bench.finish(4);
}

TEST_CASE("S27: of threads that use one model, only those whose call throws see it", "[S27][R9][R10]") {
    ThreadedManager bench;
    // Held until all threads are done with it: TSan does not see the counts in libstdc++ by which threads share an
    // exception.
    const std::exception_ptr cause = std::make_exception_ptr(std::runtime_error("broken"));
    bench.world->fail_next(FakeStep::inference, a, cause, 20);
    std::atomic<int> failed{0};
    std::atomic<int> served{0};
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&] {
                for (int call = 0; call < 20; ++call) {
                    const boost::system::error_code code = code_of([&] { (void)bench.manager->embed(a, {"text"}); });
                    failed += code == errc::inference_failed ? 1 : 0;
                    served += code ? 0 : 1;
                }
            });
        }
    }
    CHECK(failed == 20);
    CHECK(served == 60);
    CHECK(bench.world->counts(a).loads == 1);
    bench.finish(0);
}

// -- 28 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S28: too few rows, too many, or a NaN are a bad result, and nothing else is harmed", "[S28][R9]") {
    const FakeFault fault = GENERATE(FakeFault::too_few, FakeFault::too_many, FakeFault::nan);
    ManagerBench bench;
    auto bystander = bench.acquire(a);
    bench.run();
    bench.world->spoil_next(fault, a);
    bench.world->spoil_next(fault, b);
    const auto embed = bench.embed(a, {"one", "two", "three"});
    const auto rerank = bench.rerank(b, {"one", "two", "three"});
    auto beside = bench.embed(a, {"one", "two", "three"});
    bench.run();
    for (const Error& error : {embed.error(), rerank.error()}) {
        CHECK(error.code() == errc::bad_result);
        CHECK(error.code() == condition::backend);
        CHECK(error.stage() == Stage::inference);
    }
    const std::string said = fault == FakeFault::nan ? "NaN" : fault == FakeFault::too_few ? "gave 2" : "gave 4";
    CHECK_THAT(embed.error().what(), contains_text(said));
    CHECK_THAT(rerank.error().what(), contains_text(said));
    REQUIRE(beside.calls() == 1);
    CHECK(beside.value().size() == 3);
    CHECK(testing::answered_by(beside.value()) == 1);

    auto again = bench.rerank(b, {"one", "two", "three"});
    bench.run();
    REQUIRE(again.calls() == 1);
    CHECK(again.value().size() == 3);
    CHECK(bystander.value()->serial() == 1);
    CHECK_FALSE(bystander.value().revoked());
    CHECK(bench.world->counts().loads == 2);
    CHECK(bench.manager->embedding().status().leases == 1);
    bystander.value().release();
    bench.finish(5);
}

TEST_CASE("S28: of threads that use one model, only those whose answer is bad see it", "[S28][R9]") {
    ThreadedManager bench;
    bench.world->spoil_next(FakeFault::too_few, a, 10);
    bench.world->spoil_next(FakeFault::nan, a, 10);
    std::atomic<int> bad{0};
    std::atomic<int> served{0};
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&] {
                for (int call = 0; call < 20; ++call) {
                    const boost::system::error_code code = code_of([&] {
                        (void)bench.manager->embed(a, {"one", "two"});
                    });
                    bad += code == errc::bad_result ? 1 : 0;
                    served += code ? 0 : 1;
                }
            });
        }
    }
    CHECK(bad == 20);
    CHECK(served == 60);
    CHECK(bench.world->counts(a).loads == 1);
    bench.finish(0);
}

// -- 29 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S29: an observer that throws harms no request, and gets all other events", "[S29][R10][H19]") {
    ManagerBench bench;
    const bool a_std_exception = GENERATE(true, false);
    bench.events.on_event([a_std_exception](const Event&) {
        if (a_std_exception) {
            throw std::runtime_error("the log is full");
        }
        throw 17;
    });
    const auto answer = bench.embed(a);
    bench.run();
    CHECK_FALSE(answer.exception());
    const auto unload = bench.unload(a);
    bench.run();
    CHECK(unload.calls() == 1);
    CHECK(bench.events.lines() ==
          Lines{"load_started a", "ready a", "unload_started a (unload)", "unloaded a (unload)"});
    bench.finish(2);
}

TEST_CASE("S29: an observer may call back into the manager, with what does not block", "[S29][R10]") {
    ManagerBench bench;
    std::vector<Outcome<FakeLease>> leases;
    std::vector<Outcome<>> unloads;
    std::vector<Outcome<Embeddings>> answers;
    std::vector<boost::system::error_code> blocking;
    bench.events.on_event([&](const Event& event) {
        (void)bench.manager->status();
        (void)bench.manager->embedding().generation();
        if (event.slot != "embedding") {
            return;
        }
        switch (event.type) {
            case EventType::load_started:
                leases.push_back(bench.acquire(event.key));
                answers.push_back(bench.embed(event.key));
                // One that blocks could wait for the very thread that the observer is on: it is refused.
                blocking.push_back(code_of([&] { (void)bench.manager->embed(event.key, {"text"}); }));
                blocking.push_back(code_of([&] { (void)bench.manager->embedding().acquire(event.key); }));
                blocking.push_back(code_of([&] { (void)bench.manager->embedding().ensure_loaded(event.key); }));
                blocking.push_back(code_of([&] { bench.manager->embedding().unload(); }));
                blocking.push_back(code_of([&] { (void)bench.manager->shutdown(); }));
                break;
            case EventType::ready:
                CHECK(bench.manager->embedding().try_acquire(event.key));
                unloads.push_back(bench.unload(event.key));
                break;
            case EventType::unload_started:
                // It is published before the model is gone.
                CHECK(bench.world->counts(event.key).live == 1);
                CHECK_FALSE(bench.manager->embedding().try_acquire(event.key));
                break;
            case EventType::unloaded: CHECK(bench.world->counts(event.key).live == 0); break;
            default: break;
        }
    });
    const auto first = bench.embed(a);
    bench.run();
    CHECK_FALSE(first.exception());
    REQUIRE(leases.size() == 1);
    REQUIRE(leases[0].calls() == 1);
    REQUIRE(unloads.size() == 1);
    CHECK(unloads[0].calls() == 0);
    REQUIRE(blocking.size() == 5);
    for (const auto& code : blocking) {
        CHECK(code == errc::would_deadlock);
    }
    leases[0].value().release();
    bench.run();
    CHECK(unloads[0].calls() == 1);
    REQUIRE(answers.size() == 1);
    CHECK_FALSE(answers[0].exception());
    CHECK(bench.world->counts(a).live == 0);
    bench.events.on_event({});
    bench.finish(4);
}

TEST_CASE("S29: an observer may shut the manager down", "[S29][R10][R12]") {
    ManagerBench bench;
    Outcome<ShutdownReport> report;
    bench.events.on_event([&](const Event& event) {
        if (event.type == EventType::load_started) {
            report = bench.shutdown();
        }
    });
    const auto answer = bench.embed(a);
    bench.run();
    REQUIRE(answer.calls() == 1);
    // Nothing waits for an observer: the answer was under way when the event came.
    CHECK_FALSE(answer.exception());
    REQUIRE(report.calls() == 1);
    CHECK(report.value().clean());
    const auto late = bench.embed(a);
    bench.run();
    CHECK(late.code() == errc::shutting_down);
    bench.events.on_event({});
    bench.check_ended(3);
}

TEST_CASE("S29: threads go on under an observer that throws and calls back", "[S29][R10]") {
    std::atomic<int> events{0};
    std::atomic<int> refused{0};
    std::atomic<ThreadedManager::Manager*> manager{nullptr};
    HandlerTally own;
    SlotOptions options;
    options.keep_alive = 0ms;
    ThreadedManager bench({.embedding = options, .reranker = options, .observer = [&](const Event& event) {
                               ++events;
                               if (ThreadedManager::Manager* const models = manager) {
                                   (void)models->status();
                                   (void)models->embedding().try_acquire(event.key);
                                   refused +=
                                       code_of([&] { models->embedding().unload(); }) == errc::would_deadlock ? 1 : 0;
                                   models->embedding().async_unload(own.count([](const std::exception_ptr&) {}));
                               }
                               throw std::runtime_error("the log is full");
                           }});
    manager = &*bench.manager;
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 3; ++thread) {
            threads.emplace_back([&, thread] {
                for (int call = 0; call < 20; ++call) {
                    if ((thread + call) % 2 == 0) {
                        (void)bench.manager->embed(a, {"text"});
                    } else {
                        (void)bench.manager->rerank(b, "query", {"document"});
                    }
                }
            });
        }
    }
    bench.manager->embedding().unload();
    bench.manager->reranker().unload();
    manager = nullptr;
    CHECK(bench.manager->shutdown().clean());
    bench.manager.reset();
    CHECK(events >= 4);
    CHECK(refused > 0);
    CHECK(own.ran() == own.made());
    bench.check_gone(0);
}

// -- What users get wrong ---------------------------------------------------------------------------------------------

namespace {

std::string refused(const SlotOptions& options) {
    try {
        const SlotBench bench(options);
    } catch (const std::invalid_argument& error) {
        return error.what();
    }
    return "accepted";
}

}  // namespace

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

TEST_CASE("bad input: options that cannot be are refused by the constructor, which names the field",
          "[bad_input][S17]") {
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

TEST_CASE("bad input: a request's options that cannot be are invalid_request", "[bad_input][S17]") {
    SlotBench bench;
    auto keep_alive = bench.acquire(a, {.keep_alive = -1ms});
    auto priority = bench.acquire(a, {.priority = static_cast<Priority>(7)});
    auto generation = bench.acquire(a, {.expected_generation = Generation(99)});
    auto load = bench.ensure(a, {.keep_alive = std::chrono::milliseconds::min()});
    bench.run();
    CHECK(load.code() == errc::invalid_request);
    CHECK(keep_alive.error().stage() == Stage::admission);
    CHECK(keep_alive.code() == errc::invalid_request);
    CHECK_THAT(std::string(keep_alive.error().detail()), contains_text("RequestOptions::keep_alive is negative"));
    CHECK(priority.code() == errc::invalid_request);
    CHECK_THAT(std::string(priority.error().detail()), contains_text("RequestOptions::priority is none of"));
    CHECK(generation.code() == errc::model_changed);
    CHECK(bench.world->counts().loads == 0);
    bench.finish(4);
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

// -- What ends the process --------------------------------------------------------------------------------------------

#if !defined(NDEBUG)

TEST_CASE("bad input: an empty lease that is used says so where asserts are on", "[bad_input]") {
    using EmptyLease = Lease<FakeEmbedder>;
    const std::vector<std::function<void(EmptyLease&)>> uses{
        [](EmptyLease& lease) { (*lease).embed({}); },    [](EmptyLease& lease) { lease->embed({}); },
        [](EmptyLease& lease) { (void)lease.key(); },     [](EmptyLease& lease) { (void)lease.generation(); },
        [](EmptyLease& lease) { (void)lease.revoked(); },
    };
    for (const auto& use : uses) {
        CHECK_THAT(last_words([&] {
                       EmptyLease lease;
                       use(lease);
                   }),
                   contains_text("residency: the lease is empty"));
    }
}

TEST_CASE("bad input: a row that Embeddings do not have says so where asserts are on", "[bad_input]") {
    CHECK_THAT(last_words([] { (void)Embeddings(2, 3)[2]; }), contains_text("residency: there is no such row"));
    CHECK_THAT(last_words([] {
                   const Embeddings none;
                   (void)none[0];
               }),
               contains_text("residency: there is no such row"));
}

#endif

namespace {

// Its destructor throws, although C++ has made it noexcept.
struct Unstable {
    int* broken = nullptr;
    ~Unstable() {
        if (broken == nullptr) {
            close_device();
        }
    }
    static void close_device() { throw std::runtime_error("cannot close the device"); }
};

struct UnstableBackend {
    using model_type = Unstable;
    std::unique_ptr<Unstable> load(const ModelKey&) { return std::make_unique<Unstable>(); }
};

}  // namespace

TEST_CASE("bad input: a model that throws in its destructor ends the process", "[bad_input][H18]") {
    const std::string words = last_words_of_exception([] {
        ModelSlot<UnstableBackend> slot{UnstableBackend()};
        slot.ensure_loaded("a");
        slot.unload("a");
    });
    CHECK(words == "terminate: cannot close the device\n");
}

// -- Messages that are too long: each is cut, wherever it goes --------------------------------------------------------

namespace {

constexpr std::size_t most = 4096;
constexpr std::size_t size = 100'000;
const std::string flood(size, 'e');

/// That it is a part of the flood, cut and marked.
void check_cut(const std::string& message) {
    CHECK(message.size() <= most);
    CHECK(message.size() > most / 2);
    CHECK(message.find("eee... (") != std::string::npos);
    CHECK(message.find(" bytes more)") != std::string::npos);
}

}  // namespace

TEST_CASE("bad input: a failed load's long message is cut in the errors, the event and the status", "[bad_input]") {
    SlotBench bench;
    bench.world->fail_next(FakeStep::load, a, std::runtime_error(flood));
    Outcome<Generation> first;
    Outcome<FakeLease> second;
    bench.slot->async_ensure_loaded(a, first.handler());
    bench.slot->async_acquire(a, second.handler());
    bench.run();
    check_cut(std::string(first.error().detail()));
    // One text for both.
    CHECK(second.error().what() == first.error().what());
    const std::vector<Event> failed = bench.events.all(EventType::load_failed);
    REQUIRE(failed.size() == 1);
    check_cut(failed[0].message);
    const SlotStatus status = bench.slot->status();
    REQUIRE(status.failures.size() == 1);
    check_cut(status.failures[0].message);
    bench.check_end();
}

TEST_CASE("bad input: a line of any length that a backend logs is cut", "[bad_input]") {
    SlotBench bench;
    bench.world->on(FakeStep::load, [](const FakeCall& call) { call.context->log(Severity::info, flood); });
    Outcome<Generation> loaded;
    bench.slot->async_ensure_loaded(a, loaded.handler());
    bench.run();
    CHECK(loaded.calls() == 1);
    const std::vector<Event> lines = bench.events.all(EventType::load_log);
    REQUIRE(lines.size() == 1);
    check_cut(lines[0].message);
    bench.check_end();
}

TEST_CASE("bad input: a failed inference's long message is cut in the error and the event", "[bad_input]") {
    ManagerBench bench;
    bench.world->fail_next(FakeStep::inference, a, std::runtime_error(flood));
    Outcome<Embeddings> answer;
    bench.manager->async_embed(a, {"text"}, answer.handler());
    bench.run();
    check_cut(std::string(answer.error().detail()));
    const std::vector<Event> failed = bench.events.all(EventType::inference_failed);
    REQUIRE(failed.size() == 1);
    check_cut(failed[0].message);
    bench.check_end();
}

}  // namespace errors_test

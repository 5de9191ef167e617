// S26, H3, H6, R8 and R15: which request is served first within a key, for a place and for a model's call; no request
// starves.

#include "support/bench.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <deque>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace priority_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;
using testing::Gate;

namespace {

const ModelKey a("a");
const ModelKey b("b");
const ModelKey c("c");
const ModelKey d("d");
const ModelKey e("e");

/// Leases in the order in which they are granted, each with its request's name.
class Grants {
public:
    explicit Grants(SlotBench& bench) : bench_(bench) {}

    void ask(const std::string& name, const ModelKey& key, Priority priority) {
        ++asked_;
        bench_.slot->async_acquire(key, {.priority = priority},
                                   [this, name](const std::exception_ptr& error, FakeLease lease) {
                                       ++answered_;
                                       names_.push_back(error ? "error" : name);
                                       leases_.push_back(std::move(lease));
                                   });
        bench_.run();
    }
    /// Gives back the lease that was granted first of those that live.
    void release_next() {
        REQUIRE_FALSE(leases_.empty());
        leases_.pop_front();
        bench_.run();
    }
    /// Gives back one lease after the other until nothing waits.
    void release_all() {
        while (!leases_.empty()) {
            release_next();
        }
        CHECK(answered_ == asked_);
    }

    [[nodiscard]] const std::vector<std::string>& names() const { return names_; }
    [[nodiscard]] std::size_t live() const { return leases_.size(); }

private:
    SlotBench& bench_;
    std::vector<std::string> names_;
    std::deque<FakeLease> leases_;
    std::size_t asked_ = 0;
    std::size_t answered_ = 0;
};

using Names = std::vector<std::string>;

/// Whether of each `window` names in a row, from `from` to `to`, at least one begins with `letter`.
bool appears_in_each(const Names& names, std::size_t from, std::size_t to, std::size_t window, char letter) {
    for (std::size_t at = from; at + window <= to; ++at) {
        const auto begin = names.begin() + static_cast<std::ptrdiff_t>(at);
        if (std::none_of(begin, begin + static_cast<std::ptrdiff_t>(window),
                         [letter](const std::string& name) { return name.front() == letter; })) {
            return false;
        }
    }
    return true;
}

/// The names that begin with `letter`, in their order.
Names of(const Names& names, char letter) {
    Names chosen;
    std::copy_if(names.begin(), names.end(), std::back_inserter(chosen),
                 [letter](const std::string& name) { return name.front() == letter; });
    return chosen;
}

Names numbered(char letter, int count) {
    Names names;
    for (int number = 0; number < count; ++number) {
        names.push_back(letter + std::to_string(number));
    }
    return names;
}

}  // namespace

// -- Rank -------------------------------------------------------------------------------------------------------------

TEST_CASE("Within one key high overtakes normal, and normal overtakes low; equals come in the order of arrival",
          "[H6][S26][S39][R9]") {
    SlotBench bench({.max_leases = 1});
    Grants grants(bench);
    grants.ask("first", a, Priority::low);
    grants.ask("l0", a, Priority::low);
    grants.ask("n0", a, Priority::normal);
    grants.ask("h0", a, Priority::high);
    grants.ask("l1", a, Priority::low);
    grants.ask("n1", a, Priority::normal);
    grants.ask("h1", a, Priority::high);
    grants.release_all();
    CHECK(grants.names() == Names{"first", "h0", "h1", "n0", "n1", "l0", "l1"});
    bench.check_end();
}

TEST_CASE("Keys rank by their best waiter, not by their first, and equals by arrival", "[H6][S26]") {
    SlotBench bench({.keep_alive = keep_alive_forever, .max_resident = 5, .max_leases = 1});
    for (const ModelKey& key : {a, b, c, d, e}) {
        bench.lease(key).release();
    }
    Grants grants(bench);
    grants.ask("first", a, Priority::normal);
    grants.ask("l0", b, Priority::low);
    grants.ask("n0", c, Priority::normal);
    grants.ask("n1", d, Priority::normal);
    grants.ask("h0", e, Priority::high);
    grants.ask("h1", b, Priority::high);
    grants.release_all();
    CHECK(grants.names() == Names{"first", "h0", "h1", "n0", "n1", "l0"});
    bench.check_end();
}

TEST_CASE("S26: a thread's requests are served in the order it made them", "[S26][R9]") {
    ThreadedSlot bench({.max_leases = 1, .max_queue = 1000});
    FakeLease held = bench.slot->acquire(a);
    // All on one executor, so that the order in which they are called is the order of the grants.
    asio::io_context here;
    std::vector<std::pair<int, int>> of_thread;
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&, thread] {
                for (int request = 0; request < 25; ++request) {
                    bench.slot->async_acquire(
                        a, asio::bind_executor(
                               here,
                               bench.handlers.count([&, thread, request](const std::exception_ptr&, FakeLease lease) {
                                   of_thread.emplace_back(thread, request);
                                   lease.release();
                               })));
                }
            });
        }
    }
    held.release();
    here.run();
    REQUIRE(of_thread.size() == 100);
    std::array<int, 4> next{};
    for (const auto& [thread, request] : of_thread) {
        CHECK(next[static_cast<std::size_t>(thread)]++ == request);
    }
    bench.finish(100);
}

TEST_CASE("A place goes to the key that ranks first when it becomes free, not to the one that asked first",
          "[H6][H3][S26][R2]") {
    SlotBench bench({.keep_alive = keep_alive_forever});
    std::vector<std::string> loads;
    bench.world->on(FakeStep::load, [&](const FakeCall& call) { loads.push_back(call.key.name); });
    Grants grants(bench);
    grants.ask("first", a, Priority::normal);
    for (const std::string& name : numbered('l', 5)) {
        grants.ask(name, b, Priority::low);
    }
    CHECK(bench.is(a, ResidentState::draining));
    grants.ask("n0", c, Priority::normal);
    grants.ask("h0", d, Priority::high);
    grants.release_all();
    CHECK(loads == std::vector<std::string>{"a", "d", "c", "b"});
    CHECK(grants.names() == Names{"first", "h0", "n0", "l0", "l1", "l2", "l3", "l4"});
    CHECK(bench.world->counts().most_resident == 1);
    bench.check_end();
}

TEST_CASE("A place that an unload makes free goes to the key that ranks first by then", "[H6]") {
    SlotBench bench({.keep_alive = keep_alive_forever});
    std::vector<std::string> loads;
    bench.world->on(FakeStep::load, [&](const FakeCall& call) { loads.push_back(call.key.name); });
    bench.lease(a).release();
    Outcome<FakeLease> low;
    Outcome<FakeLease> high;
    bench.slot->async_acquire(b, {.priority = Priority::low}, low.handler());
    run_ready(bench.control);
    CHECK(bench.is(a, ResidentState::unloading));
    bench.slot->async_acquire(c, {.priority = Priority::high}, high.handler());
    bench.run();
    REQUIRE(high.calls() == 1);
    CHECK(low.calls() == 0);
    high.value().release();
    bench.run();
    REQUIRE(low.calls() == 1);
    low.value().release();
    CHECK(loads == std::vector<std::string>{"a", "c", "b"});
    bench.check_end();
}

TEST_CASE("A place that a load still has goes on to the key that ranks first when it becomes free", "[H6]") {
    SlotBench bench({.keep_alive = keep_alive_forever});
    Outcome<FakeLease> now;
    Outcome<FakeLease> later;
    Outcome<FakeLease> sooner;
    bench.slot->async_acquire(a, now.handler());
    // Nothing can drain for either: the place is taken by a load.
    bench.slot->async_acquire(b, {.priority = Priority::low}, later.handler());
    bench.slot->async_acquire(c, sooner.handler());
    for (Outcome<FakeLease>* const next : {&now, &sooner, &later}) {
        CHECK(next->calls() == 0);
        bench.run();
        REQUIRE(next->calls() == 1);
        next->value().release();
    }
    bench.check_end();
}

TEST_CASE("A resident that drains for a lower key returns for a request of its own that ranks before it", "[H3]") {
    SlotBench bench({.keep_alive = keep_alive_forever});
    Grants grants(bench);
    grants.ask("first", a, Priority::normal);
    grants.ask("l0", b, Priority::low);
    CHECK(bench.is(a, ResidentState::draining));
    grants.ask("h0", a, Priority::high);
    CHECK(grants.names() == Names{"first", "h0"});
    CHECK(bench.world->counts(a).loads == 1);
    CHECK(bench.events.count(EventType::drain_ended) == 1);
    grants.release_all();
    CHECK(grants.names() == Names{"first", "h0", "l0"});
    CHECK(bench.world->counts(a).loads == 1);
    bench.check_end();
}

TEST_CASE("A resident that drains for a higher key does not return for a lower request of its own", "[H3][S20]") {
    SlotBench bench({.keep_alive = keep_alive_forever});
    Grants grants(bench);
    grants.ask("first", a, Priority::normal);
    grants.ask("h0", b, Priority::high);
    grants.ask("n0", a, Priority::normal);
    CHECK(bench.is(a, ResidentState::draining));
    grants.release_all();
    CHECK(grants.names() == Names{"first", "h0", "n0"});
    CHECK(bench.world->counts(a).loads == 2);
    bench.check_end();
}

TEST_CASE("A key whose last load failed makes no busy resident drain before its waiter has aged", "[H6][S43]") {
    SlotBench bench({.keep_alive = keep_alive_forever, .cooldown = 1s, .aging = 30s});
    const auto fail_once = [&] {
        bench.world->fail_next(FakeStep::load, b, std::runtime_error("no such file"));
        Outcome<Generation> failed;
        bench.slot->async_ensure_loaded(b, failed.handler());
        bench.run();
        CHECK(failed.code() == errc::load_failed);
        bench.advance(1s);
    };
    fail_once();
    FakeLease busy = bench.lease(a);
    Outcome<FakeLease> waiting;
    bench.slot->async_acquire(b, waiting.handler());
    bench.advance(30s - 1ns);
    CHECK(bench.is(a, ResidentState::ready));
    bench.lease(a).release();
    // Then it drains, whatever else happens.
    bench.advance(1ns);
    CHECK(bench.is(a, ResidentState::draining));
    busy.release();
    bench.run();
    REQUIRE(waiting.calls() == 1);
    waiting.value().release();

    // An idle one it may evict at once.
    Outcome<> unloaded;
    bench.slot->async_unload(b, unloaded.handler());
    bench.run();
    fail_once();
    bench.lease(a).release();
    Outcome<Generation> loaded;
    bench.slot->async_ensure_loaded(b, loaded.handler());
    bench.run();
    REQUIRE(loaded.calls() == 1);
    CHECK_FALSE(loaded.exception());
    bench.check_end();
}

// -- Calls ------------------------------------------------------------------------------------------------------------

namespace {

ManagerOptions with_calls(std::size_t calls) {
    ManagerOptions options;
    options.embedding.max_calls = calls;
    options.reranker.max_calls = calls;
    return options;
}

}  // namespace

TEST_CASE("A call is granted when a thread is free for it: until then it waits, in stage queue", "[R8][H13]") {
    ManagerBench bench(with_calls(1));
    auto& models = *bench.manager;
    Outcome<Embeddings> first;
    Outcome<Embeddings> second;
    Outcome<Embeddings> late;
    bool has_run = false;
    bench.world->on(FakeStep::inference, [&](const FakeCall&) {
        if (std::exchange(has_run, true)) {
            return;
        }
        CHECK(models.embedding().status().leases == 1);
        CHECK(models.embedding().status().waiting == 2);
        VirtualClock::advance(1s);
        run_ready(bench.control);
        CHECK(late.code() == errc::timed_out);
        CHECK(late.error().stage() == Stage::queue);
        run_ready(bench.inference);
        CHECK(second.calls() == 0);
    });
    models.async_embed(a, {"text"}, first.handler());
    models.async_embed(a, {"text"}, second.handler());
    models.async_embed(a, {"text"}, {.timeout = 1s}, late.handler());
    bench.run();
    CHECK(first.value().size() == 1);
    CHECK(second.value().size() == 1);
    CHECK(models.embedding().status().counters.most_leases == 1);
    CHECK(bench.world->counts().most_calling == 1);
    bench.check_end();
}

TEST_CASE("A bare lease is no call: it is granted while all calls run", "[R8]") {
    ManagerBench bench(with_calls(1));
    auto& models = *bench.manager;
    Outcome<Embeddings> answer;
    Outcome<Lease<testing::FakeEmbedder>> bare;
    bench.world->on(FakeStep::inference, [&](const FakeCall&) {
        models.embedding().async_acquire(a, bare.handler());
        run_ready(bench.control);
        CHECK(bare.calls() == 1);
        CHECK(models.embedding().status().leases == 2);
    });
    models.async_embed(a, {"text"}, answer.handler());
    bench.run();
    CHECK(answer.value().size() == 1);
    // Nor does it stand in the way of one.
    bench.world->on(FakeStep::inference, {});
    Outcome<Embeddings> next;
    models.async_embed(a, {"text"}, next.handler());
    bench.run();
    CHECK(next.value().size() == 1);
    bare.value().release();
    bench.check_end();
}

TEST_CASE("A high call overtakes the normal ones that wait for a thread", "[H6][R8][S39]") {
    ManagerBench bench(with_calls(1));
    auto& models = *bench.manager;
    std::vector<std::string> order;
    const auto ask = [&](const std::string& name, Priority priority) {
        models.async_embed(a, {"text"}, {.priority = priority},
                           [&order, name](const std::exception_ptr& error, const Embeddings&) {
                               order.push_back(error ? "error" : name);
                           });
    };
    Outcome<Generation> loaded;
    models.embedding().async_ensure_loaded(a, loaded.handler());
    bench.run();
    CHECK(loaded.calls() == 1);
    // The first has the thread already.
    ask("n0", Priority::normal);
    ask("n1", Priority::normal);
    ask("l0", Priority::low);
    ask("h0", Priority::high);
    bench.run();
    CHECK(order == std::vector<std::string>{"n0", "h0", "n1", "l0"});
    bench.check_end();
}

TEST_CASE("No slot runs more calls than max_calls, over all its residents", "[R8]") {
    SlotOptions options{.max_resident = 2};
    options.max_calls = 2;
    ManagerBench bench({.embedding = options});
    auto& models = *bench.manager;
    std::vector<Outcome<Embeddings>> answers(6);
    for (std::size_t index = 0; index < answers.size(); ++index) {
        models.async_embed(index % 2 == 0 ? a : b, {"text"}, answers[index].handler());
    }
    // Each call starts the next within it, as far as there is one.
    bench.world->on(FakeStep::inference, [&](const FakeCall&) {
        CHECK(models.embedding().status().leases <= 2);
        run_ready(bench.inference, bench.control);
    });
    bench.run();
    for (Outcome<Embeddings>& answer : answers) {
        CHECK(answer.value().size() == 1);
    }
    CHECK(bench.world->counts().most_calling == 2);
    bench.check_end();
}

TEST_CASE("Each slot has inference threads of its own, when they are the library's", "[R8]") {
    const auto world = std::make_shared<FakeWorld>();
    constexpr std::size_t calls = 4;
    ModelManager<testing::FakeEmbeddingBackend, testing::FakeRerankerBackend> models(
        testing::FakeEmbeddingBackend{world}, testing::FakeRerankerBackend{world}, with_calls(calls));
    const std::shared_ptr<Gate> gate = world->block(FakeStep::inference, a);
    std::vector<Outcome<Embeddings>> answers(calls);
    for (const Outcome<Embeddings>& answer : answers) {
        models.async_embed(a, {"text"}, answer.handler());
    }
    // As many at once as there are calls, whatever the number of processors.
    gate->await_held(calls);
    // The other slot's calls are not behind them.
    CHECK(models.rerank(b, "query", {"text"}).size() == 1);
    gate->open();
    CHECK(models.shutdown().clean());
    for (const Outcome<Embeddings>& answer : answers) {
        answer.wait();
        CHECK_FALSE(answer.exception());
    }
    CHECK(world->counts().live == 0);
}

// -- Age --------------------------------------------------------------------------------------------------------------

TEST_CASE("Aged waiters get every second lease, the oldest first, and the others go by rank", "[R15][S39]") {
    constexpr int low = 40;
    SlotBench bench({.keep_alive = keep_alive_forever, .max_leases = 1, .aging = 30s});
    Grants grants(bench);
    grants.ask("first", a, Priority::normal);
    for (const std::string& name : numbered('l', low)) {
        grants.ask(name, a, Priority::low);
    }
    int high = 0;
    const auto ask_high = [&] { grants.ask("h" + std::to_string(high++), a, Priority::high); };
    ask_high();
    ask_high();
    // A call of one second after the other; two of high priority always wait.
    for (int second = 0; second < 30; ++second) {
        bench.advance(1s);
        grants.release_next();
        ask_high();
    }
    // Until then nothing had waited for so long.
    CHECK(of(grants.names(), 'l').size() <= 1);
    const std::size_t aged = grants.names().size();
    for (int second = 0; second < 2 * low; ++second) {
        bench.advance(1s);
        grants.release_next();
        ask_high();
    }
    CHECK(of(grants.names(), 'l') == numbered('l', low));
    CHECK(appears_in_each(grants.names(), aged, aged + 2 * low - 2, 2, 'l'));
    CHECK(appears_in_each(grants.names(), aged, grants.names().size(), 3, 'h'));
    grants.release_all();
    CHECK(of(grants.names(), 'h') == numbered('h', high));
    bench.check_end();
}

TEST_CASE("With an aging of zero every second lease goes by arrival", "[R15]") {
    SlotBench bench({.max_leases = 1, .aging = 0ms});
    Grants grants(bench);
    grants.ask("first", a, Priority::normal);
    for (const std::string& name : numbered('l', 4)) {
        grants.ask(name, a, Priority::low);
    }
    for (const std::string& name : numbered('h', 4)) {
        grants.ask(name, a, Priority::high);
    }
    grants.release_all();
    CHECK(appears_in_each(grants.names(), 1, 9, 2, 'l'));
    CHECK(of(grants.names(), 'l') == numbered('l', 4));
    CHECK(of(grants.names(), 'h') == numbered('h', 4));
    bench.check_end();
}

TEST_CASE(
    "S26: of several ready models the one whose best waiter ranks first is next, and every second lease goes by age",
    "[S26][R15]") {
    SlotBench bench({.max_resident = 4, .max_leases = 1, .aging = 30s});
    for (const ModelKey& key : {a, b, c, d}) {
        bench.load(key);
    }
    auto held = bench.acquire(d);
    bench.run();
    auto low = bench.acquire(a, {.priority = Priority::low});
    auto normal = bench.acquire(b);
    auto high = bench.acquire(c, {.priority = Priority::high});
    bench.advance(30s - 1ns);
    auto late = bench.acquire(d, {.priority = Priority::high});
    std::vector<Outcome<FakeLease>*> order{&high, &late, &normal, &low};
    if (GENERATE(false, true)) {
        // The first three have now waited for the aging: the oldest of them has every second lease. The last has not.
        bench.advance(1ns);
        order = {&low, &high, &normal, &late};
    }
    held.value().release();
    for (auto* next : order) {
        bench.run();
        CHECK(bench.slot->status().leases == 1);
        REQUIRE(next->calls() == 1);
        next->value().release();
    }
    CHECK(bench.world->counts().loads == 4);
    bench.finish(9);
}

TEST_CASE("The key of the oldest aged waiter gets every second place", "[R15][S20]") {
    SlotBench bench({.keep_alive = keep_alive_forever, .max_leases = 1, .aging = 30s});
    std::vector<std::string> loads;
    bench.world->on(FakeStep::load, [&](const FakeCall& call) { loads.push_back(call.key.name); });
    Grants grants(bench);
    grants.ask("first", a, Priority::high);
    grants.ask("l0", c, Priority::low);
    grants.ask("l1", d, Priority::low);
    int high = 0;
    // Two keys of high priority take the place from each other, one second each.
    const auto pass_a_second = [&] {
        grants.ask("h" + std::to_string(high), high % 2 == 0 ? b : a, Priority::high);
        ++high;
        bench.advance(1s);
        grants.release_next();
    };
    grants.ask("h", b, Priority::high);
    ++high;
    for (int second = 0; second < 30; ++second) {
        pass_a_second();
    }
    // Until then nothing had waited for so long.
    CHECK(of(grants.names(), 'l').size() <= 1);
    const std::size_t before = loads.size() - 1;
    for (int second = 0; second < 8; ++second) {
        pass_a_second();
    }
    CHECK(of(grants.names(), 'l') == Names{"l0", "l1"});
    // The older first, and a key of high priority between them.
    REQUIRE(loads.size() >= before + 5);
    const auto from = loads.begin() + static_cast<std::ptrdiff_t>(before);
    const auto at_c = std::find(from, loads.end(), "c");
    const auto at_d = std::find(from, loads.end(), "d");
    CHECK(at_c - from <= 2);
    CHECK(at_d - at_c == 2);
    grants.release_all();
    bench.check_end();
}

}  // namespace priority_test

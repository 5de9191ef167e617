// Messages that a backend, a model or a handler makes too long: each is cut, wherever it goes.

#include "support/bench.hpp"

#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

namespace residency::test::long_messages_test {

namespace {

const ModelKey a("a");

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

}  // namespace

}  // namespace residency::test::long_messages_test

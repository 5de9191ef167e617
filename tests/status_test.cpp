#include "residency/status.hpp"

#include "support/catch.hpp"

#include <array>
#include <chrono>
#include <sstream>
#include <string>
#include <tuple>

namespace status_test {

using namespace std::chrono_literals;
using residency::Generation;
using residency::Reason;
using residency::ResidentState;
using residency::ResidentStatus;
using residency::ShutdownReport;
using residency::SlotStatus;

// Every reason has its place among the counters.
static_assert(std::tuple_size_v<decltype(residency::SlotCounters::unloads)> ==
              static_cast<std::size_t>(Reason::memory) + 1);

namespace {

template <class T>
std::string printed(const T& value) {
    std::ostringstream out;
    out << value;
    return out.str();
}

SlotStatus example() {
    SlotStatus slot;
    slot.name = "embedding";
    slot.generation = Generation{3};
    slot.leases = 2;
    slot.waiting = 12;
    slot.waiting_texts = 5000;
    slot.waiting_parts = 1;
    slot.residents.push_back(
        {.key = {"minilm", "q8_0"}, .generation = Generation{3}, .state = ResidentState::ready, .leases = 2});
    slot.failures.push_back({.key = "broken", .message = "no such file", .failures = 2, .retry_after = 1500ms});
    slot.counters.loads = 4;
    slot.counters.loaded = 2;
    slot.counters.load_failures = 1;
    slot.counters.loads_aborted = 1;
    slot.counters.leases_granted = 100;
    slot.counters.batches = 90;
    slot.counters.texts = 275;
    slot.counters.most_leases = 10;
    slot.counters.most_waiting = 7;
    slot.counters.overloaded = 5;
    slot.counters.unknown_model = 2;
    slot.counters.unloads.at(static_cast<std::size_t>(Reason::idle)) = 1;
    slot.counters.unloads.at(static_cast<std::size_t>(Reason::switched)) = 3;
    return slot;
}

}  // namespace

TEST_CASE("Each state has a name") {
    CHECK(printed(ResidentState::queued) == "queued");
    CHECK(printed(ResidentState::loading) == "loading");
    CHECK(printed(ResidentState::ready) == "ready");
    CHECK(printed(ResidentState::draining) == "draining");
    CHECK(printed(ResidentState::unloading) == "unloading");
    CHECK(to_string(static_cast<ResidentState>(99)) == "unknown");
}

TEST_CASE("A resident prints on one line what applies to it") {
    CHECK(printed(ResidentStatus{
              .key = {"minilm", "q8_0"}, .generation = Generation{3}, .state = ResidentState::ready, .leases = 2}) ==
          "minilm@q8_0 ready, generation 3, 2 leases");
    CHECK(printed(ResidentStatus{.key = "minilm"}) == "minilm loading, 0 leases");
    CHECK(printed(ResidentStatus{.key = "minilm", .distinguishes = true}) ==
          "minilm loading, 0 leases, queries and documents differ");
    CHECK(printed(ResidentStatus{.key = "minilm",
                                 .generation = Generation{1},
                                 .state = ResidentState::ready,
                                 .idle_for = 1500ms,
                                 .unloads_in = 4min}) ==
          "minilm ready, generation 1, 0 leases, idle for 1500 ms, unloads in 240 s");
    CHECK(printed(
              ResidentStatus{.key = "m", .generation = Generation{1}, .state = ResidentState::draining, .leases = 1}) ==
          "m draining, generation 1, 1 lease");
}

TEST_CASE("A slot prints its residents, failures and counters") {
    CHECK(printed(example()) ==
          "embedding: generation 3, 2 leased, 12 waiting with 5000 texts, 1 in parts\n"
          "  resident  minilm@q8_0 ready, generation 3, 2 leases\n"
          "  failed    broken, 2 in a row, try again in 1500 ms: no such file\n"
          "  loads     4 started, 2 ready, 1 failed, 1 aborted\n"
          "  leases    100 granted, at most 10 at once, at most 7 waiting\n"
          "  calls     90, of 3.1 texts on average\n"
          "  refused   5 overloaded, 0 cooling down, 2 unknown, 0 timed out, 0 cancelled\n"
          "  unloads   4, idle 1, switched 3\n");
}

TEST_CASE("A slot that shuts down says so, and a manager prints both slots") {
    residency::ManagerStatus status;
    status.embedding.name = "embedding";
    status.reranker.name = "reranker";
    status.reranker.shutting_down = true;
    CHECK_THAT(printed(status), residency::test::contains_text("embedding: generation 0"));
    CHECK_THAT(printed(status), residency::test::contains_text("reranker (shut down): generation 0"));
}

TEST_CASE("A failure is one line, whatever a backend says") {
    SlotStatus slot;
    slot.failures.push_back({.key = "broken", .message = "line 1\nline 2\x1b[31m", .failures = 1});
    CHECK_THAT(printed(slot),
               residency::test::contains_text("  failed    broken, 1 in a row: line 1\\nline 2\\x1b[31m\n"));
}

TEST_CASE("A failure that may be tried again does not name a time") {
    SlotStatus slot;
    slot.failures.push_back({.key = "broken", .message = "no such file", .failures = 1});
    CHECK_THAT(printed(slot), residency::test::contains_text("broken, 1 in a row: no such file\n"));
}

TEST_CASE("The unloads are counted over all reasons") {
    CHECK(residency::SlotCounters{}.unloaded() == 0);
    residency::SlotCounters counters;
    for (std::size_t reason = 0; reason < counters.unloads.size(); ++reason) {
        counters.unloads.at(reason) = reason;
    }
    CHECK(counters.unloaded() == 78);
    CHECK(counters == counters);
    CHECK_FALSE(counters == residency::SlotCounters{});
}

TEST_CASE("A shutdown is clean without leftovers, and names those that there are") {
    ShutdownReport report;
    CHECK(report.clean());
    CHECK(printed(report) == "clean");
    report.leftovers.push_back(
        {.slot = "embedding", .key = {"minilm", "q8_0"}, .state = ResidentState::draining, .leases = 1});
    report.leftovers.push_back({.slot = "reranker", .key = "m", .state = ResidentState::loading});
    CHECK_FALSE(report.clean());
    CHECK(printed(report) == "left: embedding/minilm@q8_0 (draining, 1 lease) reranker/m (loading, 0 leases)");
    CHECK(report.leftovers[0] != report.leftovers[1]);
}

}  // namespace status_test

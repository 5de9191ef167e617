#include "residency/event.hpp"

#include "support/catch.hpp"

#include <chrono>
#include <cstdint>
#include <limits>
#include <set>
#include <sstream>
#include <string>

namespace event_test {

using namespace std::chrono_literals;
using residency::Event;
using residency::EventType;
using residency::Generation;
using residency::Reason;
using residency::Severity;

namespace {

template <class T>
std::string printed(const T& value) {
    std::ostringstream out;
    out << value;
    return out.str();
}

// Names of the enumerators from the first to `last`, each checked to have one.
template <class Enum>
std::set<std::string> names_up_to(Enum last) {
    std::set<std::string> names;
    for (std::uint8_t value = 0; value <= static_cast<std::uint8_t>(last); ++value) {
        const auto name = printed(static_cast<Enum>(value));
        CHECK(name == to_string(static_cast<Enum>(value)));
        names.insert(name);
    }
    CHECK_FALSE(names.contains("unknown"));
    CHECK(names.size() == static_cast<std::size_t>(last) + 1);
    return names;
}

}  // namespace

TEST_CASE("Each event, reason and severity has a name of its own") {
    CHECK(names_up_to(EventType::dropped).contains("load_started"));
    CHECK(names_up_to(Reason::memory).contains("switched"));
    CHECK(names_up_to(Severity::error).contains("warning"));
    CHECK(to_string(static_cast<EventType>(99)) == "unknown");
    CHECK(to_string(static_cast<Reason>(99)) == "unknown");
    CHECK(to_string(static_cast<Severity>(99)) == "unknown");
}

TEST_CASE("A ready event prints as documented") {
    const Event event{.type = EventType::ready,
                      .reason = Reason::requested,
                      .slot = "embedding",
                      .key = {"minilm", "q8_0"},
                      .generation = Generation{3},
                      .duration = 812ms};
    CHECK(printed(event) == "embedding: ready minilm@q8_0 generation 3 (requested) after 812 ms");
}

TEST_CASE("What an event does not apply to is not printed") {
    CHECK(printed(Event{.type = EventType::shutdown_started, .slot = "reranker"}) == "reranker: shutdown_started");
    // Fields of other events do not show.
    CHECK(printed(Event{.type = EventType::shutdown_started,
                        .severity = Severity::error,
                        .slot = "s",
                        .progress = 0.5F,
                        .count = 7}) == "s: shutdown_started");
    // The threads on which a handler throws are no slot's.
    CHECK(printed(Event{.type = EventType::handler_threw, .message = "bad_alloc"}) == "handler_threw: bad_alloc");
}

TEST_CASE("Each event prints what is its own") {
    CHECK(printed(Event{.type = EventType::load_progress, .slot = "s", .key = "m", .progress = 0.5F}) ==
          "s: load_progress m 50 %");
    CHECK(printed(Event{.type = EventType::load_log,
                        .severity = Severity::warning,
                        .slot = "s",
                        .key = "m",
                        .message = "old file"}) == "s: load_log m warning: old file");
    CHECK(printed(Event{.type = EventType::dropped, .count = 12}) == "dropped 12");
    CHECK(printed(Event{
              .type = EventType::load_failed, .slot = "s", .key = "m", .duration = 2s, .message = "no such file"}) ==
          "s: load_failed m after 2000 ms: no such file");
    CHECK(printed(Event{.type = EventType::rejected, .reason = Reason::overloaded, .slot = "s", .key = "m"}) ==
          "s: rejected m (overloaded)");
    CHECK(printed(Event{
              .type = EventType::rejected, .reason = Reason::cooling_down, .slot = "s", .key = "m", .count = 3}) ==
          "s: rejected m (cooling_down), 3 requests");
    CHECK(
        printed(Event{
            .type = EventType::timed_out, .slot = "s", .key = "m", .duration = 2s, .stage = residency::Stage::queue}) ==
        "s: timed_out m in stage queue after 2000 ms");
    CHECK(printed(Event{.type = EventType::inference_failed,
                        .slot = "s",
                        .key = "m",
                        .duration = 950ms,
                        .queue_time = 100ms,
                        .load_time = 800ms,
                        .call_time = 50ms,
                        .stage = residency::Stage::inference,
                        .message = "no"}) ==
          "s: inference_failed m in stage inference after 950 ms (queue 100 ms, load 800 ms, call 50 ms): no");
    CHECK(printed(Event{.type = EventType::inference_failed,
                        .slot = "s",
                        .key = "m",
                        .stage = residency::Stage::inference,
                        .message = "no"}) == "s: inference_failed m in stage inference: no");
}

TEST_CASE("An event is one line, whatever a backend says") {
    CHECK(printed(Event{.type = EventType::load_failed,
                        .slot = "a\nslot",
                        .key = "a\nkey",
                        .message = "line 1\nline\t2\r\x1b[31m\x7f \xc2\x9b \xc3\xa9 \xc2\xa0"}) ==
          "a\\nslot: load_failed a?key: line 1\\nline\\t2\\x0d\\x1b[31m\\x7f \\xc2\\x9b \xc3\xa9 \xc2\xa0");
}

TEST_CASE("A progress that is none prints as none") {
    constexpr float none = std::numeric_limits<float>::quiet_NaN();
    CHECK(printed(Event{.type = EventType::load_progress, .slot = "s", .progress = none}) == "s: load_progress 0 %");
    CHECK(printed(Event{.type = EventType::load_progress, .slot = "s", .progress = -1.0F}) == "s: load_progress 0 %");
    CHECK(printed(Event{.type = EventType::load_progress, .slot = "s", .progress = 2.0F}) == "s: load_progress 100 %");
}

TEST_CASE("A long key is cut in an event's line") {
    CHECK(printed(Event{.type = EventType::load_started, .slot = "s", .key = std::string(4096, 'n')}).size() < 120);
}

}  // namespace event_test

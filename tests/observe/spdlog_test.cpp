#include "residency/observe/spdlog.hpp"

#include "support/catch.hpp"

#include <spdlog/sinks/ostream_sink.h>

#include <chrono>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>

using namespace std::chrono_literals;
using residency::Event;
using residency::EventType;
using residency::Severity;
using residency::spdlog_level;
namespace level = spdlog::level;

namespace {

// A logger that writes "LEVEL MESSAGE" lines into a string.
struct Log {
    std::ostringstream text;
    std::shared_ptr<spdlog::logger> logger =
        std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_st>(text));

    Log() {
        logger->set_pattern("%l %v");
        logger->set_level(level::trace);
    }
};

}  // namespace

TEST_CASE("Each event has its level") {
    const auto of = [](EventType type) { return spdlog_level(Event{.type = type}); };
    for (const EventType type : {EventType::load_failed, EventType::inference_failed, EventType::handler_threw}) {
        CHECK(of(type) == level::err);
    }
    for (const EventType type : {EventType::rejected, EventType::timed_out, EventType::dropped}) {
        CHECK(of(type) == level::warn);
    }
    CHECK(of(EventType::load_progress) == level::debug);
    for (const EventType type :
         {EventType::load_started, EventType::ready, EventType::load_aborted, EventType::drain_started,
          EventType::drain_ended, EventType::unload_started, EventType::unloaded, EventType::shutdown_started,
          EventType::shutdown_completed, EventType::load_log}) {
        CHECK(of(type) == level::info);
    }
    CHECK(spdlog_level(Event{.type = EventType::shutdown_completed, .message = "left: ..."}) == level::warn);
}

TEST_CASE("A line of a backend has the level of its severity") {
    const auto of = [](Severity severity) {
        return spdlog_level(Event{.type = EventType::load_log, .severity = severity});
    };
    CHECK(of(Severity::debug) == level::debug);
    CHECK(of(Severity::info) == level::info);
    CHECK(of(Severity::warning) == level::warn);
    CHECK(of(Severity::error) == level::err);
    // The severity of another event says nothing.
    CHECK(spdlog_level(Event{.type = EventType::ready, .severity = Severity::error}) == level::info);
}

TEST_CASE("The observer writes each event as one line") {
    Log log;
    const residency::Observer observer = residency::spdlog_observer(log.logger);
    observer(Event{.type = EventType::load_started, .slot = "embedding", .key = "minilm"});
    observer(Event{.type = EventType::load_failed, .slot = "embedding", .key = "minilm", .message = "no such file"});
    CHECK(log.text.str() ==
          "info embedding: load_started minilm\n"
          "error embedding: load_failed minilm: no such file\n");
}

TEST_CASE("A message is neither a format nor several lines") {
    Log log;
    const residency::Observer observer = residency::spdlog_observer(log.logger);
    observer(Event{.type = EventType::load_failed, .slot = "s", .key = "{}", .message = "{0} %v {"});
    observer(Event{
        .type = EventType::rejected, .slot = "s", .key = "a\nerror forged", .message = "b\r\x1b[0m\t\x7f\xc3\xa9"});
    CHECK(log.text.str() ==
          "error s: load_failed {}: {0} %v {\n"
          "warning s: rejected a?error forged: b\\x0d\\x1b[0m\\t\\x7f\xc3\xa9\n");
}

TEST_CASE("What is below the logger's level is not written") {
    Log log;
    log.logger->set_level(level::warn);
    const residency::Observer observer = residency::spdlog_observer(log.logger);
    observer(Event{.type = EventType::ready, .slot = "s"});
    observer(Event{.type = EventType::load_progress, .slot = "s"});
    CHECK(log.text.str().empty());
    observer(Event{.type = EventType::dropped, .slot = "s", .count = 3});
    CHECK(log.text.str() == "warning s: dropped 3\n");
}

TEST_CASE("The level may be changed while the observer is in use, and a backtrace gets all") {
    Log log;
    log.logger->set_level(level::err);
    log.logger->enable_backtrace(4);
    const residency::Observer observer = residency::spdlog_observer(log.logger);
    observer(Event{.type = EventType::ready, .slot = "s", .key = "m"});
    CHECK(log.text.str().empty());
    log.logger->set_level(level::trace);
    log.logger->dump_backtrace();
    CHECK_THAT(log.text.str(), residency::test::contains_text("s: ready m"));
}

TEST_CASE("The observer keeps the logger alive, and needs one") {
    Log log;
    const std::weak_ptr<spdlog::logger> watched = log.logger;
    residency::Observer observer = residency::spdlog_observer(std::move(log.logger));
    observer(Event{.type = EventType::ready, .slot = "s"});
    CHECK(log.text.str() == "info s: ready\n");
    observer = {};
    CHECK(watched.expired());
    CHECK_THROWS_AS(residency::spdlog_observer(nullptr), std::invalid_argument);
}

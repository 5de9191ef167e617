#pragma once

// The one header that includes spdlog, which costs more compile time than all of the library.

#include "residency/event.hpp"
#include "residency/options.hpp"

#include <spdlog/common.h>
#include <spdlog/logger.h>

#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace residency {

/// The level at which an event is logged.
///
/// | level | events |
/// |---|---|
/// | error | `load_failed`, `inference_failed`, `handler_threw`; `load_log` of severity error |
/// | warn | `rejected`, `timed_out`, `dropped`; `shutdown_completed` with leftovers; `load_log` of severity warning |
/// | debug | `load_progress`; `load_log` of severity debug |
/// | info | all others |
[[nodiscard]] inline spdlog::level::level_enum spdlog_level(const Event& event) noexcept {
    switch (event.type) {
        case EventType::load_failed:
        case EventType::inference_failed:
        case EventType::handler_threw: return spdlog::level::err;
        case EventType::rejected:
        case EventType::timed_out:
        case EventType::dropped: return spdlog::level::warn;
        case EventType::shutdown_completed: return event.message.empty() ? spdlog::level::info : spdlog::level::warn;
        case EventType::load_progress: return spdlog::level::debug;
        case EventType::load_log:
            switch (event.severity) {
                case Severity::debug: return spdlog::level::debug;
                case Severity::info: return spdlog::level::info;
                case Severity::warning: return spdlog::level::warn;
                case Severity::error: return spdlog::level::err;
            }
            return spdlog::level::info;
        case EventType::load_started:
        case EventType::ready:
        case EventType::load_aborted:
        case EventType::drain_started:
        case EventType::drain_ended:
        case EventType::unload_started:
        case EventType::unloaded:
        case EventType::shutdown_started: return spdlog::level::info;
    }
    return spdlog::level::info;
}

/// An observer that writes each event to `logger`, as one line, at its `spdlog_level`: control characters are escaped.
/// Events below the logger's level cost no formatting. It keeps the logger alive.
///
///     ManagerOptions options;
///     options.observer = residency::spdlog_observer(spdlog::default_logger());
///
/// Throws std::invalid_argument if `logger` is null. The observer itself throws only if memory is short; what a sink
/// throws goes to the logger's error handler.
[[nodiscard]] inline Observer spdlog_observer(std::shared_ptr<spdlog::logger> logger) {
    if (!logger) {
        throw std::invalid_argument("residency: spdlog_observer needs a logger");
    }
    return [logger = std::move(logger)](const Event& event) {
        const spdlog::level::level_enum level = spdlog_level(event);
        if (!logger->should_log(level) && !logger->should_backtrace()) {
            return;
        }
        std::ostringstream text;
        text << event;
        const std::string line = text.str();
        // As a view, so that a brace in a message is not taken for a format.
        logger->log(level, spdlog::string_view_t(line));
    };
}

}  // namespace residency

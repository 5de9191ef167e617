// A consumer of the component spdlog: an event becomes a line.

#include <residency/event.hpp>
#include <residency/observe/spdlog.hpp>

#include <spdlog/sinks/ostream_sink.h>

#include <memory>
#include <sstream>
#include <string>

int main() {
    std::ostringstream lines;
    const auto sink = std::make_shared<spdlog::sinks::ostream_sink_st>(lines);
    const residency::Observer observer = residency::spdlog_observer(std::make_shared<spdlog::logger>("models", sink));

    residency::Event event;
    event.type = residency::EventType::ready;
    event.key = residency::ModelKey("minilm", "f16");
    observer(event);
    return lines.str().find("minilm@f16") != std::string::npos ? 0 : 1;
}

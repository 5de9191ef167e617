#pragma once

#include "search/arguments.hpp"
#include "search/folder.hpp"

#include <residency/backends/lexical/text.hpp>
#include <residency/event.hpp>
#include <residency/status.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace search {

/// A line of a file.
struct Line {
    std::size_t number = 0;
    std::string text{};
};

/// One result.
struct Result {
    /// The models that found it.
    ModelPair models{};
    std::string file{};
    /// The number of its best line.
    std::size_t line = 0;
    /// The reranker's.
    float score = 0.0F;
    /// The embedder's.
    float similarity = 0.0F;
    /// The lines that are nearest to the query, in their order.
    std::vector<Line> lines{};
};

/// What was searched, and for how long.
struct Searched {
    /// How many searches went over it at once; the counts are those of one of them.
    std::size_t searches = 1;
    std::size_t files = 0;
    std::size_t passages = 0;
    std::uintmax_t bytes = 0;
    Skipped skipped{};
    std::chrono::duration<double> time{0};

    Searched& operator+=(const Searched& other) {
        files += other.files;
        passages += other.passages;
        bytes += other.bytes;
        skipped += other.skipped;
        return *this;
    }
};

/// How the models fared, from the manager's last status.
struct Models {
    residency::ManagerStatus status{};
    std::vector<residency::Event> unloads{};
};

namespace detail {

// What a file holds must not steer the terminal that it is printed on.
inline std::string printable(std::string_view text) {
    std::string safe;
    while (!text.empty()) {
        const char32_t letter = residency::lexical::next_code_point(text);
        const bool control = letter < 0x20 || (letter >= 0x7F && letter < 0xA0);
        residency::lexical::append_utf8(safe, control ? U' ' : letter);
    }
    return safe;
}

inline std::string shortened(std::string_view text) {
    constexpr std::size_t longest = 160;
    const std::size_t begin = std::min(text.find_first_not_of(" \t"), text.size());
    text.remove_prefix(begin);
    if (text.size() <= longest) {
        return printable(text);
    }
    std::size_t end = longest;
    while (end > longest - 4 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) {
        --end;
    }
    return printable(text.substr(0, end)) + " ...";
}

inline std::string grouped(std::uintmax_t number) {
    std::string digits = std::to_string(number);
    for (std::size_t place = digits.size(); place > 3; place -= 3) {
        digits.insert(place - 3, ",");
    }
    return digits;
}

inline std::string fixed(double value, int digits) {
    char text[64];
    std::snprintf(text, sizeof text, "%.*f", digits, value);
    return text;
}

inline std::string count(std::uintmax_t number, std::string_view one, std::string_view many) {
    return grouped(number) + ' ' + std::string(number == 1 ? one : many);
}

inline nlohmann::ordered_json to_json(const residency::SlotStatus& slot, const std::vector<residency::Event>& unloads) {
    nlohmann::ordered_json json{{"slot", slot.name},
                                {"generation", slot.generation.value()},
                                {"loads", slot.counters.loads},
                                {"load_failures", slot.counters.load_failures},
                                {"leases_granted", slot.counters.leases_granted},
                                {"most_leases", slot.counters.most_leases},
                                {"most_waiting", slot.counters.most_waiting},
                                {"unloads", nlohmann::ordered_json::array()}};
    for (const residency::Event& event : unloads) {
        if (event.slot == slot.name) {
            json["unloads"].push_back({{"model", to_string(event.key)},
                                       {"generation", event.generation.value()},
                                       {"reason", std::string(to_string(event.reason))}});
        }
    }
    return json;
}

}  // namespace detail

/// Prints the results for people; those of several searches under their models' names.
inline void print(std::ostream& out, const std::vector<Result>& results, bool several) {
    std::size_t place = 0;
    const Result* before = nullptr;
    for (const Result& result : results) {
        if (several && (before == nullptr || !(before->models == result.models))) {
            out << result.models.embedding << ", reranked by " << result.models.reranker << ":\n\n";
            place = 0;
        }
        before = &result;
        out << ++place << "  " << detail::printable(result.file) << ':' << result.line << "  score "
            << detail::fixed(static_cast<double>(result.score), 3) << ", similarity "
            << detail::fixed(static_cast<double>(result.similarity), 3) << '\n';
        for (const Line& line : result.lines) {
            const std::string number = std::to_string(line.number);
            out << std::string(number.size() < 8 ? 8 - number.size() : 0, ' ') << number << "  "
                << detail::shortened(line.text) << '\n';
        }
        out << '\n';
    }
}

/// Prints what was searched, for people.
inline void print(std::ostream& out, const Searched& searched, std::size_t threads) {
    const double seconds = searched.time.count();
    const double megabytes = static_cast<double>(searched.bytes) * static_cast<double>(searched.searches) / 1e6;
    const double megabytes_per_second = seconds > 0.0 ? megabytes / seconds : 0.0;
    const Skipped& skipped = searched.skipped;
    out << "Searched " << detail::count(searched.passages, "passage", "passages") << " of "
        << detail::count(searched.files, "text file", "text files") << ", "
        << detail::fixed(static_cast<double>(searched.bytes) / 1e6, 1) << " MB, "
        << (searched.searches == 1 ? "" : std::to_string(searched.searches) + " times at once, ") << "in "
        << detail::fixed(seconds, 2) << " s with " << detail::count(threads, "thread", "threads")
        << (searched.searches == 1 ? "" : " each") << " (" << detail::fixed(megabytes_per_second, 1) << " MB/s).\n";
    out << "Skipped " << detail::count(skipped.binary, "binary file", "binary files") << ", "
        << detail::grouped(skipped.unreadable) << " unreadable, "
        << detail::count(skipped.links_outside, "link", "links") << " out of the folder, "
        << detail::count(skipped.links_inside, "link", "links") << " within it, "
        << detail::count(skipped.version_control, "version control folder", "version control folders") << ", "
        << detail::count(skipped.not_files, "special file", "special files") << ".\n\n";
}

/// Prints both slots' status and each unload with its reason, for people.
inline void print(std::ostream& out, const Models& models) {
    out << models.status;
    for (const residency::Event& event : models.unloads) {
        out << event.slot << ": " << event.key << ", generation " << event.generation
            << ", was unloaded: " << event.reason << '\n';
    }
}

/// All of it as one JSON document.
inline void print_json(std::ostream& out, const Arguments& arguments, const std::vector<Result>& results,
                       const Searched& searched, const Models& models) {
    using nlohmann::ordered_json;
    ordered_json json{
        {"query", arguments.query}, {"folder", arguments.folder.generic_string()}, {"results", ordered_json::array()}};
    for (const Result& result : results) {
        ordered_json lines = ordered_json::array();
        for (const Line& line : result.lines) {
            lines.push_back({{"line", line.number}, {"text", line.text}});
        }
        json["results"].push_back({{"embedding", to_string(result.models.embedding)},
                                   {"reranker", to_string(result.models.reranker)},
                                   {"file", result.file},
                                   {"line", result.line},
                                   {"score", result.score},
                                   {"similarity", result.similarity},
                                   {"lines", std::move(lines)}});
    }
    const Skipped& skipped = searched.skipped;
    json["searched"] = {{"searches", searched.searches},    {"files", searched.files},
                        {"passages", searched.passages},    {"bytes", searched.bytes},
                        {"seconds", searched.time.count()}, {"threads", arguments.threads}};
    json["skipped"] = {{"binary", skipped.binary},
                       {"unreadable", skipped.unreadable},
                       {"links_outside", skipped.links_outside},
                       {"links_inside", skipped.links_inside},
                       {"version_control", skipped.version_control},
                       {"not_files", skipped.not_files}};
    json["models"] = {detail::to_json(models.status.embedding, models.unloads),
                      detail::to_json(models.status.reranker, models.unloads)};
    // A file need not be UTF-8; JSON has to be.
    out << json.dump(2, ' ', false, ordered_json::error_handler_t::replace) << '\n';
}

}  // namespace search

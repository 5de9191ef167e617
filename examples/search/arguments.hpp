#pragma once

#include <residency/model_key.hpp>
#include <residency/options.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

namespace search {

/// Exit codes: like grep's, and the shell's for a signal.
enum ExitCode : int { found = 0, nothing_found = 1, failed = 1, bad_usage = 2, killed_by_signal = 128 };

/// The user asked for something that cannot be done: one sentence, exit code 2.
class UsageError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// What the command line asks for.
struct Arguments {
    std::string query{};
    std::filesystem::path folder = ".";
    std::size_t top = 10;
    std::size_t threads = std::clamp(std::thread::hardware_concurrency(), 1U, 16U);
    std::chrono::milliseconds keep_alive = std::chrono::seconds(30);
    residency::ModelKey embedding{"lexical", "f32"};
    residency::ModelKey reranker{"bm25", "f32"};
    bool json = false;
    bool events = false;
    bool watch_idle = false;
};

/// `30s`, `500ms`, `5m`, `1h`, `0` or `forever`; throws UsageError for anything else.
inline std::chrono::milliseconds parse_duration(std::string_view text) {
    const auto refuse = [text] {
        return UsageError("'" + std::string(text) +
                          "' is not a keep-alive: write it like 500ms, 30s, 5m, 1h, 0 or forever.");
    };
    if (text == "forever") {
        return residency::keep_alive_forever;
    }
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    const std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
    const std::int64_t factor = unit == "ms"  ? 1
                                : unit == "s" ? 1000
                                : unit == "m" ? 60'000
                                : unit == "h" ? 3'600'000
                                              : 0;
    constexpr std::int64_t longest = std::chrono::milliseconds(std::chrono::years(1)).count();
    if (error != std::errc() || number < 0 || (factor == 0 && text != "0") ||
        (factor != 0 && number > longest / factor)) {
        throw refuse();
    }
    return std::chrono::milliseconds(number * factor);
}

/// `NAME` or `NAME@QUANT`; throws UsageError if there is no name.
inline residency::ModelKey parse_key(const std::string& text) {
    const std::size_t at = text.rfind('@');
    residency::ModelKey key = at == std::string::npos ? residency::ModelKey(text)
                                                      : residency::ModelKey(text.substr(0, at), text.substr(at + 1));
    if (key.name.empty()) {
        throw UsageError("'" + text + "' is not a model: write it like NAME or NAME@QUANT.");
    }
    return key;
}

/// What the command line says; nothing if it asked for help, which then is on stdout. Throws UsageError.
inline std::optional<Arguments> parse(int argc, const char* const* argv) {
    Arguments arguments;
    std::string keep_alive = "30s";
    std::string embedding = to_string(arguments.embedding);
    std::string reranker = to_string(arguments.reranker);

    CLI::App app(
        "Searches the text files of a folder by what they say.\n"
        "Passages are embedded, the nearest to the query are reranked, the best are printed.\n"
        "The built-in models are lexical: they know words, not meanings.\n",
        "search");
    app.add_option("QUERY", arguments.query, "What to look for")->required()->type_name("");
    app.add_option("FOLDER", arguments.folder, "Where to look; the current folder by default")->type_name("");
    app.add_option("--top", arguments.top, "How many results to print, 1 to 1000")
        ->type_name("N")
        ->capture_default_str();
    app.add_option("--threads", arguments.threads, "How many threads read and embed at once, 1 to 256")
        ->type_name("N")
        ->capture_default_str();
    app.add_option("--keep-alive", keep_alive, "How long an idle model stays: 500ms, 30s, 5m, 1h, 0 or forever")
        ->type_name("TIME")
        ->capture_default_str();
    app.add_option("--embedding", embedding, "The model that embeds")->type_name("NAME[@QUANT]")->capture_default_str();
    app.add_option("--reranker", reranker, "The model that reranks")->type_name("NAME[@QUANT]")->capture_default_str();
    app.add_flag("--json", arguments.json, "Print one JSON document instead of text");
    app.add_flag("--events", arguments.events, "Log each event of the models on stderr");
    app.add_flag("--watch-idle", arguments.watch_idle, "Stay until both models have been unloaded");
    app.footer(
        "\nBinary and unreadable files, links and the folders of git, Mercurial and Subversion are skipped.\n"
        "Exit code: 0 found, 1 nothing found or failed, 2 bad usage, 130 interrupted.");
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
        std::cout << app.help();
        return std::nullopt;
    } catch (const CLI::ParseError& error) {
        throw UsageError(std::string(error.what()) + " (search --help tells more).");
    }

    arguments.keep_alive = parse_duration(keep_alive);
    arguments.embedding = parse_key(embedding);
    arguments.reranker = parse_key(reranker);
    if (arguments.query.find_first_not_of(" \t\r\n\v\f") == std::string::npos) {
        throw UsageError("The query is empty.");
    }
    if (arguments.top < 1 || arguments.top > 1000) {
        throw UsageError("--top must be between 1 and 1000.");
    }
    if (arguments.threads < 1 || arguments.threads > 256) {
        throw UsageError("--threads must be between 1 and 256.");
    }
    if (arguments.watch_idle && arguments.keep_alive == residency::keep_alive_forever) {
        throw UsageError("--watch-idle would wait for ever with --keep-alive forever.");
    }
    return arguments;
}

}  // namespace search

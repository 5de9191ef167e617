#pragma once

#include <residency/model_key.hpp>
#include <residency/options.hpp>
#include <residency/runtime/processors.hpp>

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
#include <vector>

namespace search {

/// Exit codes: like grep's, and the shell's for a signal.
enum ExitCode : int { found = 0, nothing_found = 1, failed = 1, bad_usage = 2, killed_by_signal = 128 };

/// The user asked for something that cannot be done: one sentence, exit code 2.
class UsageError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// The models of one search.
struct ModelPair {
    residency::ModelKey embedding{};
    residency::ModelKey reranker{};

    bool operator==(const ModelPair&) const = default;
};

/// What the command line asks for.
struct Arguments {
    std::string query{};
    std::filesystem::path folder = ".";
    std::size_t top = 10;
    std::size_t threads = std::min<std::size_t>(residency::usable_processors(), 16);
    std::chrono::milliseconds keep_alive = std::chrono::seconds(30);
    /// How many bytes all models may hold together; zero: a model of each kind, whatever its size.
    std::uint64_t memory = 0;
    /// The folder that the models come from, or a file with a table of where; empty: the built-in ones.
    std::filesystem::path models{};
    /// A search for each, all at once.
    std::vector<ModelPair> searches{};
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

/// An embedding model each with its reranker: the only one, or the one in the same place. Throws UsageError.
inline std::vector<ModelPair> parse_pairs(const std::vector<std::string>& embeddings,
                                          const std::vector<std::string>& rerankers) {
    if (rerankers.size() != 1 && rerankers.size() != embeddings.size()) {
        throw UsageError("--embedding is given " + std::to_string(embeddings.size()) + " times and --reranker " +
                         std::to_string(rerankers.size()) + " times: give one for all, or one for each.");
    }
    std::vector<ModelPair> pairs;
    for (std::size_t index = 0; index < embeddings.size(); ++index) {
        pairs.push_back({parse_key(embeddings[index]), parse_key(rerankers[rerankers.size() == 1 ? 0 : index])});
    }
    return pairs;
}

/// What the command line says; nothing if it asked for help, which then is on stdout. Throws UsageError.
inline std::optional<Arguments> parse(int argc, const char* const* argv) {
    Arguments arguments;
    std::string keep_alive = "30s";
    std::vector<std::string> embeddings{"lexical@f32"};
    std::vector<std::string> rerankers{"bm25@f32"};

    CLI::App app(
        "Searches the text files of a folder by what they say.\n"
        "Passages are embedded, the nearest to the query are reranked, the best are printed.\n"
        "The built-in models are lexical: they know words, not meanings. Real ones are taken from files, or "
        "asked elsewhere.\n",
        "search");
    app.add_option("QUERY", arguments.query, "What to look for")->required()->type_name("");
    app.add_option("FOLDER", arguments.folder, "Where to look; the current folder by default")->type_name("");
    app.add_option("--top", arguments.top, "How many results to print, 1 to 1000")
        ->type_name("N")
        ->capture_default_str();
    app.add_option("--threads", arguments.threads,
                   "How many threads of a search read and embed at once, 1 to 256; the processors that it may use, at "
                   "most 16, by default")
        ->type_name("N")
        ->capture_default_str();
    app.add_option("--keep-alive", keep_alive, "How long an idle model stays: 500ms, 30s, 5m, 1h, 0 or forever")
        ->type_name("TIME")
        ->capture_default_str();
    app.add_option(
           "--memory", arguments.memory,
           "How much memory the models may hold together, like 500MB or 2GB (of 1024): as many stay as fit in it; "
           "without it one that embeds and one that reranks")
        ->transform(CLI::AsSizeValue(false))
        ->type_name("SIZE");
    app.add_option("--models", arguments.models,
                   "Where models come from: a folder with a NAME-QUANT.gguf each, for llama.cpp, or an OpenVINO folder "
                   "NAME-QUANT; or a table in JSON, see below; without it the built-in ones")
        ->type_name("FOLDER|TABLE");
    app.add_option("--embedding", embeddings,
                   "The model that embeds. Given more than once, each searches for itself, all at once")
        ->type_name("NAME[@QUANT]")
        ->allow_extra_args(false)
        ->default_str(embeddings.front());
    app.add_option("--reranker", rerankers, "The model that reranks; one for all searches, or one for each")
        ->type_name("NAME[@QUANT]")
        ->allow_extra_args(false)
        ->default_str(rerankers.front());
    app.add_flag("--json", arguments.json, "Print one JSON document instead of text");
    app.add_flag("--events", arguments.events, "Log each event of the models on stderr");
    app.add_flag("--watch-idle", arguments.watch_idle, "Stay until both models have been unloaded");
    app.footer(
        "\nA table has a line for each engine; a model is that of the first line which matches it and has it:\n"
        "  [{\"keys\": \"lexical*\", \"built_in\": true},\n"
        "   {\"keys\": \"*@f16\", \"llama_cpp\": \"FOLDER\"}, {\"keys\": \"*\", \"openvino\": \"FOLDER\"},\n"
        "   {\"keys\": \"bge-m3\", \"remote\": [\"http://HOST:8080/v1\"], \"dialect\": \"openai\",\n"
        "    \"name\": \"BAAI/bge-m3\", \"api_key_variable\": \"VARIABLE\"}]\n"
        "`dialect` (openai, tei or cohere), `name` and `api_key_variable` may be left out.\n"
        "\nBinary and unreadable files, links and the folders of git, Mercurial and Subversion are skipped.\n"
        "Exit code: 0 found, 1 nothing found or failed, 2 bad usage, 130 interrupted.");
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
        std::cout << app.help();
        return std::nullopt;
    } catch (const CLI::ParseError& error) {
        throw UsageError(std::string(error.what()) + " (see search --help).");
    }

    arguments.keep_alive = parse_duration(keep_alive);
    arguments.searches = parse_pairs(embeddings, rerankers);
    if (arguments.query.find_first_not_of(" \t\r\n\v\f") == std::string::npos) {
        throw UsageError("The query is empty.");
    }
    if (app.count("--models") != 0 && arguments.models.empty()) {
        throw UsageError("--models names no folder; the current one is '.'.");
    }
    if (arguments.top < 1 || arguments.top > 1000) {
        throw UsageError("--top must be between 1 and 1000.");
    }
    if (arguments.threads < 1 || arguments.threads > 256) {
        throw UsageError("--threads must be between 1 and 256.");
    }
    if (app.count("--memory") != 0 && arguments.memory == 0) {
        throw UsageError("--memory must be more than 0.");
    }
    if (arguments.watch_idle && arguments.keep_alive == residency::keep_alive_forever) {
        throw UsageError("--watch-idle would wait for ever with --keep-alive forever.");
    }
    return arguments;
}

}  // namespace search

#pragma once

#include "search/arguments.hpp"
#include "search/engines.hpp"
#include "search/folder.hpp"
#include "search/history.hpp"
#include "search/interrupt.hpp"
#include "search/nearest.hpp"
#include "search/passages.hpp"
#include "search/progress_bar.hpp"
#include "search/report.hpp"

#include <residency/embed_as.hpp>
#include <residency/model_key.hpp>
#include <residency/model_manager.hpp>
#include <residency/observe/spdlog.hpp>
#include <residency/options.hpp>

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_color_sinks.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <iostream>
#include <iterator>
#include <memory>
#include <mutex>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace search {

/// The main job, over whatever models the engines give.
class Job {
public:
    Job(const Arguments& arguments, Engines engines, const Interrupt& interrupt, Folder folder)
        : arguments_(arguments),
          interrupt_(interrupt),
          folder_(std::move(folder)),
          progress_(folder_.bytes * arguments.searches.size()),
          engines_(std::move(engines)),
          models_(std::make_unique<Manager>(std::move(engines_.embedding), std::move(engines_.reranker), options())) {}

    /// Does it all, prints it, and gives the exit code. Throws what the models throw, and UsageError if there is no
    /// text.
    int run() {
        std::vector<Result> results;
        try {
            results = find_all();
        } catch (...) {
            progress_.finish();
            if (!interrupted()) {
                throw;
            }
        }
        const bool complete = !interrupted();
        if (complete && searched_.passages == 0) {
            throw UsageError("The folder '" + arguments_.folder.string() + "' holds no text.");
        }
        if (complete && !arguments_.json) {
            print(std::cout, results, arguments_.searches.size() > 1);
            print(std::cout, searched_, arguments_.threads);
            std::cout.flush();
        }
        if (complete && results.empty()) {
            std::cerr << "search: Nothing in '" << arguments_.folder.string()
                      << "' has anything in common with the query.\n";
        }
        if (complete && arguments_.watch_idle) {
            std::cerr << "search: waiting until both models have been idle for their keep-alive.\n";
            history_.wait_for_unloads([this] { return models_->status(); }, interrupt_.token());
        }
        const Models models = shut_down();
        if (!arguments_.json) {
            print(std::cout, models);
        } else if (complete) {
            print_json(std::cout, arguments_, results, searched_, models);
        }
        std::cout.flush();
        if (interrupted()) {
            std::cerr << "search: interrupted.\n";
            return killed_by_signal + interrupt_.signal();
        }
        return !std::cout ? failed : results.empty() ? nothing_found : found;
    }

private:
    using Manager = residency::ModelManager<residency::AnyEmbeddingBackend, residency::AnyRerankerBackend>;

    // Small enough for a Ctrl-C to be answered soon, large enough for a call to cost nothing beside it.
    static constexpr std::size_t texts_per_call = 64;
    static constexpr std::size_t reranked = 50;
    static constexpr std::size_t lines_shown = 3;

    [[nodiscard]] bool interrupted() const { return interrupt_.signal() != 0; }

    // For texts that are this.
    [[nodiscard]] residency::RequestOptions as(residency::EmbedAs what, const residency::ModelKey& model) const {
        residency::RequestOptions options;
        options.as = engines_.as(what, model);
        return options;
    }

    residency::ManagerOptions options() {
        residency::Observer log;
        if (arguments_.events) {
            const auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
            const auto logger = std::make_shared<spdlog::logger>("search", sink);
            logger->set_level(spdlog::level::debug);
            logger->set_pattern("%H:%M:%S.%e %^%l%$ %v");
            log = residency::spdlog_observer(logger);
        }
        residency::ManagerOptions options;
        options.embedding.keep_alive = arguments_.keep_alive;
        options.embedding.max_leases = arguments_.threads;
        // Threads of other searches wait for the model to be switched.
        options.embedding.max_queue =
            std::max(options.embedding.max_queue, arguments_.threads * arguments_.searches.size());
        options.reranker.keep_alive = arguments_.keep_alive;
        if (arguments_.memory != 0) {
            const auto budget = std::make_shared<residency::MemoryBudget>(arguments_.memory);
            for (residency::SlotOptions* const slot : {&options.embedding, &options.reranker}) {
                slot->memory = budget;
                slot->max_resident = 0;
                // Of a model that another machine computes there is next to nothing here.
                slot->model_memory = std::size_t{64} << 10U;
            }
        }
        options.observer = [this, log = std::move(log)](const residency::Event& event) {
            // A load that goes well logs much that is of no use here.
            const bool chat =
                event.type == residency::EventType::load_progress ||
                (event.type == residency::EventType::load_log && event.severity < residency::Severity::warning);
            if (log && !chat) {
                progress_.aside([&] { log(event); });
            } else if (arguments_.watch_idle && event.type == residency::EventType::unloaded) {
                progress_.aside([&] { std::cerr << "search: " << event << '\n'; });
            }
            history_.note(event);
        };
        return options;
    }

    // Calls `work(index)` for each index below `count`, in a thread each. Throws what the first to throw threw; the
    // others are asked to stop.
    template <class Work>
    void each_in_a_thread(std::size_t count, const Work& work) {
        std::mutex mutex;
        std::exception_ptr failure;
        {
            std::vector<std::jthread> threads;
            for (std::size_t index = 0; index < count; ++index) {
                threads.emplace_back([&, index] {
                    try {
                        work(index);
                    } catch (...) {
                        give_up_ = true;
                        const std::lock_guard lock(mutex);
                        failure = failure ? failure : std::current_exception();
                    }
                });
            }
        }
        if (failure) {
            std::rethrow_exception(failure);
        }
    }

    // All searches at once; their results one after the other.
    std::vector<Result> find_all() {
        const auto begin = std::chrono::steady_clock::now();
        std::vector<std::vector<Result>> found(arguments_.searches.size());
        std::vector<Searched> searched(arguments_.searches.size());
        each_in_a_thread(arguments_.searches.size(),
                         [&](std::size_t index) { found[index] = find(arguments_.searches[index], searched[index]); });
        progress_.finish();
        std::vector<Result> results;
        for (std::vector<Result>& each : found) {
            std::move(each.begin(), each.end(), std::back_inserter(results));
        }
        searched_ = searched.front();
        searched_.searches = arguments_.searches.size();
        searched_.skipped += folder_.skipped;
        searched_.time = std::chrono::steady_clock::now() - begin;
        return results;
    }

    std::vector<Result> find(const ModelPair& models, Searched& searched) {
        const residency::Embeddings query =
            models_->embed(models.embedding, {arguments_.query}, as(residency::EmbedAs::query, models.embedding));
        const std::vector<Candidate> nearest = nearest_to(query[0], models.embedding, searched);
        if (nearest.empty() || give_up_ || interrupted()) {
            return {};
        }
        return best_of(nearest, query[0], models);
    }

    // Reads all files from several threads at once; each embeds what it has read and keeps what is nearest.
    std::vector<Candidate> nearest_to(std::span<const float> query, const residency::ModelKey& model,
                                      Searched& searched) {
        Nearest nearest(std::max(reranked, arguments_.top));
        std::mutex mutex;
        std::atomic<std::size_t> next_file = 0;
        each_in_a_thread(arguments_.threads, [&](std::size_t) {
            Nearest mine(std::max(reranked, arguments_.top));
            Searched by_me;
            read_files(query, model, next_file, mine, by_me);
            const std::lock_guard lock(mutex);
            nearest.merge(std::move(mine));
            searched += by_me;
        });
        return std::move(nearest).take();
    }

    void read_files(std::span<const float> query, const residency::ModelKey& model, std::atomic<std::size_t>& next_file,
                    Nearest& nearest, Searched& searched) {
        std::vector<Candidate> batch;
        const auto gives_up = [this] { return give_up_ || interrupted(); };
        const auto embed = [&] {
            if (batch.empty() || gives_up()) {
                batch.clear();
                return;
            }
            std::vector<std::string> texts;
            for (const Candidate& candidate : batch) {
                texts.push_back(candidate.passage.text);
            }
            const residency::Embeddings rows =
                models_->embed(model, std::move(texts), as(residency::EmbedAs::document, model));
            for (std::size_t row = 0; row < rows.size(); ++row) {
                batch[row].similarity = cosine(rows[row], query);
                nearest.show(std::move(batch[row]));
            }
            searched.passages += batch.size();
            progress_.add(0, batch.size());
            batch.clear();
        };
        while (!gives_up()) {
            const std::size_t index = next_file++;
            if (index >= folder_.files.size()) {
                break;
            }
            const File& file = folder_.files[index];
            const auto take = [&](Passage&& passage) {
                batch.push_back({0.0F, index, std::move(passage)});
                if (batch.size() == texts_per_call) {
                    embed();
                }
            };
            const ReadResult result = read_passages(file.path, take, gives_up);
            searched.files += result == ReadResult::text ? 1 : 0;
            searched.bytes += result == ReadResult::text ? file.size : 0;
            searched.skipped.binary += result == ReadResult::binary ? 1 : 0;
            searched.skipped.unreadable += result == ReadResult::unreadable ? 1 : 0;
            progress_.add(file.size, 0);
        }
        embed();
    }

    std::vector<Result> best_of(const std::vector<Candidate>& nearest, std::span<const float> query,
                                const ModelPair& models) {
        std::vector<std::string> documents;
        for (const Candidate& candidate : nearest) {
            documents.push_back(candidate.passage.text);
        }
        residency::Ranking ranking = models_->rerank(models.reranker, arguments_.query, std::move(documents));
        ranking.resize(std::min(ranking.size(), arguments_.top));
        std::vector<Result> results;
        for (const residency::RankedDocument& ranked : ranking) {
            const Candidate& candidate = nearest[ranked.index];
            results.push_back({models, folder_.files[candidate.file].shown, 0, ranked.score, candidate.similarity,
                               lines_of(candidate.passage)});
        }
        choose_lines(results, query, models.embedding);
        return results;
    }

    static std::vector<Line> lines_of(const Passage& passage) {
        std::vector<Line> lines;
        std::string_view rest = passage.text;
        for (std::size_t number = passage.first_line; !rest.empty(); ++number) {
            const std::string_view line = rest.substr(0, rest.find('\n'));
            if (line.find_first_not_of(" \t\r\v\f") != std::string_view::npos) {
                lines.push_back({number, std::string(line)});
            }
            rest.remove_prefix(std::min(line.size() + 1, rest.size()));
        }
        return lines;
    }

    // Leaves of each result's lines those that are nearest to the query, found like the passages themselves.
    void choose_lines(std::vector<Result>& results, std::span<const float> query, const residency::ModelKey& model) {
        std::vector<std::string> texts;
        for (const Result& result : results) {
            for (const Line& line : result.lines) {
                texts.push_back(line.text);
            }
        }
        const residency::Embeddings rows =
            models_->embed(model, std::move(texts), as(residency::EmbedAs::document, model));
        std::size_t row = 0;
        for (Result& result : results) {
            std::vector<std::pair<float, std::size_t>> order;
            for (std::size_t index = 0; index < result.lines.size(); ++index) {
                order.emplace_back(-cosine(rows[row++], query), index);
            }
            std::sort(order.begin(), order.end());
            result.line = result.lines[order.front().second].number;
            // A line that is less than half as near as the best says little.
            const float least = order.front().first / 2.0F;
            std::vector<std::size_t> kept;
            for (std::size_t place = 0; place < std::min(order.size(), lines_shown); ++place) {
                if (place == 0 || order[place].first < least) {
                    kept.push_back(order[place].second);
                }
            }
            std::sort(kept.begin(), kept.end());
            std::vector<Line> lines;
            for (const std::size_t index : kept) {
                lines.push_back(std::move(result.lines[index]));
            }
            result.lines = std::move(lines);
        }
    }

    // Lets what runs end and the models go, then gives the last status. The manager is destroyed, so no event comes
    // after: those of the unloads are awaited, since neither a shutdown nor the destructor waits for the observer.
    Models shut_down() {
        models_->shutdown();
        history_.wait_for_unloads([this] { return models_->status(); }, std::stop_token());
        Models models{models_->status(), {}};
        models_.reset();
        models.unloads = history_.unloads();
        return models;
    }

    const Arguments& arguments_;
    const Interrupt& interrupt_;
    Folder folder_;
    Searched searched_;
    std::atomic<bool> give_up_ = false;
    ProgressBar progress_;
    History history_;
    Engines engines_;
    // The last member: its events go to those above.
    std::unique_ptr<Manager> models_;
};

}  // namespace search

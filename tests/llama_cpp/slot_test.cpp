// Real models in slots: many threads, two quantizations, errors, events, and nothing left at the end.

#include "residency/backends/llama_cpp.hpp"
#include "residency/model_manager.hpp"
#include "support/catch.hpp"
#include "support/comparing.hpp"
#include "support/folders.hpp"
#include "support/parallel.hpp"
#include "support/parity.hpp"
#include "support/references.hpp"
#include "support/tiny_model.hpp"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <string>
#include <vector>

namespace slot_test {

using namespace residency;
using namespace residency::test;

namespace {

using Manager = ModelManager<LlamaCppEmbeddingBackend, LlamaCppRerankerBackend>;

constexpr std::size_t at_once = 8;

LlamaCppModelOptions one_thread_each(const std::filesystem::path& folder) { return {.files = folder, .threads = 1}; }

Manager manager_of(const std::filesystem::path& folder, ManagerOptions options = {}) {
    return Manager(LlamaCppEmbeddingBackend({.model = one_thread_each(folder)}),
                   LlamaCppRerankerBackend({.model = one_thread_each(folder)}), options);
}

std::size_t threads_of_process() {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/task"), {}));
}

}  // namespace

TEST_CASE("embeddings are those of the reference for 8 threads at once through one slot") {
    const auto folder = models_or_skip();
    if (!folder) {
        return;
    }
    const auto cases = read_embedding_cases(*folder / "all-minilm-l6-v2.reference.json");
    Manager manager = manager_of(*folder);
    for (const EmbeddingBound& bound : embedding_bounds) {
        const ModelKey key("all-minilm-l6-v2", bound.quantization);
        // Each text alone, by each thread.
        Embeddings rows(at_once * cases.size(), 384);
        in_parallel(at_once, rows.size(), [&](std::size_t index) {
            // Neighbours are far apart, so that different texts are computed at once.
            const Embeddings row = manager.embed(key, {cases[index * 7 % cases.size()].text});
            std::copy(row.values().begin(), row.values().end(), rows[index].begin());
        });
        std::vector<EmbeddingCase> in_order;
        for (std::size_t index = 0; index < rows.size(); ++index) {
            in_order.push_back(cases[index * 7 % cases.size()]);
        }
        check(rows, in_order, bound);
        // All of them in one call, by each thread.
        std::vector<std::string> texts;
        for (const EmbeddingCase& each : cases) {
            texts.push_back(each.text);
        }
        std::vector<Embeddings> together(at_once);
        in_parallel(at_once, at_once, [&](std::size_t thread) { together[thread] = manager.embed(key, texts); });
        CHECK(std::count(together.begin(), together.end(), together.front()) == at_once);
        check(together.front(), cases, bound);
    }
    // Two keys of one slot: the second had the place of the first.
    CHECK(manager.status().embedding.counters.loaded == 2);
    CHECK(manager.status().embedding.counters.unloaded() == 1);
}

TEST_CASE("scores are those of the reference for 8 threads at once through one slot") {
    const auto folder = models_or_skip();
    if (!folder) {
        return;
    }
    const auto cases = read_rerank_cases(*folder / "qa-reranker-l6.reference.json");
    Manager manager = manager_of(*folder);
    for (const RerankBound& bound : rerank_bounds) {
        std::vector<std::vector<float>> scores(cases.size());
        in_parallel(at_once, cases.size(), [&](std::size_t index) {
            const RerankCase& each = cases[index];
            scores[index].resize(each.documents.size());
            for (const RankedDocument& document :
                 manager.rerank({"qa-reranker-l6", bound.quantization}, each.query, each.documents)) {
                scores[index].at(document.index) = document.score;
            }
        });
        double largest = 0.0;
        for (std::size_t index = 0; index < cases.size(); ++index) {
            largest = std::max(largest, check(scores[index], cases[index], bound));
        }
        WARN(bound.quantization << ": largest difference " << largest);
    }
}

TEST_CASE("requests for both quantizations at once are each answered by their own") {
    const auto folder = models_or_skip();
    if (!folder) {
        return;
    }
    const auto cases = read_embedding_cases(*folder / "all-minilm-l6-v2.reference.json");
    // A request that shares no call has the same bits each time.
    const std::size_t most = GENERATE(0U, 1U);
    ManagerOptions options;
    options.embedding.max_batch_texts = most;
    Manager manager = manager_of(*folder, options);
    const Embeddings by_f16 = manager.embed({"all-minilm-l6-v2", "f16"}, {cases[5].text});
    const Embeddings by_q8_0 = manager.embed({"all-minilm-l6-v2", "q8_0"}, {cases[5].text});
    REQUIRE(by_f16 != by_q8_0);
    std::vector<int> wrong(64);
    in_parallel(at_once, wrong.size(), [&](std::size_t index) {
        const bool half = index % 3 == 0;
        const Embeddings row = manager.embed({"all-minilm-l6-v2", half ? "f16" : "q8_0"}, {cases[5].text});
        const bool right = most == 1 ? row == (half ? by_f16 : by_q8_0) : (cosine(row[0], by_f16[0]) > 0.9999) == half;
        wrong[index] = right ? 0 : 1;
    });
    CHECK(std::count(wrong.begin(), wrong.end(), 1) == 0);
    const SlotCounters counters = manager.status().embedding.counters;
    CHECK(counters.loaded >= 2);
    CHECK(counters.load_failures == 0);
    CHECK(manager.shutdown().clean());
}

TEST_CASE("errors of backend and model keep their codes, and requests that were wrong start no cooldown") {
    const TemporaryFolder folder;
    write_tiny_model(folder.path() / "tiny.gguf", {});
    Manager manager = manager_of(folder.path());
    for (int round = 0; round < 2; ++round) {
        const Error error = error_of(make_error_code(errc::invalid_request), [&] {
            (void)manager.embed("tiny", {"text", std::string(600, 'x')});
        });
        CHECK_THAT(error.what(), contains_text("text 1: it has 600 tokens, and the limit is 512"));
        CHECK(manager.embed("tiny", {"text"}).size() == 1);
    }
    std::ofstream(folder.path() / "torn.gguf").put('x');
    const Error torn = error_of(make_error_code(errc::load_failed), [&] { (void)manager.embed("torn", {"text"}); });
    CHECK_THAT(torn.what(), contains_text("it is not a whole GGUF file"));
    (void)error_of(make_error_code(errc::cooling_down), [&] { (void)manager.embed("torn", {"text"}); });
    const Error wrong_kind =
        error_of(make_error_code(errc::load_failed), [&] { (void)manager.rerank("tiny", "query", {"text"}); });
    CHECK_THAT(wrong_kind.what(), contains_text("it is no reranker"));
}

TEST_CASE("a key without a file is unknown, and the model that is there stays") {
    const TemporaryFolder folder;
    write_tiny_model(folder.path() / "tiny.gguf", {});
    Manager manager = manager_of(folder.path());
    CHECK(manager.embed("tiny", {"text"}).size() == 1);
    const Generation generation = manager.embedding().generation();
    for (const char* key : {"missing", "../tiny"}) {
        (void)error_of(make_error_code(errc::unknown_model), [&] { (void)manager.embed(key, {"text"}); });
        (void)error_of(make_error_code(errc::unknown_model), [&] { (void)manager.rerank(key, "query", {"text"}); });
    }
    CHECK(manager.embedding().generation() == generation);
    CHECK(manager.embedding().status().counters.loads == 1);
}

TEST_CASE("progress and lines of a load are events of its slot") {
    const TemporaryFolder folder;
    write_tiny_model(folder.path() / "tiny.gguf", {});
    std::mutex mutex;
    std::vector<Event> events;
    ManagerOptions options;
    options.observer = [&](const Event& event) {
        const std::lock_guard lock(mutex);
        events.push_back(event);
    };
    {
        Manager manager = manager_of(folder.path(), options);
        (void)manager.embed("tiny", {"text"});
        CHECK(manager.shutdown().clean());
    }
    const auto count = [&](EventType type) {
        return std::count_if(events.begin(), events.end(), [type](const Event& event) { return event.type == type; });
    };
    CHECK(count(EventType::load_progress) > 0);
    CHECK(count(EventType::load_log) > 10);
    CHECK(count(EventType::ready) == 1);
    CHECK(count(EventType::unloaded) == 1);
    for (const Event& event : events) {
        if (event.type == EventType::load_log || event.type == EventType::load_progress) {
            CHECK(event.slot == "embedding");
            CHECK(event.key == ModelKey("tiny"));
        }
    }
}

TEST_CASE("two managers that load at once do not mix their lines") {
    const TemporaryFolder good;
    const TemporaryFolder bad;
    write_tiny_model(good.path() / "tiny.gguf", {});
    write_tiny_model(bad.path() / "tiny.gguf", {.architecture = "nonesuch"});
    for (int round = 0; round < 5; ++round) {
        // Each manager's observer is called by one thread at a time.
        std::string of_good;
        std::string of_bad;
        std::size_t errors_of_good = 0;
        const auto listen = [](std::string& lines, std::size_t* errors) {
            ManagerOptions options;
            options.observer = [&lines, errors](const Event& event) {
                if (event.type == EventType::load_log) {
                    lines += event.message + '\n';
                    if (errors != nullptr && event.severity == Severity::error) {
                        ++*errors;
                    }
                }
            };
            return options;
        };
        {
            Manager first = manager_of(good.path(), listen(of_good, &errors_of_good));
            Manager second = manager_of(bad.path(), listen(of_bad, nullptr));
            std::size_t rows = 0;
            std::string why;
            in_parallel(2, 2, [&](std::size_t which) {
                try {
                    if (which == 0) {
                        rows = first.embed("tiny", {"text"}).size();
                    } else {
                        (void)second.embed("tiny", {"text"});
                    }
                } catch (const Error& error) {
                    why += error.what();
                }
            });
            CHECK(rows == 1);
            CHECK_THAT(why, contains_text("nonesuch"));
            CHECK(first.shutdown().clean());
            CHECK(second.shutdown().clean());
        }
        CHECK_THAT(of_good, contains_text(good.path().string()));
        CHECK_THAT(of_good, !contains_text(bad.path().string()));
        CHECK(errors_of_good == 0);
        CHECK_THAT(of_bad, contains_text(bad.path().string()));
        CHECK_THAT(of_bad, !contains_text(good.path().string()));
    }
}

TEST_CASE("when a shutdown has completed and the manager is gone, no thread is left") {
    const TemporaryFolder folder;
    write_tiny_model(folder.path() / "tiny.gguf", {});
    // With more than one thread an inference, OpenMP keeps threads of its own for each that called it.
    const std::size_t before = threads_of_process();
    {
        Manager manager = manager_of(folder.path());
        in_parallel(at_once, 64, [&](std::size_t) { (void)manager.embed("tiny", {"one", "two"}); });
        CHECK(manager.shutdown().clean());
        CHECK(manager.status().embedding.residents.empty());
    }
    CHECK(threads_of_process() == before);
}

}  // namespace slot_test

// How well the real models find what is asked for, through the library: nDCG@10 on the collection that RESIDENCY_CORPUS
// names, with the models that RESIDENCY_MODELS names, beside the figures of the reference implementation.
//
//   quality [f16|q8_0]... [N]   which quantizations; both if none is named. With a number only so many queries, and the
//                               documents judged for them, for which there is no reference: it shows that it works
//
// Ends with 1 if a figure of f16 is further than 0.005 from the reference, or nothing is found, with 77 if a folder is
// not named.

#include "residency/backends/llama_cpp.hpp"
#include "residency/model_manager.hpp"
#include "residency/runtime/processors.hpp"
#include "support/ndcg.hpp"
#include "support/parallel.hpp"
#include "support/references.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

namespace {

using namespace residency;
using namespace residency::test;
using Manager = ModelManager<LlamaCppEmbeddingBackend, LlamaCppRerankerBackend>;

constexpr double allowed = 0.005;
constexpr int first_held_out = 151;
constexpr std::size_t reordered = 50;
constexpr std::size_t texts_per_request = 50;

struct Row {
    std::string pipeline;
    double reference;
    double found;
};

LlamaCppModelOptions options_of(const std::filesystem::path& models, std::size_t context_tokens) {
    // A request for each processor, and a thread for each request.
    LlamaCppModelOptions options{.files = models, .threads = 1};
    options.context_tokens = context_tokens;
    options.truncate = true;
    return options;
}

// As many requests at once as the models take.
std::size_t requests_at_once() { return usable_processors(); }

std::vector<std::vector<float>> embed(Manager& manager, const ModelKey& key, const std::vector<NumberedText>& texts) {
    std::vector<std::vector<float>> vectors(texts.size());
    in_parallel(requests_at_once(), (texts.size() + texts_per_request - 1) / texts_per_request,
                [&](std::size_t request) {
                    const std::size_t begin = request * texts_per_request;
                    const std::size_t end = std::min(texts.size(), begin + texts_per_request);
                    std::vector<std::string> some;
                    for (std::size_t index = begin; index < end; ++index) {
                        some.push_back(texts[index].text);
                    }
                    const Embeddings rows = manager.embed(key, std::move(some));
                    for (std::size_t index = begin; index < end; ++index) {
                        vectors[index].assign(rows[index - begin].begin(), rows[index - begin].end());
                    }
                });
    return vectors;
}

// The documents' places in the collection, best first; equal ones by their number.
std::vector<std::size_t> search(const std::vector<float>& query, const std::vector<std::vector<float>>& documents) {
    std::vector<float> scores;
    for (const std::vector<float>& document : documents) {
        scores.push_back(std::inner_product(query.begin(), query.end(), document.begin(), 0.0F));
    }
    std::vector<std::size_t> order(documents.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t left, std::size_t right) { return scores[left] > scores[right]; });
    return order;
}

// The mean over the queries from `first` on.
double mean_ndcg(const Collection& collection, const std::vector<std::vector<std::size_t>>& rankings, int first) {
    const auto gains = gains_of(collection);
    double sum = 0.0;
    std::size_t count = 0;
    for (std::size_t query = 0; query < collection.queries.size(); ++query) {
        if (collection.queries[query].id < first) {
            continue;
        }
        std::vector<int> numbers;
        for (const std::size_t place : rankings[query]) {
            numbers.push_back(collection.documents[place].id);
        }
        const auto of_query = gains.find(collection.queries[query].id);
        sum += of_query == gains.end() ? 0.0 : ndcg_at_10(numbers, of_query->second);
        ++count;
    }
    return sum / static_cast<double>(count);
}

std::vector<std::vector<std::size_t>> rerank(Manager& manager, const ModelKey& key, const Collection& collection,
                                             const std::vector<std::vector<std::size_t>>& rankings) {
    std::vector<std::vector<std::size_t>> reranked(rankings.size());
    in_parallel(requests_at_once(), rankings.size(), [&](std::size_t query) {
        if (collection.queries[query].id < first_held_out) {
            return;
        }
        // By number, so that equal scores stay in that order.
        std::vector<std::size_t> best(
            rankings[query].begin(),
            rankings[query].begin() + static_cast<std::ptrdiff_t>(std::min(reordered, rankings[query].size())));
        std::sort(best.begin(), best.end());
        std::vector<std::string> documents;
        for (const std::size_t place : best) {
            documents.push_back(collection.documents[place].text);
        }
        for (const RankedDocument& each : manager.rerank(key, collection.queries[query].text, std::move(documents))) {
            reranked[query].push_back(best[each.index]);
        }
    });
    return reranked;
}

std::vector<Row> measure(const std::filesystem::path& models, const Collection& collection,
                         const std::string& quantization) {
    std::vector<Row> rows;
    const LlamaCppEmbeddingBackend embedder({.model = options_of(models, 0)});
    std::vector<std::vector<std::size_t>> rankings;
    {
        Manager manager(embedder, LlamaCppRerankerBackend({.model = options_of(models, 0)}));
        const ModelKey key("all-minilm-l6-v2", quantization);
        const auto documents = embed(manager, key, collection.documents);
        for (const auto& query : embed(manager, key, collection.queries)) {
            rankings.push_back(search(query, documents));
        }
    }
    rows.push_back({"embedder, queries 1 to 225", 0.3526, mean_ndcg(collection, rankings, 1)});
    rows.push_back({"embedder, queries 151 to 225", 0.3671, mean_ndcg(collection, rankings, first_held_out)});
    for (const auto& [context_tokens, reference] : {std::pair<std::size_t, double>{224, 0.3921}, {512, 0.3657}}) {
        Manager manager(embedder, LlamaCppRerankerBackend({.model = options_of(models, context_tokens)}));
        const auto reranked = rerank(manager, {"qa-reranker-l6", quantization}, collection, rankings);
        rows.push_back(
            {"its best 50 reranked, " + std::to_string(context_tokens) + " tokens a pair, queries 151 to 225",
             reference, mean_ndcg(collection, reranked, first_held_out)});
    }
    return rows;
}

// Leaves of the queries that were held out the first `count`, and the documents that are of use for them.
void keep_few(Collection& collection, std::size_t count) {
    std::erase_if(collection.queries, [](const NumberedText& query) { return query.id < first_held_out; });
    collection.queries.resize(std::min(collection.queries.size(), count));
    std::set<int> queries;
    for (const NumberedText& query : collection.queries) {
        queries.insert(query.id);
    }
    std::set<int> documents;
    for (const Judgement& each : collection.judgements) {
        if (queries.contains(each.query)) {
            documents.insert(each.document);
        }
    }
    std::erase_if(collection.documents,
                  [&documents](const NumberedText& document) { return !documents.contains(document.id); });
}

}  // namespace

int main(int argc, char** argv) try {
    const char* const models = std::getenv("RESIDENCY_MODELS");
    const char* const corpus = std::getenv("RESIDENCY_CORPUS");
    if (models == nullptr || corpus == nullptr) {
        std::cout << "skipped: RESIDENCY_MODELS and RESIDENCY_CORPUS name no folders\n";
        return 77;
    }
    std::vector<std::string> quantizations(argv + 1, argv + argc);
    Collection collection = read_collection(corpus);
    const auto number = std::find_if(quantizations.begin(), quantizations.end(), [](const std::string& argument) {
        return argument.find_first_not_of("0123456789") == std::string::npos;
    });
    const bool few = number != quantizations.end();
    if (few) {
        keep_few(collection, std::stoul(*number));
        quantizations.erase(number);
    }
    if (quantizations.empty()) {
        quantizations = {"f16", "q8_0"};
    }
    std::cout << "nDCG@10 of " << collection.queries.size() << " queries on " << collection.documents.size()
              << " documents\n"
              << std::left << std::setw(64) << "" << std::right << std::setw(10) << "here";
    if (!few) {
        std::cout << std::setw(11) << "reference" << std::setw(12) << "difference";
    }
    std::cout << std::endl;
    bool good = true;
    for (const std::string& quantization : quantizations) {
        const auto begin = std::chrono::steady_clock::now();
        for (const Row& row : measure(models, collection, quantization)) {
            std::cout << std::left << std::setw(6) << quantization << std::setw(58) << row.pipeline << std::right
                      << std::fixed << std::setprecision(4) << std::setw(10) << row.found;
            good = good && row.found > 0.0;
            if (!few) {
                const double difference = row.found - row.reference;
                good = good && (quantization != "f16" || std::abs(difference) <= allowed);
                std::cout << std::setw(11) << row.reference << std::showpos << std::setw(12) << difference
                          << std::noshowpos;
            }
            std::cout << std::endl;
        }
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - begin);
        std::cout << std::left << std::setw(6) << quantization << seconds.count() << " s" << std::endl;
    }
    if (!good) {
        std::cout << "f16 is further than " << allowed << " from the reference, or nothing was found\n";
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
} catch (const std::exception& error) {
    std::cerr << "quality: " << error.what() << '\n';
    return EXIT_FAILURE;
}

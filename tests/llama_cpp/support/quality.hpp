#pragma once

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
#include <iomanip>
#include <iostream>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace residency::test {

// How well real models find what is asked for, whatever holds them: nDCG@10 on a collection, beside the figures of the
// reference implementation.

constexpr double allowed = 0.005;
constexpr int first_held_out = 151;
constexpr std::size_t reordered = 50;
constexpr std::size_t texts_per_request = 50;

struct QualityRow {
    std::string pipeline;
    double reference;
    double found;
};

// As many requests at once as the models take.
inline std::size_t requests_at_once() { return usable_processors(); }

template <class Manager>
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
inline std::vector<std::size_t> search(const std::vector<float>& query,
                                       const std::vector<std::vector<float>>& documents) {
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
inline double mean_ndcg(const Collection& collection, const std::vector<std::vector<std::size_t>>& rankings,
                        int first) {
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

template <class Manager>
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

// `make(context_tokens)` gives a manager, by pointer, of models that take so many tokens; zero: as many as they can.
template <class Make>
std::vector<QualityRow> measure(const Make& make, const Collection& collection, const std::string& quantization) {
    std::vector<QualityRow> rows;
    std::vector<std::vector<std::size_t>> rankings;
    {
        const auto manager = make(0);
        const ModelKey key("all-minilm-l6-v2", quantization);
        const auto documents = embed(*manager, key, collection.documents);
        for (const auto& query : embed(*manager, key, collection.queries)) {
            rankings.push_back(search(query, documents));
        }
    }
    rows.push_back({"embedder, queries 1 to 225", 0.3526, mean_ndcg(collection, rankings, 1)});
    rows.push_back({"embedder, queries 151 to 225", 0.3671, mean_ndcg(collection, rankings, first_held_out)});
    for (const auto& [context_tokens, reference] : {std::pair<std::size_t, double>{224, 0.3921}, {512, 0.3657}}) {
        const auto manager = make(context_tokens);
        const auto reranked = rerank(*manager, {"qa-reranker-l6", quantization}, collection, rankings);
        rows.push_back(
            {"its best 50 reranked, " + std::to_string(context_tokens) + " tokens a pair, queries 151 to 225",
             reference, mean_ndcg(collection, reranked, first_held_out)});
    }
    return rows;
}

// Leaves of the queries that were held out the first `count`, and the documents that are of use for them.
inline void keep_few(Collection& collection, std::size_t count) {
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

// What a program prints: the figures of each of the quantizations that the arguments name, or else of `quantizations`;
// with a number only so many queries, and the documents judged for them, for which there is no reference. Gives
// EXIT_FAILURE if a figure of f16 is further off than `allowed`, or nothing is found.
template <class Make>
int report_quality(std::vector<std::string> arguments, const std::vector<std::string>& quantizations,
                   const std::string& corpus, const Make& make) {
    Collection collection = read_collection(corpus);
    const auto number = std::find_if(arguments.begin(), arguments.end(), [](const std::string& argument) {
        return argument.find_first_not_of("0123456789") == std::string::npos;
    });
    const bool few = number != arguments.end();
    if (few) {
        keep_few(collection, std::stoul(*number));
        arguments.erase(number);
    }
    if (arguments.empty()) {
        arguments = quantizations;
    }
    std::cout << "nDCG@10 of " << collection.queries.size() << " queries on " << collection.documents.size()
              << " documents\n"
              << std::left << std::setw(64) << "" << std::right << std::setw(10) << "here";
    if (!few) {
        std::cout << std::setw(11) << "reference" << std::setw(12) << "difference";
    }
    std::cout << std::endl;
    bool good = true;
    for (const std::string& quantization : arguments) {
        const auto begin = std::chrono::steady_clock::now();
        for (const QualityRow& row : measure(make, collection, quantization)) {
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
}

}  // namespace residency::test

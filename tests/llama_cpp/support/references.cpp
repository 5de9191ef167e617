#include "references.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include <fstream>
#include <iterator>
#include <stdexcept>

namespace residency::test {
namespace {

std::ifstream open(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    if (!in) {
        throw std::runtime_error("cannot read " + file.string());
    }
    return in;
}

boost::json::value parse(const std::filesystem::path& file) {
    std::ifstream in = open(file);
    return boost::json::parse(std::string(std::istreambuf_iterator<char>(in), {}));
}

template <class Number>
std::vector<Number> numbers(const boost::json::value& array) {
    std::vector<Number> values;
    for (const boost::json::value& value : array.as_array()) {
        values.push_back(static_cast<Number>(value.to_number<double>()));
    }
    return values;
}

std::string text(const boost::json::value& value) { return std::string(value.as_string()); }

std::string trimmed(const std::string& whole) {
    const std::size_t begin = whole.find_first_not_of(" \t\r\n");
    return begin == std::string::npos ? "" : whole.substr(begin, whole.find_last_not_of(" \t\r\n") + 1 - begin);
}

}  // namespace

std::vector<EmbeddingCase> read_embedding_cases(const std::filesystem::path& file) {
    std::vector<EmbeddingCase> cases;
    const boost::json::value whole = parse(file);
    for (const boost::json::value& each : whole.at("cases").as_array()) {
        cases.push_back(
            {text(each.at("text")), numbers<int>(each.at("token_ids")), numbers<float>(each.at("embedding"))});
    }
    return cases;
}

std::vector<RerankCase> read_rerank_cases(const std::filesystem::path& file) {
    std::vector<RerankCase> cases;
    const boost::json::value whole = parse(file);
    for (const boost::json::value& each : whole.at("cases").as_array()) {
        RerankCase one{text(each.at("query")), {}, numbers<float>(each.at("scores"))};
        for (const boost::json::value& document : each.at("documents").as_array()) {
            one.documents.push_back(text(document));
        }
        cases.push_back(std::move(one));
    }
    return cases;
}

Collection read_collection(const std::filesystem::path& folder) {
    Collection collection;
    std::string line;
    std::ifstream documents = open(folder / "documents.jsonl");
    while (std::getline(documents, line)) {
        const boost::json::value each = boost::json::parse(line);
        collection.documents.push_back(
            {each.at("id").to_number<int>(), trimmed(text(each.at("title")) + ". " + text(each.at("text")))});
    }
    std::ifstream queries = open(folder / "queries.jsonl");
    while (std::getline(queries, line)) {
        const boost::json::value each = boost::json::parse(line);
        collection.queries.push_back({each.at("id").to_number<int>(), text(each.at("text"))});
    }
    std::ifstream judgements = open(folder / "qrels.tsv");
    Judgement judgement;
    int iteration = 0;
    while (judgements >> judgement.query >> iteration >> judgement.document >> judgement.gain) {
        collection.judgements.push_back(judgement);
    }
    return collection;
}

}  // namespace residency::test

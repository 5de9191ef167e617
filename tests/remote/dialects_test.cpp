// What each dialect sends, and what it reads: embedders and rerankers.

#include "support/dialects.hpp"
#include "support/calls.hpp"
#include "support/peer.hpp"

namespace dialects_test {

using namespace residency;
using namespace residency::test;

namespace {

using boost::json::parse;
using boost::json::value;

// Scores: the lengths of the documents, the last one first.
Reply scores(const Seen& seen, const char* documents, const char* score, bool bare) {
    boost::json::array results;
    const std::vector<std::string> texts = texts_in(seen.body, documents);
    for (std::size_t index = texts.size(); index-- > 0;) {
        results.emplace_back(boost::json::object{{"index", index}, {score, static_cast<double>(texts[index].size())}});
    }
    return answer(200, bare ? boost::json::serialize(results)
                            : boost::json::serialize(boost::json::object{{"results", std::move(results)}}));
}

std::vector<float> rerank(RemoteReranker& model, const std::string& query, const std::vector<std::string>& documents) {
    asio::io_context io(1);
    return run(io, model.rerank(query, documents, {}));
}

const std::vector<std::string> documents{"a", "bbb", "cc", "", "dddddd"};
const std::vector<float> lengths{1, 3, 2, 0, 6};

}  // namespace

TEST_CASE("remote: a reranker of OpenAI's dialect uses the form that Jina, vLLM, llama-server and Infinity share") {
    Peer peer([](const Seen& seen) { return scores(seen, "documents", "relevance_score", false); });
    RemoteModelOptions options = options_for({peer.url()});
    options.texts_per_request = GENERATE(std::size_t{2}, std::size_t{32});
    const auto model = load_reranker({.model = options});
    CHECK(rerank(*model, "the \"query\"", documents) == lengths);
    CHECK(rerank(*model, "q", {}).empty());
    const Seen seen = peer.seen()[1];
    CHECK(seen.target == "/v1/rerank");
    const value body = parse(seen.body);
    CHECK(body.at("model") == "m");
    CHECK(body.at("query") == "the \"query\"");
    CHECK(body.at("top_n") == std::min(options.texts_per_request, documents.size()));
}

TEST_CASE("remote: a reranker of text-embeddings-inference's dialect") {
    Peer peer([](const Seen& seen) { return scores(seen, "texts", "score", true); });
    const auto model = load_reranker({.model = options_for({peer.url("")}, RemoteDialect::tei)});
    CHECK(rerank(*model, "q", documents) == lengths);
    const Seen seen = peer.seen()[1];
    CHECK(seen.target == "/rerank");
    CHECK(parse(seen.body) ==
          parse(R"({"query":"q","texts":["a","bbb","cc","","dddddd"],"truncate":false,"raw_scores":false,
                    "return_text":false})"));
}

TEST_CASE("remote: a reranker of Cohere's dialect") {
    Peer peer([](const Seen& seen) { return scores(seen, "documents", "relevance_score", false); });
    const auto model = load_reranker({.model = options_for({peer.url("")}, RemoteDialect::cohere)});
    CHECK(rerank(*model, "q", documents) == lengths);
    const Seen seen = peer.seen()[1];
    CHECK(seen.target == "/v2/rerank");
    CHECK(parse(seen.body) == parse(R"({"model":"m","query":"q","top_n":5,"documents":["a","bbb","cc","","dddddd"]})"));
}

TEST_CASE("remote: scores that are not what the dialect has fail their request alone") {
    struct Case {
        const char* body;
        errc code;
    };
    const auto [body, code] = GENERATE(values<Case>({
        {"{}", errc::inference_failed},
        {R"({"results":7})", errc::inference_failed},
        {R"({"results":[]})", errc::bad_result},
        {R"({"results":[{"index":0,"relevance_score":1}]})", errc::bad_result},
        {R"({"results":[{"index":0,"relevance_score":1},{"index":0,"relevance_score":1}]})", errc::inference_failed},
        {R"({"results":[{"index":0,"relevance_score":1},{"index":2,"relevance_score":1}]})", errc::inference_failed},
        {R"({"results":[{"index":0,"relevance_score":1},{"relevance_score":1}]})", errc::inference_failed},
        {R"({"results":[{"index":0,"relevance_score":1},{"index":1}]})", errc::inference_failed},
        {R"({"results":[{"index":0,"relevance_score":1},{"index":1,"relevance_score":"1"}]})", errc::inference_failed},
        {R"({"results":[{"index":0,"relevance_score":1},{"index":1,"relevance_score":null}]})", errc::bad_result},
        {R"({"results":[{"index":0,"relevance_score":1},{"index":1,"relevance_score":1e99}]})", errc::bad_result},
        {R"({"results":[7,8]})", errc::inference_failed},
    }));
    INFO(body);
    Peer peer([&, answered = body](const Seen& seen) {
        return seen.of_all % 2 == 0 ? answer(200, answered) : scores(seen, "documents", "relevance_score", false);
    });
    const auto model = load_reranker({.model = options_for({peer.url()})});
    const Error error = error_of([&] { rerank(*model, "q", {"a", "b"}); });
    CHECK(error.code() == code);
    CHECK(rerank(*model, "q", {"a", "bb"}) == std::vector<float>{1, 2});
}

TEST_CASE("remote: a score that cannot be used names its document, also behind the first request of a call") {
    Peer peer([](const Seen& seen) {
        return texts_in(seen.body, "documents").front() == "bad"
                   ? answer(200, R"({"results":[{"index":0,"relevance_score":1e99}]})")
                   : scores(seen, "documents", "relevance_score", false);
    });
    RemoteModelOptions options = options_for({peer.url()});
    options.texts_per_request = 1;
    const auto model = load_reranker({.model = options});
    const Error first = error_of([&] { rerank(*model, "q", {"bad"}); });
    CHECK(first.text_index() == 0U);
    CHECK_THAT(first.what(), contains_text("document 0"));
    const Error third = error_of([&] { rerank(*model, "q", {"a", "b", "bad"}); });
    CHECK(third.text_index() == 2U);
    CHECK_THAT(third.what(), contains_text("document 2"));
}

TEST_CASE("remote: an embedder of text-embeddings-inference's dialect") {
    Peer peer([](const Seen& seen) {
        boost::json::array rows;
        for (const std::string& text : texts_in(seen.body, "inputs")) {
            rows.emplace_back(boost::json::array{text.size(), 1, -0.5});
        }
        return answer(200, boost::json::serialize(rows));
    });
    Embedder embedder(options_for({peer.url("")}, RemoteDialect::tei));
    const Embeddings rows = embedder.embed({"one", "three"});
    CHECK(rows == Embeddings(3, {3, 1, -0.5F, 5, 1, -0.5F}));
    CHECK(peer.seen()[1].target == "/embed");
    CHECK(parse(peer.seen()[1].body) == parse(R"({"truncate":false,"inputs":["one","three"]})"));
}

TEST_CASE("remote: an embedder of Cohere's dialect gets input_type from EmbedAs") {
    Peer peer([](const Seen& seen) {
        boost::json::array rows;
        for (const std::string& text : texts_in(seen.body, "texts")) {
            rows.emplace_back(boost::json::array{text.size(), 1.5});
        }
        return answer(200, boost::json::serialize(
                               boost::json::object{{"embeddings", boost::json::object{{"float", std::move(rows)}}}}));
    });
    Embedder embedder(options_for({peer.url("")}, RemoteDialect::cohere));
    CHECK(embedder.model->distinguishes());
    CHECK(embedder.embed({"one"}, EmbedAs::query) == Embeddings(2, {3, 1.5F}));
    embedder.embed({"one"}, EmbedAs::document);
    const auto seen = peer.seen();
    CHECK(seen[1].target == "/v2/embed");
    CHECK(parse(seen[1].body).at("input_type") == "search_query");
    CHECK(parse(seen[2].body).at("input_type") == "search_document");
    CHECK(parse(seen[2].body).at("model") == "m");
    CHECK(embedder.error({"one"}).code() == errc::invalid_request);
    CHECK(peer.seen().size() == 3);
}

TEST_CASE("remote: endpoints of several dialects share the requests of a model") {
    Peer openai([](const Seen& seen) { return answer(200, openai_answer_to(seen.body)); });
    Peer tei([](const Seen& seen) {
        boost::json::array rows;
        for (const std::string& text : texts_in(seen.body, "inputs")) {
            boost::json::array row;
            for (const float value : row_of(text)) {
                row.emplace_back(value);
            }
            rows.emplace_back(std::move(row));
        }
        return answer(200, boost::json::serialize(rows));
    });
    RemoteModelOptions options = options_for({openai.url()});
    options.endpoints.push_back({.url = tei.url(""), .dialect = RemoteDialect::tei});
    Embedder embedder(options);
    for (int call = 0; call < 7; ++call) {
        CHECK(embedder.embed({"one"}) == Embeddings(3, row_of("one")));
    }
    CHECK(openai.seen().size() == 4);
    CHECK(tei.seen().size() == 4);
}

}  // namespace dialects_test

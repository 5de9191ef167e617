// Remote models in a manager: requests share HTTP requests, and leave them.

#include "residency/model_manager.hpp"

#include "support/calls.hpp"
#include "support/dialects.hpp"
#include "support/peer.hpp"

#include <boost/asio/use_future.hpp>

#include <cstddef>
#include <future>
#include <latch>
#include <vector>

namespace sharing_test {

using namespace residency;
using namespace residency::test;

namespace {

using Models = ModelManager<RemoteEmbeddingBackend, RemoteRerankerBackend>;

struct Sharing {
    explicit Sharing(Peer::Answers answers) : peer(std::move(answers)) {
        RemoteModelOptions model = options_for({peer.url()});
        model.retries = 0;
        ManagerOptions options;
        options.embedding.max_leases = 1;
        options.reranker.max_leases = 1;
        models.emplace(RemoteEmbeddingBackend({.model = model}), RemoteRerankerBackend({.model = model}), options);
    }
    std::future<Embeddings> embed(const std::string& text) {
        return models->async_embed("m", {text}, {}, asio::use_future);
    }
    std::future<Ranking> rerank(const std::string& query, std::size_t documents) {
        std::vector<std::string> texts;
        for (std::size_t length = 1; length <= documents; ++length) {
            texts.emplace_back(length, 'x');
        }
        return models->async_rerank("m", query, std::move(texts), {}, asio::use_future);
    }

    Peer peer;
    std::optional<Models> models{};
};

// Scores: the lengths of the documents.
Reply scores(const Seen& seen) {
    boost::json::array results;
    for (const std::string& text : texts_in(seen.body, "documents")) {
        results.emplace_back(
            boost::json::object{{"index", results.size()}, {"relevance_score", static_cast<double>(text.size())}});
    }
    return answer(200, boost::json::serialize(boost::json::object{{"results", std::move(results)}}));
}

}  // namespace

TEST_CASE("remote: callers of one text share an HTTP request, and one whose text is refused fails alone") {
    const bool refuses = GENERATE(false, true);
    std::latch all_wait(1);
    Sharing sharing([&](const Seen& seen) {
        if (seen.of_all == 2) {
            all_wait.wait();
        }
        return refuses && seen.body.find("bad") != std::string::npos ? answer(422, R"({"error":"bad"})")
                                                                     : answer(200, openai_answer_to(seen.body));
    });
    std::future<Embeddings> first = sharing.embed("first");
    sharing.peer.wait_for_requests(2);  // The load's, and its own.
    std::vector<std::string> texts;
    std::vector<std::future<Embeddings>> answers;
    for (int caller = 0; caller < 20; ++caller) {
        texts.push_back(caller == 7 ? "bad" : "text" + std::string(static_cast<std::size_t>(caller), 'x'));
        answers.push_back(sharing.embed(texts.back()));
    }
    all_wait.count_down();
    CHECK(first.get() == Embeddings(3, row_of("first")));
    for (std::size_t caller = 0; caller < texts.size(); ++caller) {
        INFO("caller " << caller);
        if (refuses && caller == 7) {
            CHECK(error_of([&] { static_cast<void>(answers[caller].get()); }).code() == errc::invalid_request);
        } else {
            CHECK(answers[caller].get() == Embeddings(3, row_of(texts[caller])));
        }
    }
    const std::vector<Seen> seen = sharing.peer.seen();
    REQUIRE(seen.size() >= 3);
    std::vector<std::size_t> sizes;
    for (std::size_t request = 2; request < seen.size(); ++request) {
        sizes.push_back(texts_in(seen[request].body, "input").size());
    }
    // After a refusal that names no text it is looked for by halves, and the others share one more request.
    CHECK(sizes == (refuses ? std::vector<std::size_t>{20, 10, 5, 3, 2, 1, 12} : std::vector<std::size_t>{20}));
}

TEST_CASE("remote: a manager that is destroyed closes the connection of a call that does not end") {
    Sharing sharing([](const Seen& seen) {
        return seen.of_all == 1 ? answer(200, openai_answer_to(seen.body))
                                : Reply{.bytes = {}, .then = Reply::Then::hang};
    });
    std::future<Embeddings> call = sharing.embed("one");
    sharing.peer.wait_for_requests(2);
    sharing.models.reset();
    CHECK_THROWS_AS(call.get(), Error);
    sharing.peer.wait_for_open(0);
}

TEST_CASE("remote: a large rerank is cut, and a small one goes between its parts; no two share an HTTP request") {
    std::latch all_wait(1);
    Sharing sharing([&](const Seen& seen) {
        if (seen.of_all == 2) {
            all_wait.wait();
        }
        return scores(seen);
    });
    std::future<Ranking> large = sharing.rerank("large", 70);
    sharing.peer.wait_for_requests(2);  // The load's, and its first part.
    std::future<Ranking> one = sharing.rerank("one", 3);
    std::future<Ranking> other = sharing.rerank("other", 2);
    all_wait.count_down();
    const Ranking ranking = large.get();
    REQUIRE(ranking.size() == 70);
    for (std::size_t place = 0; place < ranking.size(); ++place) {
        CHECK(ranking[place].index == 69 - place);
    }
    CHECK(one.get().size() == 3);
    CHECK(other.get().size() == 2);
    std::vector<std::string> order;
    for (const Seen& seen : sharing.peer.seen()) {
        order.push_back(std::string(boost::json::parse(seen.body).at("query").as_string()) + " " +
                        std::to_string(texts_in(seen.body, "documents").size()));
    }
    const std::vector<std::string> wanted{"a 1", "large 32", "one 3", "large 32", "other 2", "large 6"};
    CHECK(order == wanted);
}

}  // namespace sharing_test

// RemoteEmbeddingModel against a peer that speaks OpenAI's dialect: what is sent, what is read, and which connections
// are used for it.

#include "support/calls.hpp"
#include "support/dialects.hpp"
#include "support/peer.hpp"

namespace embedding_test {

using namespace residency;
using namespace residency::test;

namespace {

bool is_row_of(std::span<const float> row, const std::string& text) {
    const std::vector<float> wanted = row_of(text);
    return std::vector<float>(row.begin(), row.end()) == wanted;
}

Reply openai(const Seen& seen) { return answer(200, openai_answer_to(seen.body)); }

}  // namespace

TEST_CASE("remote: rows come in the order of the texts, whatever the order of the answer") {
    Peer peer(openai);
    Embedder embedder(options_for({peer.url()}));
    CHECK(embedder.model->dimension() == 3);
    const std::vector<std::string> texts{"one", "a \"quoted\" \\ text\n\twith\x01", "", "\xd7\xa9\xd7\x9c"};
    const Embeddings rows = embedder.embed(texts);
    REQUIRE(rows.size() == texts.size());
    for (std::size_t index = 0; index < texts.size(); ++index) {
        CHECK(is_row_of(rows[index], texts[index]));
    }
    CHECK(texts_in(peer.seen().back().body, "input") == texts);
}

TEST_CASE("remote: what is sent is UTF-8, with U+FFFD for each byte that is not") {
    const auto [text, sent] = GENERATE(table<std::string, std::string>({
        {std::string("a\0b", 3), std::string("a\0b", 3)},
        {"\x7f\xc2\x80\xdf\xbf", "\x7f\xc2\x80\xdf\xbf"},
        {"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf", "\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"},
        {"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"},
        {"a\xff\x62", "a\xef\xbf\xbd\x62"},
        {"\x80", "\xef\xbf\xbd"},
        {"\xc3", "\xef\xbf\xbd"},
        {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf0\x90\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xc3\"\xc3\\", "\xef\xbf\xbd\"\xef\xbf\xbd\\"},
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                                  // Overlong.
        {"\xe0\x80\xaf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},                  // Overlong.
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},                  // A surrogate.
        {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},  // Past U+10FFFF.
        {"\xf0\x8f\xbf\xbf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},  // Overlong.
    }));
    Peer peer(openai);
    Embedder embedder(options_for({peer.url()}));
    CHECK(embedder.embed({text}).size() == 1);
    CHECK(texts_in(peer.seen().back().body, "input") == std::vector<std::string>{sent});
}

TEST_CASE("remote: what is sent names the model, asks for base64 and has the headers of the options") {
    Peer peer(openai);
    RemoteModelOptions options = options_for({peer.url("/some/v1/")});
    options.name = [](const ModelKey& key) { return key.name + "-of-the-peer"; };
    int asked = 0;
    options.api_key = [&] { return "secret-" + std::to_string(++asked); };
    options.headers = {{"X-Test", "x"}};
    Embedder embedder(options, {"m", "q8"});
    embedder.embed({"one"});
    const std::vector<Seen> seen = peer.seen();
    REQUIRE(seen.size() == 2);
    CHECK(seen[1].target == "/some/v1/embeddings");
    const auto body = boost::json::parse(seen[1].body);
    CHECK(body.at("model") == "m-of-the-peer");
    CHECK(body.at("encoding_format") == "base64");
    CHECK(seen[0].authorization == "Bearer secret-1");
    CHECK(seen[1].authorization == "Bearer secret-2");
    CHECK(seen[1].extra == "x");
    CHECK("http://" + seen[1].host + "/some/v1" == peer.url("/some/v1"));
}

TEST_CASE("remote: a key with a quantization needs the option name") {
    Peer peer(openai);
    const Error error = error_of([&] { Embedder(options_for({peer.url()}), {"m", "q8"}); });
    CHECK(error.code() == errc::invalid_request);
    CHECK(peer.accepted() == 0);
}

TEST_CASE("remote: calls one after the other share a connection, which ends with the model") {
    Peer peer(openai);
    {
        Embedder embedder(options_for({peer.url()}));
        peer.wait_for_open(0);  // That of the load is closed.
        for (int call = 0; call < 3; ++call) {
            embedder.embed({"one"});
        }
        CHECK(peer.accepted() == 2);
        embedder.model.reset();
        peer.wait_for_open(0);
    }
}

TEST_CASE("remote: connections are closed with the context they live in, which the model may outlive") {
    Peer peer(openai);
    const auto model = load_embedder({.model = options_for({peer.url()})});
    const std::vector<std::string> texts{"one"};
    for (int context = 0; context < 2; ++context) {
        asio::io_context io(1);
        run(io, model->embed(texts, EmbedAs::as_is, {}));
        run(io, model->embed(texts, EmbedAs::as_is, {}));
    }
    peer.wait_for_open(0);
    CHECK(peer.accepted() == 3);
}

TEST_CASE("remote: a kept connection that the peer has closed is replaced by a fresh one") {
    Peer peer([](const Seen& seen) {
        Reply reply = openai(seen);
        // Without a word, as at the end of a keep-alive.
        reply.then = Reply::Then::close;
        return reply;
    });
    Embedder embedder(options_for({peer.url()}));
    for (int call = 0; call < 3; ++call) {
        CHECK(embedder.embed({"one"}).size() == 1);
    }
    CHECK(peer.seen().size() == 4);
}

TEST_CASE("remote: a kept connection that the peer resets under a request is replaced by a fresh one, once") {
    Peer peer([](const Seen& seen) {
        return seen.of_connection == 1 ? openai(seen) : Reply{.bytes = {}, .then = Reply::Then::reset};
    });
    RemoteModelOptions options = options_for({peer.url()});
    options.retries = 0;
    Embedder embedder(options);
    embedder.embed({"one"});
    CHECK(embedder.embed({"two"}).size() == 1);
    CHECK(peer.accepted() == 3);
}

TEST_CASE("remote: what a peer sends without a request is not taken for the answer to the next one") {
    Peer peer([](const Seen& seen) {
        Reply reply = openai(seen);
        if (seen.of_connection == 1) {
            reply.bytes += answer(200, openai_answer({"other"}, true)).bytes;
        }
        return reply;
    });
    Embedder embedder(options_for({peer.url()}));
    for (int call = 0; call < 3; ++call) {
        CHECK(is_row_of(embedder.embed({"one"})[0], "one"));
    }
    CHECK(peer.accepted() == 4);
}

TEST_CASE("remote: an endpoint that refuses base64 is asked for decimals, and then for nothing else") {
    const unsigned status = GENERATE(400U, 422U, 500U);
    Peer peer([status](const Seen& seen) {
        return seen.body.find("base64") != std::string::npos ? answer(status, R"({"error":"what is base64?"})")
                                                             : openai(seen);
    });
    Embedder embedder(options_for({peer.url()}));
    CHECK(is_row_of(embedder.embed({"one"})[0], "one"));
    CHECK(is_row_of(embedder.embed({"one"})[0], "one"));
    CHECK(peer.seen().size() == 4);
}

TEST_CASE("remote: what one endpoint refuses, another is asked for nevertheless") {
    // Refuses base64, and is gone when it is asked for decimals.
    Peer old([](const Seen& seen) {
        return seen.body.find("base64") != std::string::npos ? answer(400, "")
                                                             : Reply{.bytes = {}, .then = Reply::Then::close};
    });
    Peer peer(openai);
    Embedder embedder(options_for({peer.url(), old.url()}));
    REQUIRE(old.seen().size() > 1);
    embedder.embed({"one"});
    for (const Seen& seen : peer.seen()) {
        CHECK_THAT(seen.body, contains_text("base64"));
    }
}

TEST_CASE("remote: an endpoint that gave base64 is not asked for decimals when it refuses a text") {
    Peer peer([](const Seen& seen) {
        return seen.body.find("long") != std::string::npos ? answer(400, R"({"error":{"message":"too long"}})")
                                                           : openai(seen);
    });
    Embedder embedder(options_for({peer.url()}));
    const Error error = embedder.error({"long"});
    CHECK(error.code() == errc::invalid_request);
    CHECK_THAT(std::string(error.detail()), contains_text(peer.url() + ": it answers 400: too long"));
    CHECK(peer.seen().size() == 2);
}

TEST_CASE("remote: more texts than texts_per_request are several requests") {
    Peer peer(openai);
    RemoteModelOptions options = options_for({peer.url()});
    options.texts_per_request = 2;
    Embedder embedder(options);
    CHECK(embedder.model->batch_limits().texts == 2);
    const std::vector<std::string> texts{"one", "two", "three", "four", "fifth"};
    const Embeddings rows = embedder.embed(texts);
    REQUIRE(rows.size() == 5);
    for (std::size_t index = 0; index < texts.size(); ++index) {
        CHECK(is_row_of(rows[index], texts[index]));
    }
    CHECK(peer.seen().size() == 1 + 3);
    CHECK(embedder.embed({}).size() == 0);
    CHECK(peer.seen().size() == 1 + 3);
}

TEST_CASE("remote: a request that is larger than what the system takes at once is written whole") {
    Peer peer(openai);
    Embedder embedder(options_for({peer.url()}));
    const std::vector<std::string> texts(16, std::string(1024 * std::size_t{1024}, 'x'));
    const Embeddings rows = embedder.embed(texts);
    REQUIRE(rows.size() == texts.size());
    CHECK(is_row_of(rows[15], texts[15]));
    CHECK(peer.accepted() == 2);
}

TEST_CASE("remote: queries and documents get their prefixes") {
    Peer peer(openai);
    const auto model = load_embedder({.model = options_for({peer.url()}), .prefixes = [](const ModelKey&) {
                                          return RemotePrefixes{.query = "query: ", .document = ""};
                                      }});
    CHECK(model->distinguishes());
    asio::io_context io(1);
    const std::vector<std::string> texts{"one"};
    run(io, model->embed(texts, EmbedAs::query, {}));
    run(io, model->embed(texts, EmbedAs::document, {}));
    const auto seen = peer.seen();
    CHECK(texts_in(seen[1].body, "input") == std::vector<std::string>{"query: one"});
    CHECK(texts_in(seen[2].body, "input") == std::vector<std::string>{"one"});

    Embedder without(options_for({peer.url()}));
    CHECK(!without.model->distinguishes());
    CHECK(error_of([&] { without.embed({"one"}, EmbedAs::query); }).code() == errc::invalid_request);
}

}  // namespace embedding_test

// What a remote model makes of answers that are errors: codes, words, and what must not be in them.

#include "residency/model_manager.hpp"

#include "support/calls.hpp"
#include "support/dialects.hpp"
#include "support/peer.hpp"

#include <chrono>
#include <mutex>
#include <sstream>

namespace errors_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

// Answers the first request, which is the load's, and then what the test says.
struct Answering {
    explicit Answering(Reply later) : reply(std::move(later)) {}
    Reply reply;
    Peer peer{[this](const Seen& seen) { return seen.of_all == 1 ? answer(200, openai_answer_to(seen.body)) : reply; }};
};

struct Case {
    unsigned status;
    errc at_load;
    errc later;
};

}  // namespace

TEST_CASE("remote: each status has its code, at load and later, and the endpoint and its words are named") {
    const auto [status, at_load, later] = GENERATE(values<Case>({
        {201, errc::load_failed, errc::inference_failed},
        {301, errc::load_failed, errc::inference_failed},
        {400, errc::load_failed, errc::invalid_request},
        {401, errc::load_failed, errc::inference_failed},
        {403, errc::load_failed, errc::inference_failed},
        {404, errc::load_failed, errc::inference_failed},
        {413, errc::load_failed, errc::invalid_request},
        {422, errc::load_failed, errc::invalid_request},
        {424, errc::load_failed, errc::inference_failed},
        {429, errc::overloaded, errc::overloaded},
        {500, errc::load_failed, errc::inference_failed},
        {502, errc::load_failed, errc::inference_failed},
        {503, errc::load_failed, errc::inference_failed},
        {504, errc::load_failed, errc::inference_failed},
    }));
    INFO("status " << status);
    const std::string words = GENERATE(R"({"error":{"message":"the words","code":3}})", R"({"error":"the words"})",
                                       R"({"message":"the words"})", R"({"detail":"the words"})", "the words");
    Answering answering(answer(status, words, "Location: http://127.0.0.1:1/\r\n"));
    RemoteModelOptions options = options_for({answering.peer.url()});
    options.retries = 0;
    Embedder embedder(options);
    const Error error = embedder.error({"one"});
    CHECK(error.code() == later);
    CHECK(error.stage() == Stage::inference);
    CHECK(error.detail() == answering.peer.url() + ": it answers " + std::to_string(status) + ": the words");
    CHECK(!error.retry_after());
    const std::size_t requests = answering.peer.seen().size();
    CHECK(requests == 2);

    const Error failed = error_of([&] { load_embedder({.model = options}); });
    CHECK(failed.code() == at_load);
    CHECK(failed.stage() == Stage::load);
    CHECK_THAT(std::string(failed.detail()), contains_text(answering.peer.url() + ": it answers"));
}

TEST_CASE("remote: 429 and 503 with a Retry-After are overloaded and say when") {
    const unsigned status = GENERATE(429U, 503U);
    Answering answering(answer(status, "{}", "Retry-After: 7\r\n"));
    Embedder embedder(options_for({answering.peer.url()}));
    const Error error = embedder.error({"one"});
    CHECK(error.code() == errc::overloaded);
    CHECK(error.retry_after() == 7000ms);
}

TEST_CASE("remote: a Retry-After that is a date is counted from the answer's own Date") {
    Answering answering(answer(503, "{}",
                               "Date: Fri, 31 Dec 1999 23:59:30 GMT\r\n"
                               "Retry-After: Sat, 01 Jan 2000 00:00:10 GMT\r\n"));
    Embedder embedder(options_for({answering.peer.url()}));
    const Error error = embedder.error({"one"});
    CHECK(error.code() == errc::overloaded);
    CHECK(error.retry_after() == 40s);
}

TEST_CASE("remote: a Retry-After is a number of seconds or a date, at most a day") {
    using std::chrono::sys_seconds;
    const sys_seconds now(784'111'777s);  // Sun, 06 Nov 1994 08:49:37 GMT
    const auto retry_after_of = [&](const char* value, const char* date = "") {
        return detail::remote::retry_after_of(value, date, now);
    };
    CHECK(retry_after_of("0") == 0ms);
    CHECK(retry_after_of("86400") == 24h);
    CHECK(retry_after_of("86401") == 24h);
    CHECK(retry_after_of("99999999999999999999999999") == 24h);
    CHECK(retry_after_of("Sun, 06 Nov 1994 08:49:47 GMT") == 10s);
    CHECK(retry_after_of("Sunday, 06-Nov-94 08:49:47 GMT") == 10s);
    CHECK(retry_after_of("Sun Nov  6 08:49:47 1994") == 10s);
    CHECK(retry_after_of("Sun, 06 Nov 1994 08:49:47 GMT", "Sun, 06 Nov 1994 08:49:46 GMT") == 1s);
    CHECK(retry_after_of("Sun, 06 Nov 1994 08:49:47 GMT", "today") == 10s);
    CHECK(retry_after_of("Sun, 06 Nov 1994 08:49:36 GMT") == 0s);
    CHECK(retry_after_of("Thu, 01 Jan 1970 00:00:00 GMT") == 0s);
    CHECK(retry_after_of("Fri, 31 Dec 9999 23:59:60 GMT") == 24h);
    for (const char* const other : {"",
                                    "-1",
                                    "1.5",
                                    " 1",
                                    "1 ",
                                    "0x10",
                                    "GMT",
                                    "Sun, 06 Nov 1994 08:49:47",
                                    "Sun, 06 Nov 1994 08:49:47 CET",
                                    "Sun, 31 Feb 1994 08:49:47 GMT",
                                    "Sun, 06 Nev 1994 08:49:47 GMT",
                                    "Sun, 06 anF 1994 08:49:47 GMT",
                                    "Sun, 06 Nov 1994 24:49:47 GMT",
                                    "Sun, 06 Nov 1994 08:60:47 GMT",
                                    "Sun, 06 Nov 1994 08:49:61 GMT",
                                    "Sun, 06 Nov 1994 8:49:47 GMT",
                                    "Sun, 06 Nov 19940 08:49:47 GMT",
                                    "Sun, -6 Nov 1994 08:49:47 GMT GMT",
                                    "Sun, +6 Nov 1994 08:49:47 GMT",
                                    "Sun, 06 Nov 1994 08:49:4x GMT"}) {
        INFO(other);
        CHECK(!retry_after_of(other));
    }
}

TEST_CASE("remote: a year of two digits in an HTTP-date is the nearest") {
    using namespace std::chrono;
    using detail::remote::http_date_of;
    const sys_seconds now = sys_days(2026y / November / 27);
    CHECK(http_date_of("Sunday, 06-Nov-94 08:49:37 GMT", now) == sys_seconds(784'111'777s));
    CHECK(http_date_of("Friday, 27-Nov-76 00:00:00 GMT", now) == sys_days(2076y / November / 27));
    CHECK(http_date_of("Sunday, 27-Nov-77 00:00:00 GMT", now) == sys_days(1977y / November / 27));
    CHECK(http_date_of("Tuesday, 29-Feb-00 00:00:00 GMT", now) == sys_days(2000y / February / 29));
    CHECK(http_date_of("Friday, 01-Jan-00 00:00:00 GMT", sys_days(2099y / December / 31)) ==
          sys_days(2100y / January / 1));
}

TEST_CASE("remote: a model call that an endpoint is too busy for says so to its caller, and when to try again") {
    Answering answering(answer(429, "{}", "Retry-After: 7\r\n"));
    const ManagerOptions options;
    ModelManager<RemoteEmbeddingBackend, RemoteRerankerBackend> models(
        RemoteEmbeddingBackend({.model = options_for({answering.peer.url()})}),
        RemoteRerankerBackend({.model = options_for({answering.peer.url()})}), options);
    const Error error = error_of([&] { static_cast<void>(models.embed("m", {"one"})); });
    CHECK(error.code() == errc::overloaded);
    CHECK(error.retry_after() == 7000ms);
}

TEST_CASE("remote: a load that an endpoint is too busy for says so to its caller, and when to try again", "[S54]") {
    const unsigned status = GENERATE(429U, 503U);
    Peer peer([&](const Seen&) { return answer(status, "{}", "Retry-After: 7\r\n"); });
    ModelManager<RemoteEmbeddingBackend, RemoteRerankerBackend> models(
        RemoteEmbeddingBackend({.model = options_for({peer.url()})}),
        RemoteRerankerBackend({.model = options_for({peer.url()})}));
    const Error error = error_of([&] { static_cast<void>(models.embed("m", {"one"})); });
    CHECK(error.code() == errc::overloaded);
    CHECK(error.stage() == Stage::load);
    CHECK(error.retry_after() == 7000ms);
}

TEST_CASE("remote: an API key and the values of headers are in no error") {
    const std::string secret = "sk-1234567890";
    Answering answering(
        answer(GENERATE(400U, 401U, 500U), R"({"error":{"message":"wrong key sk-1234567890, sk-1234567890!"}})"));
    RemoteModelOptions options = options_for({answering.peer.url()});
    options.api_key = [&] { return secret; };
    options.headers = {{"X-Test", "hidden"}};
    Embedder embedder(options);
    for (const Error& error : {embedder.error({"one"}), error_of([&] { load_embedder({.model = options}); })}) {
        CHECK_THAT(error.what(), contains_text("wrong key ***, ***!"));
        CHECK_THAT(error.what(), !contains_text(secret));
        CHECK_THAT(error.what(), !contains_text("hidden"));
    }
}

TEST_CASE("remote: a secret that an endpoint repeats is in no error, wherever it stands and however it is written") {
    struct Case {
        std::string secret;   // Its middle has no digits, which the port that the error names could have, too.
        std::string escaped;  // As some engine writes it in JSON.
    };
    const auto [secret, escaped] = GENERATE(values<Case>({
        {"sk-1234efg890", "sk-1234efg890"},
        {"sk\"12/34efg\\890", R"(sk\"12/34efg\\890)"},
        {"sk\"12/34efg\\890", R"(sk\u002212\/34efg\u005C890)"},
    }));
    const std::vector<std::string> bodies{std::string(505, 'x') + secret,
                                          std::string(510, 'x') + secret,
                                          secret + secret + "!",
                                          R"({"error":")" + escaped + "\"}",
                                          R"({"detail":[{"input":")" + escaped + "\"}]}",
                                          R"({"other":")" + escaped + "\"}"};
    for (const std::string& body : bodies) {
        INFO(body);
        Peer peer([&](const Seen&) { return answer(400, body); });
        std::vector<RemoteModelOptions> with_secret(3, options_for({peer.url()}));
        with_secret[0].api_key = [key = secret] { return key; };
        with_secret[1].headers = {{"api-key", secret}};
        with_secret[2].headers = {{"Authorization", "Basic " + secret}};
        for (const RemoteModelOptions& options : with_secret) {
            // Not loaded: the peer would refuse it.
            RemoteEmbeddingModel model(std::make_unique<detail::remote::Client>(options, "m"), "m", 3);
            asio::io_context io(1);
            const std::vector<std::string> texts{"one"};
            const Error error = error_of([&] { run(io, model.embed(texts, EmbedAs::as_is, {})); });
            CHECK_THAT(error.what(), !contains_text("sk"));
            CHECK_THAT(error.what(), !contains_text("efg"));
            CHECK(std::string(error.what()).size() < 1000);
        }
    }
}

TEST_CASE("remote: a short value of a header is no secret") {
    Answering answering(answer(400, R"({"error":"v1 of the other"})"));
    RemoteModelOptions options = options_for({answering.peer.url()});
    options.headers = {{"X-Test", "v1"}, {"X-Empty", ""}, {"X-Spaces", "  "}};
    CHECK_THAT(Embedder(options).error({"one"}).what(), contains_text("v1 of the other"));
}

TEST_CASE("remote: an API key is in no event") {
    const std::string secret = "sk-1234567890";
    Peer peer([&](const Seen&) { return answer(401, "no: " + secret); });
    RemoteModelOptions model = options_for({peer.url()});
    model.api_key = [&] { return secret; };
    std::mutex mutex;
    std::string printed;
    {
        ManagerOptions options;
        options.observer = [&](const Event& event) {
            std::ostringstream line;
            line << event;
            const std::lock_guard lock(mutex);
            printed += line.str() + '\n';
        };
        ModelManager<RemoteEmbeddingBackend, RemoteRerankerBackend> models(
            RemoteEmbeddingBackend({.model = model}), RemoteRerankerBackend({.model = model}), options);
        const Error error = error_of([&] { static_cast<void>(models.embed("m", {"one"})); });
        CHECK(error.code() == errc::load_failed);
        CHECK_THAT(error.what(), contains_text("***"));
    }
    CHECK_THAT(printed, contains_text("***"));
    CHECK_THAT(printed, !contains_text(secret));
}

TEST_CASE("remote: an API key with a line break in it is sent nowhere") {
    Peer peer([](const Seen& seen) { return answer(200, openai_answer_to(seen.body)); });
    RemoteModelOptions options = options_for({peer.url()});
    options.api_key = [] { return std::string("a\r\nX-Test: b"); };
    const Error error = error_of([&] { load_embedder({.model = options}); });
    CHECK(error.code() == errc::load_failed);
    CHECK(error.stage() == Stage::load);
    CHECK_THAT(error.what(), contains_text("control character"));
    CHECK(peer.accepted() == 0);
}

TEST_CASE("remote: the words of an error are cut, and stay on one line") {
    const std::string body =
        GENERATE(std::string(100'000, 'x'), "a\nb\x1b[0m", R"({"error":"a\nb\u001b[0m"})", std::string(600, '\x80'));
    Answering answering(answer(400, body));
    Embedder embedder(options_for({answering.peer.url()}));
    const Error error = embedder.error({"one"});
    CHECK(std::string(error.what()).size() < 1000);
    CHECK(std::string(error.what()).find_first_of("\n\x1b") == std::string::npos);
}

TEST_CASE("remote: the words of an error are cut between two characters") {
    const std::size_t before = GENERATE(509U, 510U, 511U, 512U);
    Answering answering(answer(400, std::string(before, 'x') + "\xe2\x82\xac" + std::string(10, 'y')));
    Embedder embedder(options_for({answering.peer.url()}));
    const std::string words(before, 'x');
    CHECK(embedder.error({"one"}).detail() ==
          answering.peer.url() + ": it answers 400: " + (before == 509 ? words + "\xe2\x82\xac" : words));
}

TEST_CASE("remote: refused connections name the endpoint") {
    RemoteModelOptions options;
    {
        Peer peer([](const Seen&) { return Reply(); });
        options = options_for({peer.url()});
    }
    const Error error = error_of([&] { load_embedder({.model = options}); });
    CHECK(error.code() == errc::load_failed);
    CHECK_THAT(error.what(), contains_text(options.endpoints[0].url));
}

}  // namespace errors_test

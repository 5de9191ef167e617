// Answers that are not to be believed, and peers that do not finish theirs.

#include "support/calls.hpp"
#include "support/dialects.hpp"
#include "support/peer.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>

#include <chrono>
#include <limits>
#include <thread>

namespace hostile_answers_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

Reply openai(const Seen& seen) { return answer(200, openai_answer_to(seen.body)); }

// Gives the first request, which is the load's, its answer, and each second one of the others `reply`; so that it is
// seen that the model goes on to work.
Peer::Answers now_and_then(Reply reply) {
    return [reply = std::move(reply)](const Seen& seen) { return seen.of_all % 2 == 1 ? openai(seen) : reply; };
}

RemoteModelOptions without_retries(const Peer& peer) {
    RemoteModelOptions options = options_for({peer.url()});
    options.retries = 0;
    return options;
}

std::string with_data(const std::string& data) { return R"({"data":)" + data + "}"; }
std::string with_vector(const std::string& vector) { return with_data(R"([{"index":0,"embedding":)" + vector + "}]"); }

}  // namespace

TEST_CASE("remote: an answer that is not what the dialect has fails its request alone") {
    const std::string body = GENERATE(
        as<std::string>(), "", "{", "null", "[]", "{}", "7", R"("text")", with_data("null"), with_data("{}"),
        with_data("7"), with_data("[7]"), with_data("[null]"), with_data("[[]]"), with_data("[{}]"),
        with_vector("null"), with_vector("[]"), with_vector("{}"), with_vector(R"(["1","2","3"])"),
        with_vector(R"([1,"NaN",3])"), with_vector("[1,true,3]"), with_vector("[[1],[2],[3]]"), with_vector(R"("")"),
        with_vector(R"("!!!!")"), with_vector(R"("AAA")"), with_vector(R"("AAAA")"), with_vector(R"("AA==AA==")"),
        with_data(R"([{"index":1,"embedding":[1,2,3]}])"), with_data(R"([{"index":-1,"embedding":[1,2,3]}])"),
        with_data(R"([{"index":"0","embedding":[1,2,3]}])"), with_data(R"([{"index":0.5,"embedding":[1,2,3]}])"),
        with_data(R"([{"index":18446744073709551615,"embedding":[1,2,3]}])"), std::string(100'000, '['),
        R"({"a":)" + std::string(100'000, '{'), "\xff\xfe", std::string(16, '\0'), "<html></html>",
        with_vector("[NaN,2,3]"), with_vector("[1,2,3]") + "x");
    INFO(body.substr(0, 200));
    Peer peer(now_and_then(answer(200, body)));
    Embedder embedder(without_retries(peer));
    const Error error = embedder.error({"one"});
    CHECK(error.code() == errc::inference_failed);
    CHECK_THAT(error.what(), contains_text(peer.url() + ": the answer"));
    CHECK(embedder.embed({"one"}).size() == 1);
}

TEST_CASE("remote: numbers that cannot be used are a bad result") {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const float infinite = std::numeric_limits<float>::infinity();
    const std::string body = GENERATE_COPY(
        with_data("[]"), with_data(R"([{"embedding":[1,2,3]},{"embedding":[1,2,3]}])"), with_vector("[1,2]"),
        with_vector("[1,2,3,4]"), with_vector("[1,null,3]"), with_vector("[1,2,1e39]"), with_vector("[1,2,1e999]"),
        with_vector('"' + base64_of({1, nan, 3}) + '"'), with_vector('"' + base64_of({1, -nan, 3}) + '"'),
        with_vector('"' + base64_of({1, infinite, 3}) + '"'), with_vector('"' + base64_of({1, 2}) + '"'));
    INFO(body);
    Peer peer(now_and_then(answer(200, body)));
    Embedder embedder(without_retries(peer));
    CHECK(embedder.error({"one"}).code() == errc::bad_result);
    CHECK(embedder.embed({"one"}).size() == 1);
}

TEST_CASE("remote: a NaN names its text, also behind the first request of a call") {
    Peer peer([](const Seen& seen) {
        const std::vector<std::string> texts = texts_in(seen.body, "input");
        std::string rows;
        for (const std::string& text : texts) {
            const float value = text == "bad" ? std::numeric_limits<float>::quiet_NaN() : 1.0F;
            rows += (rows.empty() ? "" : ",") + std::string(R"({"embedding":")") + base64_of({value}) + "\"}";
        }
        return answer(200, with_data("[" + rows + "]"));
    });
    RemoteModelOptions options = options_for({peer.url()});
    options.texts_per_request = 2;
    Embedder embedder(options);
    CHECK(embedder.error({"one", "bad"}).text_index() == 1U);
    CHECK(embedder.error({"one", "two", "three", "bad"}).text_index() == 3U);
}

TEST_CASE("remote: a null is a NaN, which names its text and is not the endpoint's failure") {
    Peer peer([](const Seen& seen) {
        return seen.of_all == 1 ? answer(200, with_vector("[1,2,3]"))
                                : answer(200, with_data(R"([{"embedding":[1,2,3]},{"embedding":[1,null,3]}])"));
    });
    Peer other(openai);
    RemoteModelOptions options = options_for({other.url(), peer.url()});
    options.pause = 1h;
    Embedder embedder(options);
    for (int call = 0; call < 2; ++call) {
        embedder.embed({"one", "two"});
        CHECK(embedder.error({"one", "two"}).text_index() == 1U);
    }
}

TEST_CASE("remote: two vectors for one text are a broken answer") {
    Peer peer(
        now_and_then(answer(200, with_data(R"([{"index":0,"embedding":[1,2,3]},{"index":0,"embedding":[1,2,3]}])"))));
    Embedder embedder(without_retries(peer));
    CHECK_THAT(embedder.error({"one", "two"}).what(), contains_text("two vectors for text 0"));
}

TEST_CASE("remote: what is no whole HTTP response fails its request alone") {
    const std::string bytes =
        GENERATE(as<std::string>(), "\r\n\r\n", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
                 "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 999999 OK\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
                 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
                 "HTTP/1.1 200 OK\r\nA: " + std::string(100'000, 'x') + "\r\n\r\n", "HTTP/1.1 200 OK\r\nA",
                 "HTTP/1.1 100 Continue\r\n\r\n");
    INFO(bytes.substr(0, 100));
    Peer peer(now_and_then({.bytes = bytes, .then = Reply::Then::close}));
    Embedder embedder(without_retries(peer));
    const Error error = embedder.error({"one"});
    CHECK(error.code() == errc::inference_failed);
    CHECK_THAT(error.what(), contains_text(peer.url()));
    CHECK(embedder.embed({"one"}).size() == 1);
}

TEST_CASE("remote: an answer larger than the limit is not read") {
    const Reply reply = GENERATE(
        answer(200, std::string(2000, ' ')),
        Reply{.bytes = "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n"},
        Reply{.bytes = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + std::string(2000, ' ')},
        Reply{.bytes = "HTTP/1.1 200 OK\r\n\r\n" + std::string(2000, ' '), .then = Reply::Then::close});
    Peer peer(now_and_then(reply));
    RemoteModelOptions options = without_retries(peer);
    options.max_answer_bytes = 1024;
    Embedder embedder(options);
    const Error error = embedder.error({"one"});
    CHECK(error.code() == errc::inference_failed);
    CHECK_THAT(error.what(), contains_text("max_answer_bytes"));
    CHECK(embedder.embed({"one"}).size() == 1);
}

TEST_CASE("remote: interim answers are passed over, but not without end") {
    const std::string interim = "HTTP/1.1 100 Continue\r\n\r\n";
    Peer patient([&](const Seen& seen) {
        Reply reply = openai(seen);
        reply.bytes.insert(0, interim + interim);
        return reply;
    });
    CHECK(Embedder(options_for({patient.url()})).embed({"one"}).size() == 1);

    std::string endless;
    for (int count = 0; count < 1000; ++count) {
        endless += interim;
    }
    Peer peer(now_and_then({.bytes = endless}));
    Embedder embedder(without_retries(peer));
    CHECK_THAT(embedder.error({"one"}).what(), contains_text("interim"));
    CHECK(embedder.embed({"one"}).size() == 1);
}

TEST_CASE("remote: chunked answers, and those that end with the connection, are read") {
    Peer peer([](const Seen& seen) {
        const std::string body = openai_answer_to(seen.body);
        std::string bytes = "HTTP/1.1 200 OK\r\n";
        if (seen.of_all % 2 == 0) {
            return Reply{.bytes = bytes + "\r\n" + body, .then = Reply::Then::close};
        }
        bytes += "Transfer-Encoding: chunked\r\n\r\n";
        for (const char character : body) {
            bytes += std::string("1\r\n") + character + "\r\n";
        }
        return Reply{.bytes = bytes + "0\r\n\r\n"};
    });
    Embedder embedder(without_retries(peer));
    for (int call = 0; call < 4; ++call) {
        CHECK(embedder.embed({"one"}).size() == 1);
    }
}

TEST_CASE("remote: a peer that does not finish its answer ends with the request's time, and its connection is closed") {
    const std::string bytes =
        GENERATE(as<std::string>(), "", "H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{");
    Peer peer([&](const Seen&) { return Reply{.bytes = bytes, .then = Reply::Then::hang}; });
    RemoteModelOptions options = without_retries(peer);
    options.request_timeout = 20ms;
    // Not loaded: that would have to be done within this time.
    RemoteEmbeddingModel model(std::make_unique<detail::remote::Client>(options, "m"), "m", 3);
    asio::io_context io(1);
    const std::vector<std::string> texts{"one"};
    const Error error = error_of([&] { run(io, model.embed(texts, EmbedAs::as_is, {})); });
    CHECK(error.code() == errc::inference_failed);
    CHECK_THAT(error.what(), contains_text("request_timeout"));
    peer.wait_for_open(0);
}

TEST_CASE("remote: an answer whose bytes come one by one is read") {
    const bool chunked = GENERATE(false, true);
    Peer peer([&](const Seen& seen) {
        Reply reply = openai(seen);
        if (chunked) {
            const std::string body = openai_answer_to(seen.body);
            std::string size = "00";
            size[0] = "0123456789abcdef"[body.size() / 16 % 16];
            size[1] = "0123456789abcdef"[body.size() % 16];
            reply.bytes =
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + "\r\n" + body + "\r\n0\r\n\r\n";
        }
        reply.one_by_one = true;
        return reply;
    });
    Embedder embedder(without_retries(peer));
    for (int call = 0; call < 3; ++call) {
        CHECK(embedder.embed({"one"}) == Embeddings(3, row_of("one")));
    }
    CHECK(peer.accepted() == 2);  // The load's, and that of the calls.
}

TEST_CASE("remote: an answer that trickles for ever ends with the request's time, and its connection is closed") {
    const auto [head, more] = GENERATE(table<std::string, std::string>({
        {"HTTP/1.1 200 OK\r\nContent-Length: 60000000\r\n\r\n", " "},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"},
        {"HTTP/1.1 200 OK\r\n\r\n", " "},
    }));
    INFO(head);
    Peer peer([&, bytes = head, again = more](const Seen&) {
        return Reply{.bytes = bytes, .then = Reply::Then::trickle, .more = again};
    });
    RemoteModelOptions options = without_retries(peer);
    options.request_timeout = 20ms;
    // Not loaded: that would have to be done within this time.
    RemoteEmbeddingModel model(std::make_unique<detail::remote::Client>(options, "m"), "m", 3);
    asio::io_context io(1);
    const std::vector<std::string> texts{"one"};
    const Error error = error_of([&] { run(io, model.embed(texts, EmbedAs::as_is, {})); });
    CHECK(error.code() == errc::inference_failed);
    CHECK_THAT(error.what(), contains_text("request_timeout"));
    peer.wait_for_open(0);
}

TEST_CASE("remote: a load ends with the request's time") {
    Peer peer([](const Seen&) { return Reply{.bytes = {}, .then = Reply::Then::hang}; });
    RemoteModelOptions options = without_retries(peer);
    options.request_timeout = 20ms;
    CHECK(error_of([&] { load_embedder({.model = options}); }).code() == errc::load_failed);
    peer.wait_for_open(0);
}

TEST_CASE("remote: a call ends when its stop_token is set, and its connection is closed") {
    Peer peer(now_and_then({.bytes = {}, .then = Reply::Then::hang}));
    Embedder embedder(without_retries(peer));
    std::stop_source stop;
    std::thread stopping([&] {
        peer.wait_for_requests(2);
        stop.request_stop();
    });
    const Error error = error_of([&] { embedder.embed({"one"}, EmbedAs::as_is, stop.get_token()); });
    stopping.join();
    CHECK(error.code() == asio::error::operation_aborted);
    peer.wait_for_open(0);
}

TEST_CASE("remote: a stop is not forgotten because a time was over just before it") {
    using detail::remote::Watch;
    asio::io_context io(1);
    const auto watch = std::make_shared<Watch>(io.get_executor(), 0ms);
    std::stop_source stop;
    watch->begin(stop.get_token());
    io.run_one();
    CHECK(watch->cause() == Watch::Cause::request_timeout);
    stop.request_stop();
    io.restart();
    io.run_one();
    watch->forget_connect_timeout();
    watch->extend(1h);
    CHECK(watch->cause() == Watch::Cause::stop);
    watch->end();
}

TEST_CASE("remote: a call whose stop_token is set before it begins is not made") {
    Peer peer(openai);
    Embedder embedder(without_retries(peer));
    std::stop_source stop;
    stop.request_stop();
    const Error error = error_of([&] { embedder.embed({"one"}, EmbedAs::as_is, stop.get_token()); });
    CHECK(error.code() == asio::error::operation_aborted);
    CHECK(peer.seen().size() == 1);
}

TEST_CASE("remote: a call ends when its coroutine is cancelled, which closes its connection and is no failure") {
    // Load, cancelled call, and a call that would go elsewhere if the endpoint had failed.
    Peer peer([](const Seen& seen) {
        return seen.of_all == 2 ? Reply{.bytes = {}, .then = Reply::Then::hang} : openai(seen);
    });
    Peer other(openai);
    RemoteModelOptions options = options_for({other.url(), peer.url()});
    options.retries = GENERATE(0U, 1U);
    options.pause = 1h;
    Embedder embedder(options);
    embedder.embed({"one"});
    asio::cancellation_signal cancel;
    std::exception_ptr thrown;
    const std::vector<std::string> texts{"one"};
    asio::co_spawn(embedder.io, embedder.model->embed(texts, EmbedAs::as_is, {}),
                   asio::bind_cancellation_slot(
                       cancel.slot(), [&](const std::exception_ptr& error, const Embeddings&) { thrown = error; }));
    std::thread cancelling([&] {
        peer.wait_for_requests(2);
        asio::post(embedder.io, [&] { cancel.emit(asio::cancellation_type::terminal); });
    });
    embedder.io.restart();
    embedder.io.run();
    cancelling.join();
    REQUIRE(thrown);
    CHECK(error_of([&] { std::rethrow_exception(thrown); }).code() == asio::error::operation_aborted);
    peer.wait_for_open(0);
    embedder.embed({"one"});
    embedder.embed({"one"});
    CHECK(peer.seen().size() == 3);
    CHECK(other.seen().size() == 2);
}

TEST_CASE("remote: a load ends when its stop is requested") {
    Peer peer([](const Seen&) { return Reply{.bytes = {}, .then = Reply::Then::hang}; });
    std::stop_source stop;
    std::thread stopping([&] {
        peer.wait_for_requests(1);
        stop.request_stop();
    });
    LoadContext context(stop.get_token());
    const RemoteEmbeddingBackend backend({.model = without_retries(peer)});
    const Error error = error_of([&] { static_cast<void>(backend.load("m", context)); });
    stopping.join();
    CHECK(error.code() == asio::error::operation_aborted);
    peer.wait_for_open(0);
}

TEST_CASE("remote: a call may be destroyed with its context") {
    Peer peer(now_and_then({.bytes = {}, .then = Reply::Then::hang}));
    const auto model = load_embedder({.model = without_retries(peer)});
    const std::vector<std::string> texts{"one"};
    std::stop_source stop;
    {
        asio::io_context io(1);
        asio::co_spawn(io, model->embed(texts, EmbedAs::as_is, stop.get_token()),
                       [](const std::exception_ptr&, const Embeddings&) { FAIL("it was not to end"); });
        std::thread ending([&] {
            peer.wait_for_requests(2);
            asio::post(io, [&] { io.stop(); });
        });
        io.run();
        ending.join();
    }
    stop.request_stop();
    peer.wait_for_open(0);
}

}  // namespace hostile_answers_test

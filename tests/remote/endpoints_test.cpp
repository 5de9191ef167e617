// Several endpoints: which one a request goes to, what happens when one fails, and how often a request is sent again.

#include "residency/model_manager.hpp"

#include "support/calls.hpp"
#include "support/dialects.hpp"
#include "support/peer.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <iterator>
#include <list>
#include <thread>

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;
using detail::remote::Endpoints;

namespace {

Reply openai(const Seen& seen) { return answer(200, openai_answer_to(seen.body)); }

struct Three {
    Three() : endpoints(options_for({"http://a", "http://b", "http://c"})) {}
    [[nodiscard]] std::string host(const Endpoints::Use& use) const { return use.endpoint().url.host; }
    Endpoints endpoints;
    Endpoints::Clock::time_point now = Endpoints::Clock::now();
};

}  // namespace

TEST_CASE("remote: a request goes to the endpoint with the fewest in flight, in turn among equals") {
    Three three;
    std::list<Endpoints::Use> uses;
    std::string hosts;
    for (int request = 0; request < 6; ++request) {
        uses.push_back(three.endpoints.choose(three.now));
        hosts += three.host(uses.back());
    }
    CHECK(hosts == "bcabca");
    uses.erase(std::next(uses.begin()));  // One of c's ends.
    CHECK(three.host(three.endpoints.choose(three.now)) == "c");
}

TEST_CASE("remote: an endpoint that fails is paused, twice as long each time, and then tried by one request") {
    Three three;
    const auto goes_to = [&](std::chrono::milliseconds after) {
        std::string hosts;
        std::vector<Endpoints::Use> uses;
        for (int request = 0; request < 6; ++request) {
            uses.push_back(three.endpoints.choose(three.now + after));
            hosts += three.host(uses.back());
        }
        return std::count(hosts.begin(), hosts.end(), 'b');
    };
    const auto fails = [&](std::chrono::milliseconds after) {
        for (;;) {
            const Endpoints::Use use = three.endpoints.choose(three.now + after);
            if (three.host(use) == "b") {
                use.failed(three.now + after);
                return;
            }
        }
    };
    CHECK(goes_to(0ms) == 2);
    std::chrono::milliseconds time{};
    for (std::chrono::milliseconds pause = 1s; pause < 200s; pause *= 2) {
        fails(time);
        CHECK(goes_to(time) == 0);
        time += (std::min)(pause, std::chrono::milliseconds(64s));
        CHECK(goes_to(time - 1ms) == 0);
        CHECK(goes_to(time) == 1);  // The one that tries it.
    }
    {
        const Endpoints::Use trying = three.endpoints.choose(three.now + time);
        CHECK(three.host(trying) == "b");
        trying.worked();
    }
    CHECK(goes_to(0ms) == 2);
    fails(0ms);
    CHECK(goes_to(1s) == 1);
}

TEST_CASE("remote: the only endpoint, and one of several that all fail, is used nevertheless") {
    Endpoints one(options_for({"http://a"}));
    const auto now = Endpoints::Clock::now();
    one.choose(now).failed();
    const Endpoints::Use first = one.choose(now);
    const Endpoints::Use second = one.choose(now, &first.endpoint());
    CHECK(first.endpoint().url.host == "a");
    CHECK(second.endpoint().url.host == "a");

    Three three;
    for (int request = 0; request < 3; ++request) {
        three.endpoints.choose(three.now).failed();
    }
    CHECK(!three.host(three.endpoints.choose(three.now)).empty());
}

TEST_CASE("remote: repetitions are a tenth of the requests, after the first ten") {
    Three three;
    for (int repetition = 0; repetition < 10; ++repetition) {
        CHECK(three.endpoints.may_repeat());
    }
    CHECK(!three.endpoints.may_repeat());
    for (int round = 0; round < 3; ++round) {
        for (int request = 0; request < 10; ++request) {
            CHECK(!three.endpoints.may_repeat());
            three.endpoints.count_request();
        }
        CHECK(three.endpoints.may_repeat());
        CHECK(!three.endpoints.may_repeat());
    }
}

TEST_CASE("remote: a request that one endpoint refuses a connection for goes to another") {
    Peer dead(openai);
    Peer alive(openai);
    RemoteModelOptions options = options_for({dead.url(), alive.url()});
    options.pause = 1h;
    dead.die();
    Embedder embedder(options);
    for (int call = 0; call < 5; ++call) {
        CHECK(embedder.embed({"one"}).size() == 1);
    }
    CHECK(alive.seen().size() == 6);
}

TEST_CASE("remote: a request is sent again for what had no answer, and for a 500 that is no error in JSON") {
    const Reply reply =
        GENERATE(Reply{.bytes = {}, .then = Reply::Then::close}, Reply{.bytes = {}, .then = Reply::Then::reset},
                 answer(500, "Internal Server Error", "Content-Type: text/plain\r\n"), answer(500, ""));
    // The first request is the load's, and each second one fails; over fresh connections alone.
    Peer peer([&](const Seen& seen) {
        Reply good = openai(seen);
        good.then = Reply::Then::close;
        return seen.of_all % 2 == 0 ? reply : good;
    });
    Embedder embedder(options_for({peer.url()}));
    for (int call = 0; call < 3; ++call) {
        CHECK(embedder.embed({"one"}).size() == 1);
    }
    CHECK(peer.seen().size() == 7);
}

TEST_CASE("remote: a request that was answered is not sent again") {
    const Reply reply = GENERATE(answer(500, R"({"error":"x"})"), answer(502, ""), answer(503, ""), answer(504, ""),
                                 answer(429, ""), answer(400, ""), answer(404, ""), answer(200, "{"),
                                 Reply{.bytes = "HTTP/1.1 2", .then = Reply::Then::close});
    Peer peer([&](const Seen& seen) { return seen.of_all == 1 ? openai(seen) : reply; });
    RemoteModelOptions options = options_for({peer.url()});
    options.retries = 10;
    Embedder embedder(options);
    embedder.error({"one"});
    CHECK(peer.seen().size() == 2);
}

TEST_CASE("remote: an endpoint's health counts what is its fault, and no refusals") {
    struct Case {
        Reply reply;
        bool is_paused;
    };
    const auto [reply, is_paused] = GENERATE(values<Case>({
        {answer(400, ""), false},
        {answer(401, ""), false},
        {answer(404, ""), false},
        {answer(429, ""), false},
        {answer(500, R"({"error":"x"})"), false},
        {answer(502, ""), true},
        {answer(503, ""), true},
        {answer(504, ""), true},
        {answer(200, "{"), true},
        {Reply{.bytes = "HTTP/1.1 2", .then = Reply::Then::close}, true},
    }));
    INFO(reply.bytes);
    Peer bad([&, given = reply](const Seen&) { return given; });
    Peer good(openai);
    RemoteModelOptions options = options_for({bad.url(), good.url()});
    options.pause = 1h;
    options.retries = 0;
    Embedder embedder(options);  // It asks the second one first.
    int failed = 0;
    for (int call = 0; call < 6; ++call) {
        try {
            embedder.embed({"one"});
        } catch (const Error&) {
            ++failed;
        }
    }
    CHECK(failed == (is_paused ? 1 : 3));
}

TEST_CASE("remote: while endpoints die and rise each caller is answered, nine in ten with their own rows") {
    // A request in flight at a death is sent again; within the budget, as deaths are few.
    std::array<Peer, 3> peers{Peer(openai), Peer(openai), Peer(openai)};
    RemoteModelOptions model = options_for({peers[0].url(), peers[1].url(), peers[2].url()});
    model.pause = 1ms;
    model.retries = 3;
    ManagerOptions options;
    options.embedding.max_queue = 1000;
    ModelManager<RemoteEmbeddingBackend, RemoteRerankerBackend> models(
        RemoteEmbeddingBackend({.model = model}), RemoteRerankerBackend({.model = model}), options);
    constexpr int callers = 16;
    constexpr int calls = 100;
    std::atomic<int> right{0};
    std::atomic<int> failed{0};
    std::atomic<int> done{0};
    std::vector<std::thread> threads;
    for (int caller = 0; caller < callers; ++caller) {
        threads.emplace_back([&, caller] {
            for (int call = 0; call < calls; ++call) {
                const std::string text(static_cast<std::size_t>(1 + caller * 7 + call % 5), 'x');
                try {
                    const Embeddings rows = models.embed("m", {text});
                    right += rows == Embeddings(3, row_of(text)) ? 1 : 0;
                } catch (const Error& error) {
                    failed += error.code() == errc::inference_failed ? 1 : 0;
                }
                done += 1;
                done.notify_all();
            }
        });
    }
    for (std::size_t round = 0; round < 6; ++round) {
        for (int seen = done; seen < callers * calls / 8 * static_cast<int>(round + 1); seen = done) {
            done.wait(seen);
        }
        peers[round % 3].die();
        peers[round % 3].rise();
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    CHECK(right + failed == callers * calls);
    CHECK(right > callers * calls * 9 / 10);
    models.shutdown();
    for (const Peer& peer : peers) {
        peer.wait_for_open(0);
    }
}

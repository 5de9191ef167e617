// Several endpoints: which one a request goes to, what happens when one fails, and how often a request is sent again.

#include "residency/model_manager.hpp"

#include "support/calls.hpp"
#include "support/dialects.hpp"
#include "support/peer.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <filesystem>
#include <iterator>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace endpoints_test {

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

TEST_CASE("remote: one request alone tries an endpoint, whatever else of it ends meanwhile") {
    Three three;
    std::list<Endpoints::Use> uses;
    for (int request = 0; request < 6; ++request) {
        uses.push_back(three.endpoints.choose(three.now));
    }
    REQUIRE(three.host(uses.front()) == "b");
    uses.front().failed(three.now);
    const Endpoints::Use trying = three.endpoints.choose(three.now + 1s);
    CHECK(three.host(trying) == "b");
    CHECK(trying.is_trial());
    uses.pop_front();  // One that was sent before the pause ends.
    for (int request = 0; request < 3; ++request) {
        uses.push_back(three.endpoints.choose(three.now + 1s));
        CHECK(three.host(uses.back()) != "b");
        CHECK(!uses.back().is_trial());
    }
}

TEST_CASE("remote: a request that has failed does not try another endpoint that failed, if there is one that works") {
    Three three;
    for (int request = 0; request < 2; ++request) {
        three.endpoints.choose(three.now).failed(three.now);  // b and c.
    }
    const auto after = three.now + 1h;
    const Endpoints::Use first = three.endpoints.choose(after);
    CHECK(first.is_trial());
    const Endpoints::Use again = three.endpoints.choose(after, &first.endpoint());
    CHECK(three.host(again) == "a");
    first.failed(after);
    again.failed(after);
    CHECK(three.endpoints.choose(after, &again.endpoint()).is_trial());
}

TEST_CASE("remote: where requests are rarer than pauses, a dead endpoint costs none") {
    Three three;
    for (int request = 0; request < 1000; ++request) {
        INFO("request " << request);
        const auto now = three.now + request * 1h;
        three.endpoints.count_request();
        const Endpoints::Use use = three.endpoints.choose(now);
        if (three.host(use) == "b") {
            use.failed(now);
            REQUIRE(three.endpoints.may_repeat(use));
            CHECK(three.host(three.endpoints.choose(now, &use.endpoint())) != "b");
        }
    }
    // The only endpoint has nothing to gain from it.
    Endpoints one(options_for({"http://a"}));
    int repeated = 0;
    for (int request = 0; request < 100; ++request) {
        const Endpoints::Use use = one.choose(three.now + request * 1h);
        use.failed(three.now + request * 1h);
        repeated += one.may_repeat(use) ? 1 : 0;
    }
    CHECK(repeated == 10);
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

TEST_CASE("remote: a load asks each endpoint until one answers that is up") {
    const Reply reply = GENERATE(Reply{.bytes = {}, .then = Reply::Then::close},
                                 answer(500, R"({"error":"x"})", "Content-Type: text/plain\r\n"), answer(502, ""),
                                 answer(503, "", "Retry-After: 1\r\n"), answer(504, ""), answer(200, "<html>"),
                                 Reply{.bytes = "HTTP/1.1 2", .then = Reply::Then::close});
    INFO(reply.bytes);
    Peer alive(openai);
    Peer bad([&](const Seen&) { return reply; });
    Peer dead(openai);
    dead.die();
    RemoteModelOptions options = options_for({alive.url(), bad.url(), dead.url()});
    options.retries = 0;
    Embedder embedder(options);
    CHECK(alive.seen().size() == 1);
    CHECK(bad.seen().size() == 1);

    alive.die();
    CHECK(error_of([&] { load_embedder({.model = options}); }).code().category() == error_category());
    CHECK(bad.seen().size() == 2);
}

TEST_CASE("remote: a load goes on to the next endpoint when one does not answer in time") {
    Peer alive(openai);
    Peer silent([](const Seen&) { return Reply{.bytes = {}, .then = Reply::Then::hang}; });
    RemoteModelOptions options = options_for({alive.url(), silent.url()});
    options.request_timeout = 1s;
    options.retries = 0;
    const auto model = load_embedder({.model = options});
    CHECK(silent.seen().size() == 1);
    silent.wait_for_open(0);
    alive.wait_for_open(0);
}

TEST_CASE("remote: a load that an endpoint refuses asks no other") {
    const unsigned status = GENERATE(401U, 403U, 404U, 429U);
    Peer alive(openai);
    Peer refusing([&](const Seen&) { return answer(status, ""); });
    error_of([&] { load_embedder({.model = options_for({alive.url(), refusing.url()})}); });
    CHECK(alive.seen().empty());
    CHECK(refusing.seen().size() == 1);
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

namespace {

// 64 callers, each with one text after the other, no two of which are the same.
class Callers {
public:
    using Models = ModelManager<RemoteEmbeddingBackend, RemoteRerankerBackend>;
    static constexpr std::size_t callers = 64;
    static constexpr std::size_t calls = 40;
    static constexpr std::size_t all = callers * calls;

    explicit Callers(Models& models) : models_(models) {
        for (std::size_t caller = 0; caller < callers; ++caller) {
            call(caller * calls);
        }
    }

    // Waits until so many calls have been answered.
    void wait_for(std::size_t count) const {
        for (std::size_t seen = done_; seen < count; seen = done_) {
            done_.wait(seen);
        }
    }
    static std::string text_of(std::size_t number) { return std::to_string(number) + std::string(number % 7, 'x'); }

    // By number: how often it was answered with its own row, and how often by an error.
    std::vector<std::atomic<int>> right = std::vector<std::atomic<int>>(all);
    std::vector<std::atomic<int>> failed = std::vector<std::atomic<int>>(all);

private:
    void call(std::size_t number) {
        const std::string text = text_of(number);
        models_.async_embed("m", {text}, {}, [this, number, text](const std::exception_ptr& thrown, Embeddings rows) {
            if (thrown == nullptr && rows == Embeddings(3, row_of(text))) {
                ++right[number];
            } else if (thrown != nullptr) {
                ++failed[number];
            }
            if ((number + 1) % calls != 0) {
                call(number + 1);
            }
            ++done_;
            done_.notify_all();
        });
    }

    Models& models_;
    std::atomic<std::size_t> done_{0};
};

std::size_t open_descriptors() {
    const std::filesystem::directory_iterator begin("/proc/self/fd");
    return static_cast<std::size_t>(std::distance(begin, std::filesystem::directory_iterator()));
}

}  // namespace

TEST_CASE("remote: while endpoints die and rise under 64 callers, no request is lost, or sent again once answered",
          "[S54]") {
    const std::size_t before = open_descriptors();
    {
        std::array<Peer, 3> peers{Peer(openai), Peer(openai), Peer(openai)};
        RemoteModelOptions model = options_for({peers[0].url(), peers[1].url(), peers[2].url()});
        model.pause = 1ms;
        model.retries = 3;
        ManagerOptions options;
        options.embedding.max_queue = 1000;
        std::optional<Callers::Models> models;
        models.emplace(RemoteEmbeddingBackend({.model = model}), RemoteRerankerBackend({.model = model}), options);
        Callers callers(*models);
        for (std::size_t round = 0; round < 6; ++round) {
            callers.wait_for(Callers::all / 16 * (2 * round + 1));
            peers[round % 3].die();
            callers.wait_for(Callers::all / 16 * (2 * round + 2));
            peers[round % 3].rise();
        }
        callers.wait_for(Callers::all);
        models->shutdown();
        models.reset();  // Its threads have left the last handler.
        for (const Peer& peer : peers) {
            peer.wait_for_open(0);
        }

        std::map<std::string, int> answered;
        for (const Peer& peer : peers) {
            for (const Seen& seen : peer.answered()) {
                for (const std::string& text : texts_in(seen.body, "input")) {
                    ++answered[text];
                }
            }
        }
        std::size_t right = 0;
        for (std::size_t number = 0; number < Callers::all; ++number) {
            INFO("call " << number);
            CHECK(callers.right[number] + callers.failed[number] == 1);
            CHECK(answered[Callers::text_of(number)] == callers.right[number]);
            right += static_cast<std::size_t>(callers.right[number]);
        }
        // What was in flight at a death is sent again, within the budget.
        CHECK(right > Callers::all * 9 / 10);
    }
    CHECK(open_descriptors() == before);
}

}  // namespace endpoints_test

// Requests that share a model call: who joins, what each gets, and what becomes of the others when one fails, is
// cancelled, times out or is revoked.

#include "support/bench.hpp"

#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <initializer_list>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace batching_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a");

using Texts = std::vector<std::string>;

/// A manager with one call at once, whose models of key `a` take `limits` a call; the texts of each call are noted.
struct BatchBench : ManagerBench {
    explicit BatchBench(const BatchLimits& limits = {8}, ManagerOptions options = one_call()) : ManagerBench(options) {
        world->set_batch_limits(a, limits);
        world->on(FakeStep::inference, [this](const FakeCall& call) {
            calls.emplace_back(call.texts.begin(), call.texts.end());
            if (hook) {
                hook(call);
            }
        });
    }

    static ManagerOptions one_call() {
        ManagerOptions options;
        options.embedding.max_calls = options.reranker.max_calls = 1;
        return options;
    }

    /// Asks for the texts; the answer is in `answers` in the order of asking.
    Outcome<Embeddings>& embed(const Texts& texts, const RequestOptions& options = {}) {
        asked.push_back(texts);
        Outcome<Embeddings>& answer = answers.emplace_back();
        manager->async_embed(a, texts, options, answer.handler());
        return answer;
    }
    /// Loads the model and begins a call that is held at its executor, so that what follows waits.
    void occupy() {
        embed({"first"});
        run_ready(control, loading);
    }
    /// The same, and these requests wait behind it.
    void occupy_before(std::initializer_list<Texts> requests) {
        occupy();
        for (const Texts& texts : requests) {
            embed(texts);
        }
    }
    /// Checks that the request got its own rows.
    void check_answer(std::size_t index) {
        REQUIRE(answers[index].calls() == 1);
        REQUIRE_FALSE(answers[index].exception());
        CHECK(testing::answered_by(answers[index].value(), asked[index]) != 0);
    }

    std::vector<Texts> calls;
    std::function<void(const FakeCall&)> hook;
    std::deque<Outcome<Embeddings>> answers;
    std::vector<Texts> asked;
};

/// Fails a call that has this text, naming it if `names` is set.
auto failing_on(std::string_view bad, bool names) {
    return [bad, names](const FakeCall& call) {
        for (std::size_t index = 0; index < call.texts.size(); ++index) {
            if (call.texts[index] == bad) {
                const Error error(errc::invalid_request, call.key, Stage::inference, "it is bad");
                throw names ? error.at_text(index) : error;
            }
        }
    };
}

}  // namespace

TEST_CASE("Requests that wait share one call, and each gets its own rows in its order", "[H24][H25][R14]") {
    BatchBench bench;
    bench.occupy_before({{"b", "cc"}, {"ddd"}, {"e", "ff", "b"}});
    bench.run();
    CHECK(bench.calls == std::vector<Texts>{{"first"}, {"b", "cc", "ddd", "e", "ff", "b"}});
    for (std::size_t index = 0; index < bench.answers.size(); ++index) {
        bench.check_answer(index);
    }
    const SlotCounters counters = bench.manager->status().embedding.counters;
    CHECK(counters.batches == 2);
    CHECK(counters.texts == 7);
    CHECK(counters.leases_granted == 2);
    CHECK(counters.mean_texts() == 3.5);
    bench.check_end();
}

TEST_CASE("A model without limits, and a limit of one text, share no call", "[H24]") {
    const auto most = GENERATE(as<std::size_t>{}, 0, 1, 2);
    ManagerOptions options = BatchBench::one_call();
    options.embedding.max_batch_texts = most;
    BatchBench bench(most == 0 ? BatchLimits() : BatchLimits{8}, options);
    bench.occupy_before({{"b"}, {"c"}});
    bench.run();
    CHECK(bench.calls.size() == (most == 2 ? 2 : 3));
    bench.check_end();
}

TEST_CASE("A batch keeps within the model's texts and bytes, and takes no request in part", "[H25]") {
    BatchBench bench({4, 10});
    bench.occupy_before({{"1", "2"}, {"3", "4", "5"}, {"6"}, {"123456789"}, {"7"}});
    bench.run();
    CHECK(bench.calls == std::vector<Texts>{{"first"}, {"1", "2", "6", "7"}, {"3", "4", "5"}, {"123456789"}});
    for (std::size_t index = 0; index < bench.answers.size(); ++index) {
        bench.check_answer(index);
    }
    bench.check_end();
}

TEST_CASE("Only texts that are the same to the model share a call", "[H24]") {
    BatchBench bench;
    bench.occupy();
    bench.embed({"q1"}, {.as = EmbedAs::query});
    bench.embed({"d1"}, {.as = EmbedAs::document});
    bench.embed({"q2"}, {.as = EmbedAs::query});
    bench.embed({"d2"}, {.as = EmbedAs::document});
    bench.run();
    CHECK(bench.calls == std::vector<Texts>{{"first"}, {"q1", "q2"}, {"d1", "d2"}});
    bench.check_end();
}

TEST_CASE("A request of lower priority does not make a batch longer", "[H25][H6]") {
    BatchBench bench;
    bench.occupy();
    bench.embed({"low"}, {.priority = Priority::low});
    bench.embed({"normal"});
    bench.embed({"high"}, {.priority = Priority::high});
    bench.embed({"high too"}, {.priority = Priority::high});
    bench.embed({"normal too"});
    bench.run();
    CHECK(bench.calls == std::vector<Texts>{{"first"}, {"high", "high too"}, {"normal", "normal too"}, {"low"}});
    bench.check_end();
}

TEST_CASE("What waits is shared out over the calls that may run", "[H25]") {
    ManagerOptions options;
    options.embedding.max_calls = 2;
    BatchBench bench({8}, options);
    bench.occupy_before({{"second"}});
    for (const char* const text : {"1", "2", "3", "4", "5", "6"}) {
        bench.embed({text});
    }
    bench.run();
    REQUIRE(bench.calls.size() >= 4);
    CHECK(bench.calls[2].size() == 4);
    CHECK(bench.calls[3].size() == 2);
    bench.check_end();
}

TEST_CASE("A text that is at fault fails its request alone", "[H30][R14]") {
    const bool names = GENERATE(true, false);
    BatchBench bench;
    bench.occupy_before({{"b", "c"}, {"d", "bad", "e"}, {"f"}, {"g"}});
    bench.hook = failing_on("bad", names);
    bench.run();
    bench.check_answer(1);
    bench.check_answer(3);
    bench.check_answer(4);
    REQUIRE(bench.answers[2].calls() == 1);
    CHECK(bench.answers[2].code() == errc::invalid_request);
    CHECK(bench.answers[2].error().text_index() == (names ? std::optional<std::size_t>(1) : std::nullopt));
    CHECK_THAT(std::string(bench.answers[2].error().what()), contains_text(names ? "text 1: it is bad" : "it is bad"));
    // All at once, then the others as one batch; or the half at fault, each of it, and the other half; under one lease.
    CHECK(bench.calls.size() == (names ? 3 : 6));
    CHECK(bench.events.count(EventType::inference_failed) == 1);
    CHECK(bench.manager->status().embedding.counters.leases_granted == 2);
    bench.check_end();
}

TEST_CASE("A text at fault that no error names is looked for by halves", "[H30][R14]") {
    const auto at = GENERATE(range(std::size_t{1}, std::size_t{9}));
    BatchBench bench;
    bench.occupy();
    for (std::size_t index = 1; index <= 8; ++index) {
        bench.embed({index == at ? "bad" : std::to_string(index)});
    }
    bench.hook = failing_on("bad", false);
    bench.run();
    for (std::size_t index = 1; index <= 8; ++index) {
        if (index != at) {
            bench.check_answer(index);
        }
    }
    REQUIRE(bench.answers[at].calls() == 1);
    CHECK(bench.answers[at].code() == errc::invalid_request);
    std::vector<std::size_t> sizes;
    for (const Texts& call : bench.calls) {
        sizes.push_back(call.size());
    }
    // Of a half that is not at fault the other half is: it is halved at once. What is cleared has one call at the end.
    CHECK(std::vector(sizes.begin(), sizes.begin() + 5) == std::vector<std::size_t>{1, 8, 4, 2, 1});
    CHECK(sizes.size() <= 7);
    if (at == 1) {
        CHECK(bench.calls.back() == Texts{"2", "3", "4", "5", "6", "7", "8"});
    }
    if (at == 8) {
        CHECK(bench.calls.back() == Texts{"bad"});
    }
    CHECK(bench.events.count(EventType::inference_failed) == 1);
    CHECK(bench.manager->status().embedding.counters.leases_granted == 2);
    bench.check_end();
}

TEST_CASE("A model that always fails is called for each request, and not much more often", "[H30]") {
    BatchBench bench;
    bench.occupy();
    for (std::size_t index = 1; index <= 8; ++index) {
        bench.embed({std::to_string(index)});
    }
    bench.hook = [](const FakeCall& call) {
        if (call.texts.front() != "first") {
            throw std::runtime_error("broken");
        }
    };
    bench.run();
    for (std::size_t index = 1; index <= 8; ++index) {
        REQUIRE(bench.answers[index].calls() == 1);
        CHECK(bench.answers[index].code() == errc::inference_failed);
    }
    CHECK(bench.calls == std::vector<Texts>{{"first"},
                                            {"1", "2", "3", "4", "5", "6", "7", "8"},
                                            {"1", "2", "3", "4"},
                                            {"1", "2"},
                                            {"1"},
                                            {"2", "3", "4", "5", "6", "7", "8"},
                                            {"2"},
                                            {"3"},
                                            {"4"},
                                            {"5"},
                                            {"6"},
                                            {"7"},
                                            {"8"}});
    CHECK(bench.events.count(EventType::inference_failed) == 8);
    bench.check_end();
}

TEST_CASE("A joint call that fails once, whatever its texts, fails no request", "[H30][R14]") {
    BatchBench bench;
    bench.occupy();
    for (std::size_t index = 1; index <= 8; ++index) {
        bench.embed({std::to_string(index)});
    }
    bench.hook = [](const FakeCall& call) {
        if (call.rows == 8) {
            throw std::runtime_error("hiccup");
        }
    };
    bench.run();
    for (std::size_t index = 1; index <= 8; ++index) {
        bench.check_answer(index);
    }
    CHECK(bench.events.count(EventType::inference_failed) == 0);
    bench.check_end();
}

TEST_CASE("A request that was at fault has a call of its own when it comes again, until that succeeds", "[H30][R14]") {
    const bool names = GENERATE(true, false);
    BatchBench bench;
    bench.hook = failing_on("bad", names);
    const auto round = [&bench] {
        bench.calls.clear();
        bench.occupy_before({{"b"}, {"c", "bad"}, {"d"}});
        bench.run();
        bench.check_answer(bench.answers.size() - 3);
        bench.check_answer(bench.answers.size() - 1);
        return std::pair(bench.calls, bench.answers[bench.answers.size() - 2].code() == errc::invalid_request);
    };
    const auto found = round();
    CHECK(found.first.size() == (names ? 3 : 6));
    CHECK(found.second);
    const std::vector<Texts> apart{{"first"}, {"c", "bad"}, {"b", "d"}};
    CHECK(round() == std::pair(apart, true));
    // A text of it alone is another request.
    bench.calls.clear();
    bench.occupy_before({{"b"}, {"c"}});
    bench.run();
    CHECK(bench.calls == std::vector<Texts>{{"first"}, {"b", "c"}});
    bench.hook = nullptr;
    CHECK(round() == std::pair(apart, false));
    CHECK(round() == std::pair(std::vector<Texts>{{"first"}, {"b", "c", "bad", "d"}}, false));
    bench.check_end();
}

TEST_CASE("A request is known to have been at fault with its key, not with others", "[H30][R14]") {
    ManagerOptions options = BatchBench::one_call();
    options.embedding.max_resident = 2;
    BatchBench bench({8}, options);
    bench.world->set_batch_limits(b, {8});
    bench.hook = [](const FakeCall& call) {
        if (call.key == a) {
            failing_on("bad", true)(call);
        }
    };
    const auto round = [&bench](const ModelKey& key) {
        bench.calls.clear();
        std::deque<Outcome<Embeddings>> answers(3);
        bench.manager->async_embed(key, Texts{"first"}, answers[0].handler());
        run_ready(bench.control, bench.loading);
        bench.manager->async_embed(key, Texts{"x"}, answers[1].handler());
        bench.manager->async_embed(key, Texts{"bad"}, answers[2].handler());
        bench.run();
        CHECK(answers[1].value().size() == 1);
        CHECK(answers[2].code() == (key == a ? make_error_code(errc::invalid_request) : boost::system::error_code()));
        return bench.calls;
    };
    CHECK(round(a) == std::vector<Texts>{{"first"}, {"x", "bad"}, {"x"}});
    CHECK(round(b) == std::vector<Texts>{{"first"}, {"x", "bad"}});
    CHECK(round(a) == std::vector<Texts>{{"first"}, {"bad"}, {"x"}});
    bench.check_end();
}

TEST_CASE("A NaN of one request is not what another's joint call failed for", "[H30][R14]") {
    BatchBench bench;
    bench.occupy_before({{"nan"}, {"bad"}, {"c"}, {"d"}});
    bench.hook = [&bench](const FakeCall& call) {
        failing_on("bad", false)(call);
        if (call.texts.back() == "nan") {
            bench.world->spoil_next(FakeFault::nan, a);
        }
    };
    bench.run();
    // The search goes on behind it.
    CHECK(bench.calls ==
          std::vector<Texts>{{"first"}, {"nan", "bad", "c", "d"}, {"nan", "bad"}, {"nan"}, {"bad"}, {"c", "d"}});
    CHECK(bench.answers[1].code() == errc::bad_result);
    CHECK(bench.answers[2].code() == errc::invalid_request);
    bench.check_answer(3);
    bench.check_answer(4);
    // When it comes again it may share a call.
    bench.calls.clear();
    bench.occupy_before({{"e"}, {"nan"}});
    bench.run();
    CHECK(bench.calls == std::vector<Texts>{{"first"}, {"e", "nan"}});
    bench.check_answer(6);
    CHECK(bench.answers[7].code() == errc::bad_result);
    bench.check_end();
}

TEST_CASE("A request that the model gave up because all had left was not at fault", "[H29][H30]") {
    BatchBench bench;
    std::deque<asio::cancellation_signal> signals(2);
    std::deque<Outcome<Embeddings>> answers(2);
    bench.occupy();
    for (std::size_t index = 0; index < 2; ++index) {
        bench.manager->async_embed(a, Texts{index == 0 ? "b" : "c"},
                                   asio::bind_cancellation_slot(signals[index].slot(), answers[index].handler()));
    }
    bench.hook = [&](const FakeCall& call) {
        if (call.rows == 2) {
            throw std::runtime_error("hiccup");
        }
        if (call.texts.front() == "b") {
            for (asio::cancellation_signal& signal : signals) {
                signal.emit(asio::cancellation_type::terminal);
            }
            run_ready(bench.control);
            CHECK(call.stop.stop_requested());
            throw std::runtime_error("stopped");
        }
    };
    bench.run();
    CHECK(bench.calls == std::vector<Texts>{{"first"}, {"b", "c"}, {"b"}});
    bench.hook = nullptr;
    bench.calls.clear();
    bench.occupy_before({{"b"}, {"d"}});
    bench.run();
    CHECK(bench.calls == std::vector<Texts>{{"first"}, {"b", "d"}});
    bench.check_end();
}

TEST_CASE("What a joint call threw is destroyed before its lease ends", "[H16][H30]") {
    struct Hiccup {
        std::shared_ptr<void> last;
    };
    BatchBench bench;
    bench.occupy_before({{"b"}, {"c"}});
    std::optional<std::size_t> leases;
    bench.hook = [&](const FakeCall& call) {
        if (call.rows == 2) {
            throw Hiccup{std::shared_ptr<void>(
                nullptr, [&](void* /*none*/) { leases = bench.manager->status().embedding.leases; })};
        }
    };
    bench.run();
    bench.check_answer(1);
    bench.check_answer(2);
    CHECK(leases == std::optional<std::size_t>(1));
    bench.check_end();
}

TEST_CASE("Of a joint call that failed, no half is called once the slot shuts down", "[H30]") {
    BatchBench bench;
    bench.occupy_before({{"b"}, {"c"}, {"d"}, {"e"}});
    Outcome<ShutdownReport> shutdown;
    bench.hook = [&](const FakeCall& call) {
        if (call.rows == 4) {
            throw std::runtime_error("broken");
        }
        if (call.rows == 2) {
            bench.manager->async_shutdown(shutdown.handler());
        }
    };
    bench.run();
    CHECK(bench.calls == std::vector<Texts>{{"first"}, {"b", "c", "d", "e"}, {"b", "c"}});
    bench.check_answer(1);
    bench.check_answer(2);
    CHECK(bench.answers[3].code() == errc::inference_failed);
    CHECK(bench.answers[4].code() == errc::inference_failed);
    CHECK(shutdown.value().clean());
    bench.check_nothing_left();
}

TEST_CASE("Several texts at fault fail their requests alone", "[H30][R14]") {
    BatchBench bench;
    bench.occupy_before({{"bad"}, {"b"}, {"c", "bad"}});
    bench.hook = failing_on("bad", true);
    bench.run();
    CHECK(bench.answers[1].error().text_index() == std::optional<std::size_t>(0));
    bench.check_answer(2);
    CHECK(bench.answers[3].error().text_index() == std::optional<std::size_t>(1));
    bench.check_end();
}

TEST_CASE("An index that no text has is any other failure", "[H30]") {
    BatchBench bench;
    bench.occupy_before({{"b"}, {"c"}});
    bench.hook = [](const FakeCall& call) {
        if (call.rows > 1) {
            throw Error(errc::inference_failed, call.key, Stage::inference, "odd").at_text(7);
        }
    };
    bench.run();
    bench.check_answer(1);
    bench.check_answer(2);
    bench.check_end();
}

TEST_CASE("A request that has a call of its own is not given an index that none of its texts has", "[H30]") {
    const bool shared = GENERATE(false, true);
    BatchBench bench;
    bench.occupy_before({{"b", "c"}});
    if (shared) {
        bench.embed({"d"});
    }
    bench.hook = [](const FakeCall& call) {
        if (call.texts.front() == "b") {
            throw Error(errc::inference_failed, call.key, Stage::inference, "odd").at_text(call.rows);
        }
    };
    bench.run();
    REQUIRE(bench.answers[1].calls() == 1);
    CHECK(bench.answers[1].code() == errc::inference_failed);
    CHECK_FALSE(bench.answers[1].error().text_index());
    CHECK_THAT(std::string(bench.answers[1].error().what()), !contains_text("text 2"));
    if (shared) {
        bench.check_answer(2);
    }
    bench.check_end();
}

TEST_CASE("Nothing is run again after an error that says the model cannot work now", "[H30]") {
    const errc code = GENERATE(errc::overloaded, errc::timed_out);
    BatchBench bench;
    bench.occupy_before({{"b"}, {"c"}});
    bench.hook = [code](const FakeCall& call) {
        if (call.rows > 1) {
            throw Error(code, call.key, Stage::inference, "busy");
        }
    };
    bench.run();
    CHECK(bench.calls.size() == 2);
    CHECK(bench.answers[1].code() == code);
    CHECK(bench.answers[2].code() == code);
    bench.check_end();
}

TEST_CASE("Nothing is run again once the slot shuts down", "[H30]") {
    BatchBench bench;
    bench.occupy_before({{"b"}, {"c"}});
    Outcome<ShutdownReport> shutdown;
    bench.hook = [&](const FakeCall& call) {
        if (call.rows > 1) {
            bench.manager->async_shutdown(shutdown.handler());
            throw std::runtime_error("broken");
        }
    };
    bench.run();
    CHECK(bench.calls.size() == 2);
    CHECK(bench.answers[1].code() == errc::inference_failed);
    CHECK(bench.answers[2].code() == errc::inference_failed);
    CHECK(shutdown.value().clean());
    bench.check_nothing_left();
}

TEST_CASE("What memory has split off is called also after the slot began to shut down, whatever the others threw",
          "[H30][R14]") {
    BatchBench bench;
    bench.occupy_before({{"b"}, {"c"}, {"d"}, {"e"}});
    Outcome<ShutdownReport> shutdown;
    bench.hook = [&](const FakeCall& call) {
        if (call.rows == 4) {
            throw std::bad_alloc();
        }
        if (call.rows == 2 && call.texts.front() == "b") {
            throw std::runtime_error("broken");
        }
        if (call.texts.front() == "b") {
            bench.manager->async_shutdown(shutdown.handler());
        }
    };
    bench.run();
    bench.check_answer(1);
    CHECK(bench.answers[2].code() == errc::inference_failed);
    bench.check_answer(3);
    bench.check_answer(4);
    CHECK(shutdown.value().clean());
    bench.check_nothing_left();
}

TEST_CASE("What goes on of a call with a text at fault is one call, without others that memory has split off",
          "[H30]") {
    BatchBench bench({8});
    bench.occupy();
    for (const char* const text : {"1", "bad", "3", "4", "5", "6", "7", "8"}) {
        bench.embed({text});
    }
    bench.hook = [](const FakeCall& call) {
        if (call.rows > 4) {
            throw std::bad_alloc();
        }
        for (std::size_t index = 0; index < call.texts.size(); ++index) {
            if (call.texts[index] == "bad") {
                throw Error(errc::invalid_request, ModelKey(), Stage::inference, "no").at_text(index);
            }
        }
    };
    bench.run();
    CHECK(bench.calls == std::vector<Texts>{{"first"},
                                            {"1", "bad", "3", "4", "5", "6", "7", "8"},
                                            {"1", "bad", "3", "4"},
                                            {"1", "3", "4"},
                                            {"5", "6", "7", "8"}});
    for (const std::size_t index : {1U, 3U, 4U, 5U, 6U, 7U, 8U}) {
        bench.check_answer(index);
    }
    CHECK(bench.answers[2].code() == errc::invalid_request);
    bench.check_end();
}

TEST_CASE("A call that is out of memory is halved, and later ones stay as small", "[H30]") {
    BatchBench bench({8});
    bench.occupy();
    for (const char* const text : {"1", "2", "3", "4", "5", "6", "7", "8"}) {
        bench.embed({text});
    }
    bench.hook = [](const FakeCall& call) {
        if (call.rows > 2) {
            throw std::bad_alloc();
        }
    };
    bench.run();
    for (std::size_t index = 0; index < bench.answers.size(); ++index) {
        bench.check_answer(index);
    }
    const auto sizes = [&bench] {
        std::vector<std::size_t> all;
        for (const Texts& call : std::exchange(bench.calls, {})) {
            all.push_back(call.size());
        }
        return all;
    };
    CHECK(sizes() == std::vector<std::size_t>{1, 8, 4, 2, 2, 2, 2});
    bench.occupy();
    for (const char* const text : {"1", "2", "3", "4", "5"}) {
        bench.embed({text});
    }
    bench.run();
    CHECK(sizes() == std::vector<std::size_t>{1, 2, 2, 1});
    bench.check_end();
}

TEST_CASE("A NaN fails the request whose row it is in", "[H30][R14]") {
    BatchBench bench;
    bench.occupy_before({{"b"}, {"c", "d"}});
    bench.hook = [&bench](const FakeCall& call) {
        if (call.rows > 1) {
            bench.world->spoil_next(FakeFault::nan, a);
        }
    };
    bench.run();
    CHECK(bench.calls.size() == 2);
    bench.check_answer(1);
    CHECK(bench.answers[2].code() == errc::bad_result);
    CHECK_THAT(std::string(bench.answers[2].error().what()), contains_text("text 1: the model gave a NaN"));
    bench.check_end();
}

TEST_CASE("An answer with the wrong number of rows is asked for again in halves", "[H30][R14]") {
    const FakeFault fault = GENERATE(FakeFault::too_few, FakeFault::too_many);
    BatchBench bench;
    bench.occupy_before({{"b"}, {"c"}});
    bench.hook = [&bench, fault](const FakeCall& call) {
        if (call.rows > 1) {
            bench.world->spoil_next(fault, a);
        }
    };
    bench.run();
    CHECK(bench.calls == std::vector<Texts>{{"first"}, {"b", "c"}, {"b"}, {"c"}});
    bench.check_answer(1);
    bench.check_answer(2);
    bench.check_end();
}

TEST_CASE("A request whose timeout passes in the call completes early, and harms no other", "[H31][R14]") {
    BatchBench bench;
    bench.occupy();
    bench.embed({"b"}, {.timeout = 1s});
    bench.embed({"c"}, {.timeout = 1s});
    bench.embed({"d"});
    bench.hook = [&bench](const FakeCall& call) {
        if (call.rows > 1) {
            VirtualClock::advance(1s);
            run_ready(bench.control);
            CHECK(bench.answers[1].code() == errc::timed_out);
            CHECK(bench.answers[1].error().stage() == Stage::inference);
            CHECK_FALSE(call.stop.stop_requested());
        }
    };
    bench.run();
    CHECK(bench.answers[2].code() == errc::timed_out);
    bench.check_answer(3);
    bench.check_end();
}

TEST_CASE("No text is computed for a request that completed before its call began", "[H31]") {
    BatchBench bench;
    bench.occupy();
    bench.embed({"b"}, {.timeout = 1s});
    bench.embed({"c"});
    bench.embed({"d"}, {.timeout = 1s});
    bench.hook = [&bench](const FakeCall& call) {
        if (call.texts[0] == "first") {
            // The batch is granted when this call ends; its timeouts pass before the inference executor comes to it.
            asio::post(bench.inference, [&bench] {
                VirtualClock::advance(1s);
                run_ready(bench.control);
            });
        }
    };
    bench.run();
    CHECK(bench.calls == std::vector<Texts>{{"first"}, {"c"}});
    CHECK(bench.answers[1].code() == errc::timed_out);
    bench.check_answer(2);
    CHECK(bench.answers[3].code() == errc::timed_out);
    bench.check_end();
}

TEST_CASE("The model is asked to stop once no request of the call wants it", "[H29]") {
    BatchBench bench;
    std::deque<asio::cancellation_signal> signals(3);
    std::deque<Outcome<Embeddings>> answers(3);
    bench.occupy();
    for (std::size_t index = 0; index < 3; ++index) {
        bench.manager->async_embed(a, Texts{std::to_string(index)},
                                   asio::bind_cancellation_slot(signals[index].slot(), answers[index].handler()));
    }
    bench.hook = [&](const FakeCall& call) {
        if (call.rows == 1) {
            return;
        }
        for (asio::cancellation_signal& signal : signals) {
            CHECK_FALSE(call.stop.stop_requested());
            signal.emit(asio::cancellation_type::terminal);
            run_ready(bench.control);
        }
        CHECK(call.stop.stop_requested());
        throw Error(operation_aborted(), call.key, Stage::inference, "stopped");
    };
    bench.run();
    for (Outcome<Embeddings>& answer : answers) {
        CHECK(answer.code() == asio::error::operation_aborted);
    }
    CHECK(bench.events.count(EventType::inference_failed) == 0);
    CHECK(bench.calls.size() == 2);
    bench.check_end();
}

TEST_CASE("A revoke completes all requests of a call, and nothing is run again", "[H30]") {
    BatchBench bench;
    bench.occupy_before({{"b"}, {"c"}});
    bench.hook = [&bench](const FakeCall& call) {
        if (call.rows > 1) {
            bench.manager->embedding().async_unload(a, UnloadMode::revoke, [](const std::exception_ptr&) {});
            run_ready(bench.control);
            CHECK(bench.answers[1].code() == errc::model_changed);
            CHECK(bench.answers[2].code() == errc::model_changed);
            CHECK(call.stop.stop_requested());
            throw std::runtime_error("stopped");
        }
    };
    bench.run();
    CHECK(bench.calls.size() == 2);
    bench.check_end();
}

TEST_CASE("The longest keep-alive of a batch applies", "[H7]") {
    BatchBench bench;
    bench.occupy();
    bench.embed({"b"}, {.keep_alive = 1s});
    bench.embed({"c"}, {.keep_alive = keep_alive_forever});
    bench.embed({"d"}, {.keep_alive = 2s});
    bench.run();
    CHECK_FALSE(bench.manager->status().embedding.residents.at(0).unloads_in);
    bench.check_end();
}

TEST_CASE("A request that expects another residency does not join", "[H8]") {
    BatchBench bench;
    bench.occupy();
    const Generation now = bench.manager->embedding().generation();
    bench.embed({"b"}, {.expected_generation = now});
    bench.embed({"c"});
    bench.run();
    CHECK(bench.calls.at(1) == Texts{"b", "c"});
    bench.check_answer(1);
    bench.check_end();
}

TEST_CASE("An inference executor that drops a batch fails all its requests", "[R9]") {
    BatchBench bench;
    auto inference = std::make_unique<asio::io_context>();
    bench.manager.emplace(
        testing::FakeEmbeddingBackend(bench.world), testing::FakeRerankerBackend(bench.world), BatchBench::one_call(),
        Executors{bench.control.get_executor(), inference->get_executor(), bench.loading.get_executor()});
    bench.occupy_before({{"b"}, {"c"}});
    // The first call ends, the batch is granted, and its executor is destroyed with it.
    inference->run_one();
    run_ready(bench.control);
    inference.reset();
    bench.run();
    CHECK(bench.answers[1].code() == errc::inference_failed);
    CHECK(bench.answers[2].code() == errc::inference_failed);
    CHECK(bench.manager->status().embedding.leases == 0);
}

TEST_CASE("Rerank requests share a call of pairs, and each gets its own ranking", "[H24][R14]") {
    BatchBench bench;
    std::deque<Outcome<Ranking>> answers(3);
    bench.manager->async_rerank(a, "first", {"x"}, answers[0].handler());
    run_ready(bench.control, bench.loading);
    bench.manager->async_rerank(a, "one", {"1", "333", "22"}, answers[1].handler());
    bench.manager->async_rerank(a, "two", {"4444", "1"}, answers[2].handler());
    bench.run();
    CHECK(bench.calls == std::vector<Texts>{{"x"}, {"1", "333", "22", "4444", "1"}});
    const auto order = [](const Ranking& ranking) {
        std::vector<std::size_t> indices;
        for (const RankedDocument& document : ranking) {
            indices.push_back(document.index);
        }
        return indices;
    };
    CHECK(order(answers[1].value()) == std::vector<std::size_t>{1, 2, 0});
    CHECK(order(answers[2].value()) == std::vector<std::size_t>{0, 1});
    bench.check_end();
}

TEST_CASE("A document that is at fault fails its request alone", "[H30][R14]") {
    BatchBench bench;
    std::deque<Outcome<Ranking>> answers(3);
    bench.manager->async_rerank(a, "first", {"x"}, answers[0].handler());
    run_ready(bench.control, bench.loading);
    bench.manager->async_rerank(a, "one", {"1"}, answers[1].handler());
    bench.manager->async_rerank(a, "two", {"2", "bad"}, answers[2].handler());
    bench.hook = failing_on("bad", true);
    bench.run();
    CHECK(answers[1].value().size() == 1);
    CHECK(answers[2].error().text_index() == std::optional<std::size_t>(1));
    CHECK_THAT(std::string(answers[2].error().what()), contains_text("document 1: it is bad"));
    bench.check_end();
}

TEST_CASE("A rerank that was at fault is known by its query and its documents", "[H30][R14]") {
    BatchBench bench;
    bench.hook = [](const FakeCall& call) {
        if (call.texts.back() == "bad") {
            throw std::runtime_error("it is bad");
        }
    };
    const auto round = [&bench](const std::string& query) {
        bench.calls.clear();
        std::deque<Outcome<Ranking>> answers(3);
        bench.manager->async_rerank(a, "first", {"x"}, answers[0].handler());
        run_ready(bench.control, bench.loading);
        bench.manager->async_rerank(a, "one", {"1"}, answers[1].handler());
        bench.manager->async_rerank(a, query, {"bad"}, answers[2].handler());
        bench.run();
        CHECK(answers[1].value().size() == 1);
        CHECK(answers[2].code() == errc::inference_failed);
        return bench.calls;
    };
    CHECK(round("two") == std::vector<Texts>{{"x"}, {"1", "bad"}, {"1"}, {"bad"}});
    CHECK(round("two") == std::vector<Texts>{{"x"}, {"bad"}, {"1"}});
    CHECK(round("three") == std::vector<Texts>{{"x"}, {"1", "bad"}, {"1"}, {"bad"}});
    bench.check_end();
}

TEST_CASE("Who is overloaded learns when to try again, and the status what waits", "[R8]") {
    ManagerOptions options = BatchBench::one_call();
    options.embedding.max_queue = 2;
    BatchBench bench({2}, options);
    SlotStatus status;
    bench.hook = [&](const FakeCall& call) {
        VirtualClock::advance(call.texts.size() * 10ms);
        if (bench.calls.size() == 2) {
            bench.embed({"g"});
            status = bench.manager->status().embedding;
        }
    };
    bench.occupy_before({{"b", "c", "d", "e"}, {"f"}});
    Outcome<Embeddings>& early = bench.embed({"g"});
    bench.run();
    CHECK(early.code() == errc::overloaded);
    CHECK_FALSE(early.error().retry_after());
    // The first call, about one text, took 10 ms, and of the large request two texts are left.
    CHECK(bench.answers.back().code() == errc::overloaded);
    CHECK(bench.answers.back().error().retry_after() == std::optional(30ms));
    CHECK(status.waiting == 2);
    CHECK(status.waiting_texts == 3);
    CHECK(status.waiting_parts == 1);
    status = bench.manager->status().embedding;
    CHECK(status.waiting_texts == 0);
    CHECK(status.waiting_parts == 0);
    bench.check_end();
}

TEST_CASE("A request larger than what may wait is invalid, and what waits is counted in bytes", "[H4][H5][R8]") {
    ManagerOptions options = BatchBench::one_call();
    options.embedding.max_queue_bytes = 8;
    BatchBench bench({1}, options);
    bench.occupy();
    CHECK(bench.embed({"12345", "6789"}).calls() == 0);
    bench.embed({"1234567"}, {.priority = Priority::low});
    bench.embed({"123456"}, {.priority = Priority::low});
    bench.embed({"12"});
    bench.embed({"1"});
    bench.embed({""});
    run_ready(bench.control);
    CHECK(bench.answers[1].code() == errc::invalid_request);
    CHECK(bench.answers[2].code() == errc::invalid_request);
    CHECK_THAT(std::string(bench.answers[2].error().what()), contains_text("more than the 6 bytes"));
    CHECK(bench.answers[3].calls() == 0);
    CHECK(bench.answers[4].calls() == 0);
    CHECK(bench.answers[5].code() == errc::overloaded);
    CHECK(bench.answers[6].calls() == 0);
    bench.run();
    bench.check_answer(3);
    bench.check_answer(4);
    bench.check_end();
}

}  // namespace batching_test

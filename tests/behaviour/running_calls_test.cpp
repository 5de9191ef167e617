// H10: what a call that runs on a model owns, and how it is asked to stop.

#include "support/bench.hpp"

#include <atomic>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace running_calls_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a");

// Reads what it was given only after the test has done what it wanted to do meanwhile.
class LateReader : public FakeModel {
public:
    using FakeModel::FakeModel;

    Embeddings embed(std::span<const std::string> texts, std::stop_token stop) {
        return infer(texts.size(), std::move(stop), [texts](std::uint64_t, auto) {
            Embeddings rows(texts.size(), 1);
            for (std::size_t index = 0; index < texts.size(); ++index) {
                rows[index][0] = static_cast<float>(texts[index].size());
                last_read() += texts[index];
            }
            return rows;
        });
    }
    std::vector<float> rerank(std::string_view query, std::span<const std::string> documents, std::stop_token stop) {
        return infer(documents.size(), std::move(stop), [query, documents](std::uint64_t, auto) {
            last_read() += query;
            for (const std::string& document : documents) {
                last_read() += document;
            }
            return std::vector<float>(documents.size());
        });
    }

    static std::string& last_read() {
        static std::string text;
        return text;
    }
};

using Backend = testing::FakeBackend<LateReader>;

struct LateBench : Bench {
    using Manager = ModelManager<Backend, Backend, VirtualClock>;
    LateBench() : manager(std::in_place, Backend(world), Backend(world), ManagerOptions{}, executors()) {
        LateReader::last_read().clear();
    }
    std::optional<Manager> manager;
};

// Longer than the small-string size, so that a string that is gone is freed memory.
std::string long_text(char letter) { return std::string(100, letter); }

}  // namespace

TEST_CASE("A call owns its texts until the model returns, also if its caller timed out", "[H10]") {
    LateBench bench;
    Outcome<Embeddings> answer;
    std::size_t completed = 0;
    bool stopped = false;
    bench.world->on(FakeStep::inference, [&](const FakeCall& call) {
        CHECK_FALSE(call.stop.stop_requested());
        VirtualClock::advance(1s);
        run_ready(bench.control);
        completed = answer.calls();
        stopped = call.stop.stop_requested();
        CHECK_FALSE(answer.held());
    });
    bench.manager->async_embed(a, std::vector<std::string>(10, long_text('x')), {.timeout = 1s}, answer.handler());
    bench.run();
    CHECK(completed == 1);
    CHECK(stopped);
    CHECK(answer.code() == errc::timed_out);
    CHECK(LateReader::last_read() == std::string(1000, 'x'));
    CHECK(answer.calls() == 1);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("A call owns its query and documents until the model returns, also if its caller cancelled", "[H10]") {
    LateBench bench;
    Request<Ranking> answer;
    std::size_t completed = 0;
    bench.world->on(FakeStep::inference, [&](const FakeCall& call) {
        answer.cancel(asio::cancellation_type::partial);
        answer.cancel(asio::cancellation_type::total);
        run_ready(bench.control);
        CHECK(answer.calls() == 0);
        CHECK_FALSE(call.stop.stop_requested());
        answer.cancel(asio::cancellation_type::terminal);
        run_ready(bench.control);
        completed = answer.calls();
        CHECK(call.stop.stop_requested());
        // The lease lives as long as the model is at work.
        CHECK(bench.manager->reranker().status().leases == 1);
    });
    bench.manager->async_rerank(a, long_text('q'), {long_text('d'), long_text('e')}, answer.token());
    bench.run();
    CHECK(completed == 1);
    CHECK(answer.code() == asio::error::operation_aborted);
    CHECK(answer.error().stage() == Stage::inference);
    CHECK(LateReader::last_read() == long_text('q') + long_text('d') + long_text('e'));
    CHECK(bench.manager->reranker().status().leases == 0);
    CHECK(answer.calls() == 1);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("A call owns its texts also if its manager is destroyed meanwhile, which sets its stop_token", "[H10]") {
    LateBench bench;
    Outcome<Embeddings> answer;
    bool stopped = false;
    bench.world->on(FakeStep::inference, [&](const FakeCall& call) {
        bench.manager.reset();
        stopped = call.stop.stop_requested();
        run_ready(bench.control);
        CHECK(answer.calls() == 1);
    });
    bench.manager->async_embed(a, {long_text('x')}, answer.handler());
    bench.run();
    CHECK(stopped);
    CHECK(answer.code() == errc::shutting_down);
    CHECK(LateReader::last_read() == long_text('x'));
    CHECK(answer.calls() == 1);
    bench.check_nothing_left();
}

TEST_CASE("A blocking call that timed out leaves its texts to the model", "[H10]") {
    const auto world = std::make_shared<FakeWorld>();
    LateReader::last_read().clear();
    const std::shared_ptr<testing::Gate> gate = world->block(FakeStep::inference, a);
    {
        ModelManager<Backend, Backend> models{Backend(world), Backend(world)};
        models.embedding().ensure_loaded(a);
        errc code{};
        try {
            // The real clock: however late this is noticed, the model is still held.
            (void)models.embed(a, {long_text('x'), long_text('y')}, {.timeout = 1ms});
        } catch (const Error& error) {
            code = static_cast<errc>(error.code().value());
            CHECK(error.code() == errc::timed_out);
        }
        CHECK(code == errc::timed_out);
        gate->open();
    }
    // If it came so far as to reach the model at all, the model read everything.
    const std::size_t calls = world->counts().calls;
    CHECK(LateReader::last_read() == (calls == 0 ? std::string() : long_text('x') + long_text('y')));
    CHECK(world->counts().live == 0);
    CHECK(world->violations().empty());
}

TEST_CASE("A blocking call that times out while the model is at work leaves its texts to it", "[H10]") {
    LateBench bench;
    std::atomic<bool> over = false;
    std::size_t calls = 0;
    bench.world->on(FakeStep::inference, [&](const FakeCall& call) {
        ++calls;
        VirtualClock::advance(1s);
        // The caller may still be on its way to set the timer.
        while (!call.stop.stop_requested()) {
            run_ready(bench.control);
        }
        // The caller is on its way out of the call, with its own copy of the texts gone.
        while (!over) {
            std::this_thread::yield();
        }
    });
    boost::system::error_code code;
    std::thread caller([&] {
        try {
            (void)bench.manager->embed(a, {long_text('x')}, {.timeout = 1s});
        } catch (const Error& error) {
            code = error.code();
        }
        over = true;
    });
    while (!over) {
        bench.run();
    }
    caller.join();
    bench.run();
    CHECK(calls == 1);
    CHECK(code == errc::timed_out);
    CHECK(LateReader::last_read() == long_text('x'));
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("Who leaves while waiting for a thread never reaches the model", "[H10]") {
    LateBench bench;
    Request<Embeddings> answer;
    bench.manager->async_embed(a, {long_text('x')}, answer.token());
    run_ready(bench.control, bench.loading);
    REQUIRE(bench.manager->embedding().status().leases == 1);
    answer.cancel();
    run_ready(bench.control);
    CHECK(answer.code() == asio::error::operation_aborted);
    bench.run();
    CHECK(bench.world->counts().calls == 0);
    CHECK(bench.manager->embedding().status().leases == 0);
    CHECK(answer.calls() == 1);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("Who leaves while waiting for a lease takes its texts along", "[H10][R9]") {
    LateBench bench;
    Request<Embeddings> answer;
    bench.manager->async_embed(a, {long_text('x')}, answer.token());
    answer.cancel(asio::cancellation_type::total);
    CHECK(answer.calls() == 0);
    bench.run();
    CHECK(answer.code() == asio::error::operation_aborted);
    CHECK(answer.calls() == 1);
    CHECK_FALSE(answer.held());
    CHECK(bench.world->counts().calls == 0);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("A lease takes one call at a time, so that as many leases allow as many calls at once", "[H10]") {
    const auto world = std::make_shared<FakeWorld>();
    const std::shared_ptr<testing::Gate> gate = world->block(FakeStep::inference, a);
    asio::thread_pool pool(4);
    {
        ModelManager<testing::FakeEmbeddingBackend, testing::FakeRerankerBackend> models{
            testing::FakeEmbeddingBackend(world),
            testing::FakeRerankerBackend(world),
            {.embedding = {.max_leases = 3}},
            Executors::all(pool.get_executor())};
        std::vector<Outcome<Embeddings>> answers(6);
        for (Outcome<Embeddings>& answer : answers) {
            models.async_embed(a, {"text"}, answer.handler());
        }
        gate->await_held(3);
        CHECK(models.embedding().status().leases == 3);
        CHECK(models.embedding().status().waiting == 3);
        gate->open();
        for (Outcome<Embeddings>& answer : answers) {
            answer.wait();
            CHECK(answer.value().size() == 1);
        }
        CHECK(models.shutdown().clean());
        for (Outcome<Embeddings>& answer : answers) {
            CHECK(answer.calls() == 1);
        }
    }
    pool.join();
    CHECK(world->counts().most_calling == 3);
    CHECK(world->counts().live == 0);
    CHECK(world->violations().empty());
}

}  // namespace running_calls_test

// The test doubles with the library that they are for: what a user's own test looks like.

#include "residency/model_manager.hpp"
#include "residency/testing/fake_backend.hpp"
#include "residency/testing/outcome.hpp"
#include "residency/testing/virtual_clock.hpp"

#include "support/catch.hpp"

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace doubles_at_work_test {

using namespace residency;
using namespace residency::testing;
using namespace std::chrono_literals;

namespace {

using Manager = ModelManager<FakeEmbeddingBackend, FakeRerankerBackend, VirtualClock>;

const ModelKey minilm{"minilm", "f16"};
const std::vector<std::string> texts{"one text", "and another"};

}  // namespace

TEST_CASE("A model is loaded on first use, answers, and goes after its keep-alive, in no time") {
    VirtualClock::reset();
    asio::io_context context;
    const auto world = std::make_shared<FakeWorld>();
    {
        Manager models{FakeEmbeddingBackend(world), {}, {}, Executors::all(context.get_executor())};
        Outcome<Embeddings> answer;
        models.async_embed(minilm, texts, answer.handler());
        CHECK(answer.calls() == 0);
        run_ready(context);
        CHECK(answer.calls() == 1);
        CHECK_FALSE(answer.held());
        CHECK(world->model(answered_by(answer.value())).key == minilm);

        advance(context, 5min - 1ns);
        CHECK(world->counts().live == 1);
        advance(context, 1ns);
        CHECK(world->counts().live == 0);
    }
    run_ready(context);
    CHECK(world->counts().loads == 1);
    CHECK(world->counts().unloads == 1);
    CHECK(world->violations().empty());
}

TEST_CASE("A load on a context of its own takes as long as the test likes") {
    VirtualClock::reset();
    asio::io_context context;
    asio::io_context loading;
    const auto world = std::make_shared<FakeWorld>();
    Manager models{
        FakeEmbeddingBackend(world), {}, {}, {context.get_executor(), context.get_executor(), loading.get_executor()}};
    Outcome<Embeddings> impatient;
    Outcome<Embeddings> patient;
    models.async_embed(minilm, texts, {.timeout = 100ms}, impatient.handler());
    models.async_embed(minilm, texts, patient.handler());
    run_ready(context);
    CHECK(impatient.calls() == 0);
    advance(context, 101ms);
    REQUIRE(impatient.calls() == 1);
    CHECK(impatient.code() == errc::timed_out);
    // The backend is not called before the test runs its context.
    CHECK(impatient.error().stage() == Stage::queue);
    CHECK(patient.calls() == 0);

    run_ready(context, loading);
    REQUIRE(patient.calls() == 1);
    CHECK(answered_by(patient.value()) == 1);
    CHECK(world->counts().calls == 1);
}

TEST_CASE("A load that fails gives its cause, and is tried again after the cooldown") {
    VirtualClock::reset();
    asio::io_context context;
    const auto world = std::make_shared<FakeWorld>();
    Manager models{FakeEmbeddingBackend(world), {}, {}, Executors::all(context.get_executor())};
    world->fail_next(FakeStep::load, minilm, std::runtime_error("no such file"));

    const auto ask = [&] {
        Outcome<Embeddings> answer;
        models.async_embed(minilm, texts, answer.handler());
        run_ready(context);
        CHECK(answer.calls() == 1);
        return answer.code();
    };
    CHECK(ask() == errc::load_failed);
    CHECK(ask() == errc::cooling_down);
    CHECK(world->counts().loads == 1);
    advance(context, 1s);
    CHECK_FALSE(ask().failed());
    CHECK(world->counts().loads == 2);
}

TEST_CASE("With threads, a gate says when: one load serves all who asked during it") {
    const auto world = std::make_shared<FakeWorld>();
    const auto gate = world->block(FakeStep::load, minilm);
    {
        ModelManager<FakeEmbeddingBackend, FakeRerankerBackend> models{FakeEmbeddingBackend(world), {}};
        const std::vector<Outcome<Embeddings>> answers(5);
        for (const auto& answer : answers) {
            models.async_embed(minilm, texts, answer.handler());
        }
        gate->await_held();
        for (const auto& answer : answers) {
            CHECK(answer.calls() == 0);
        }
        gate->open();
        for (auto answer : answers) {
            answer.wait();
            CHECK(answered_by(answer.value()) == 1);
        }
    }
    CHECK(world->counts().loads == 1);
    CHECK(world->counts().calls == 5);
    CHECK(world->counts().live == 0);
    CHECK(world->violations().empty());
}

}  // namespace doubles_at_work_test

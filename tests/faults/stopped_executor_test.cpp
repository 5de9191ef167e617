// An executor of the host's that stops under the manager: each of the three, at each stage of a request. What is left
// then waits; it goes on when the executor is restarted. Contexts outlive their managers (H11): once the manager is
// destroyed they may end with what was posted.

#include "support/bench.hpp"

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/executor_work_guard.hpp>

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace stopped_executor_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a");

enum Which : std::size_t { control, inference, loading };
constexpr std::array<const char*, 3> names{"control", "inference", "loading"};

enum class When {
    before_the_load,
    in_the_load,
    between_load_and_inference,
    in_the_inference,
    idle,
    in_the_unload,
    in_the_shutdown
};
constexpr std::array<const char*, 7> stages{"before the load",  "in the load", "between load and inference",
                                            "in the inference", "idle",        "in the unloading",
                                            "in the shutdown"};

using Manager = ManagerBench::Manager;
using EmbedderLease = Lease<testing::FakeEmbedder>;

// A manager whose contexts can be stopped and destroyed one by one, and requests whose handlers run on control, or
// elsewhere.
struct Scene {
    Scene() {
        VirtualClock::reset();
        for (auto& context : contexts) {
            context = std::make_unique<asio::io_context>();
        }
        manager.emplace(testing::FakeEmbeddingBackend(world), testing::FakeRerankerBackend(world),
                        ManagerOptions{.observer = events.observer()},
                        Executors{contexts[control]->get_executor(), contexts[inference]->get_executor(),
                                  contexts[loading]->get_executor()});
    }

    // Runs those that have not been stopped.
    void run() {
        std::size_t count = 0;
        std::size_t before = 0;
        do {
            before = count;
            for (std::size_t index = 0; index < contexts.size(); ++index) {
                count += contexts[index] && !(stopped == index) ? run_ready(*contexts[index]) : 0;
            }
            count += run_ready(elsewhere);
        } while (count != before);
    }
    void stop(Which which) {
        stopped = which;
        contexts[which]->stop();
    }
    void restart() { stopped.reset(); }
    // Precondition: the manager is destroyed.
    void destroy(std::size_t which) {
        stopped.reset();
        contexts[which].reset();
    }

    template <class Result, class Start>
    void request(std::vector<Outcome<Result>>& here, std::vector<Outcome<Result>>& there, const Start& start) {
        start(here.emplace_back().handler());
        start(asio::bind_executor(elsewhere, there.emplace_back().handler()));
    }
    void ask() {
        request(called_here, called_there, [this](auto token) { manager->async_embed(a, {"text"}, std::move(token)); });
        request(leased_here, leased_there,
                [this](auto token) { manager->embedding().async_acquire(a, std::move(token)); });
    }
    void unload() {
        request(unloaded_here, unloaded_there,
                [this](auto token) { manager->embedding().async_unload(a, std::move(token)); });
    }
    void shut_down() {
        request(reported_here, reported_there, [this](auto token) { manager->async_shutdown(std::move(token)); });
    }
    void release_leases() {
        for (auto* outcomes : {&leased_here, &leased_there}) {
            for (auto& outcome : *outcomes) {
                if (outcome.calls() != 0 && !outcome.exception()) {
                    outcome.value().release();
                }
            }
        }
    }

    // Brings it to `when` and stops `which` there.
    void stop_at(When when, Which which) {
        const auto stop_in = [&](FakeStep step) {
            world->on(step, [this, which, done = false](const FakeCall&) mutable {
                if (!std::exchange(done, true)) {
                    stop(which);
                }
            });
        };
        switch (when) {
            case When::before_the_load:
                ask();
                stop(which);
                break;
            case When::in_the_load:
                stop_in(FakeStep::load);
                ask();
                break;
            case When::between_load_and_inference:
                ask();
                run_ready(*contexts[control], *contexts[loading]);
                stop(which);
                break;
            case When::in_the_inference:
                stop_in(FakeStep::inference);
                ask();
                break;
            case When::idle:
                ask();
                run();
                release_leases();
                run();
                stop(which);
                break;
            case When::in_the_unload:
                stop_in(FakeStep::unload);
                ask();
                run();
                release_leases();
                unload();
                break;
            case When::in_the_shutdown:
                ask();
                run();
                shut_down();
                stop(which);
                release_leases();
                break;
        }
        run();
        REQUIRE(stopped == which);
    }

    template <class Each>
    void each(bool here, const Each& check) {
        const auto all = [&](auto& outcomes) {
            for (auto& outcome : outcomes) {
                check(outcome);
            }
        };
        here ? all(called_here) : all(called_there);
        here ? all(leased_here) : all(leased_there);
        here ? all(unloaded_here) : all(unloaded_there);
        here ? all(reported_here) : all(reported_there);
    }
    // Each handler whose executor runs was called once; of the others nothing is left.
    void check_completed(bool control_ran) {
        each(false, [](auto& outcome) {
            CHECK(outcome.calls() == 1);
            CHECK_FALSE(outcome.held());
        });
        each(true, [&](auto& outcome) {
            CHECK((outcome.calls() == 1 || (outcome.calls() == 0 && !control_ran)));
            CHECK_FALSE(outcome.held());
        });
    }
    void check_all_succeeded() {
        for (const bool here : {false, true}) {
            each(here, [](auto& outcome) {
                REQUIRE(outcome.calls() == 1);
                CHECK_FALSE(outcome.exception());
            });
        }
    }
    void check_nothing_left() {
        CHECK(world->counts().live == 0);
        CHECK(world->counts().calling == 0);
        CHECK(world->violations().empty());
        world->on(FakeStep::load, {});
        CHECK(world.use_count() == 1);
        CHECK(is_idle(elsewhere));
    }

    std::array<std::unique_ptr<asio::io_context>, 3> contexts;
    asio::io_context elsewhere;
    std::optional<std::size_t> stopped;
    std::shared_ptr<FakeWorld> world = std::make_shared<FakeWorld>();
    EventLog events;
    std::vector<Outcome<Embeddings>> called_here;
    std::vector<Outcome<Embeddings>> called_there;
    std::vector<Outcome<EmbedderLease>> leased_here;
    std::vector<Outcome<EmbedderLease>> leased_there;
    std::vector<Outcome<>> unloaded_here;
    std::vector<Outcome<>> unloaded_there;
    std::vector<Outcome<ShutdownReport>> reported_here;
    std::vector<Outcome<ShutdownReport>> reported_there;
    std::optional<Manager> manager;
};

// Calls `go_on(scene, which)` for each of the three executors, stopped at each stage.
void stop_each(const std::function<void(Scene&, Which)>& go_on) {
    for (std::size_t stage = 0; stage < stages.size(); ++stage) {
        for (std::size_t which = 0; which < names.size(); ++which) {
            INFO(names[which] << " stops " << stages[stage]);
            Scene scene;
            scene.stop_at(static_cast<When>(stage), static_cast<Which>(which));
            go_on(scene, static_cast<Which>(which));
        }
    }
}

}  // namespace

TEST_CASE("An executor that stops, at any stage, and is restarted: everything goes on as if nothing had been",
          "[H11][R9][R12]") {
    stop_each([](Scene& scene, Which) {
        scene.restart();
        scene.run();
        scene.release_leases();
        scene.run();
        scene.check_all_succeeded();
        CHECK(scene.world->counts().loads == 1);
        scene.shut_down();
        scene.run();
        scene.check_all_succeeded();
        CHECK(scene.reported_here.back().value().clean());
        for (const auto& context : scene.contexts) {
            CHECK(is_idle(*context));
        }
        scene.manager.reset();
        scene.check_nothing_left();
    });
}

TEST_CASE("While an executor stands still a request can be made, be left and time out, and its manager can be asked",
          "[H11][R9]") {
    stop_each([](Scene& scene, Which which) {
        Outcome<Embeddings> timed;
        Request<Embeddings> left;
        const bool shut = scene.manager->status().embedding.shutting_down;
        scene.manager->async_embed("b", {"text"}, {.timeout = 1s},
                                   asio::bind_executor(scene.elsewhere, timed.handler()));
        scene.manager->async_embed("b", {"text"}, asio::bind_executor(scene.elsewhere, left.token()));
        scene.run();
        left.cancel();
        VirtualClock::advance(1s);
        scene.run();
        // The alarm is on control.
        CHECK((timed.calls() == 1 || which == control));
        CHECK(left.calls() == 1);
        scene.restart();
        scene.run();
        REQUIRE(timed.calls() == 1);
        CHECK(left.calls() == 1);
        // Whichever came first: that there is nothing more to be had, the model, or the end of its time.
        CHECK((timed.exception() == nullptr || timed.code() == errc::timed_out ||
               (shut && timed.code() == errc::shutting_down)));
        scene.release_leases();
        scene.shut_down();
        scene.run();
        scene.manager.reset();
        scene.check_completed(true);
        scene.check_nothing_left();
    });
}

TEST_CASE("A manager destroyed while an executor of its stands still, at any stage, returns; the rest follows",
          "[H11][R9][R12]") {
    for (const bool restarts : {true, false}) {
        INFO((restarts ? "restarted" : "destroyed"));
        stop_each([restarts](Scene& scene, Which which) {
            scene.manager.reset();
            scene.run();
            if (restarts) {
                scene.restart();
            } else {
                scene.destroy(which);
            }
            scene.run();
            scene.release_leases();
            scene.run();
            scene.check_completed(restarts || which != control);
            scene.check_nothing_left();
        });
    }
}

TEST_CASE("A context that threads run stops, the manager is destroyed, and the context ends while the others go on",
          "[H11][R9]") {
    for (std::size_t which = 0; which < names.size(); ++which) {
        for (const FakeStep step : {FakeStep::load, FakeStep::inference}) {
            INFO(names[which] << " stops in step " << static_cast<int>(step));
            const auto world = std::make_shared<FakeWorld>();
            std::array<std::unique_ptr<asio::io_context>, 3> contexts;
            std::array<std::thread, 3> threads;
            for (std::size_t index = 0; index < contexts.size(); ++index) {
                contexts[index] = std::make_unique<asio::io_context>();
                threads[index] = std::thread([context = contexts[index].get(),
                                              guard = asio::make_work_guard(*contexts[index])] { context->run(); });
            }
            asio::io_context elsewhere;
            Outcome<Embeddings> first;
            Outcome<Ranking> second;
            const auto gate = world->block(step, a);
            {
                ModelManager<testing::FakeEmbeddingBackend, testing::FakeRerankerBackend> models{
                    testing::FakeEmbeddingBackend(world),
                    testing::FakeRerankerBackend(world),
                    {},
                    {contexts[control]->get_executor(), contexts[inference]->get_executor(),
                     contexts[loading]->get_executor()}};
                models.async_embed(a, {"text"}, asio::bind_executor(elsewhere, first.handler()));
                models.async_rerank(a, "query", {"text"}, asio::bind_executor(elsewhere, second.handler()));
                gate->await_held();
                contexts[which]->stop();
                gate->open();
                threads[which].join();
            }
            contexts[which].reset();
            for (std::size_t index = 0; index < contexts.size(); ++index) {
                if (contexts[index]) {
                    contexts[index]->stop();
                    threads[index].join();
                    contexts[index].reset();
                }
            }
            elsewhere.run();
            CHECK(first.calls() == 1);
            CHECK(second.calls() == 1);
            CHECK(world->counts().live == 0);
            CHECK(world->violations().empty());
            CHECK(world.use_count() == 1);
        }
    }
}

}  // namespace stopped_executor_test

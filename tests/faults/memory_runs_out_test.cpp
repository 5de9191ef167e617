// H18: what began while there was memory goes on when there is none, to the end: each request completes once,
// nothing is lost and nothing is kept. Each story runs again and again, with its first, second, ... allocation
// failing.

#include "support/failing_allocations.hpp"
#include "support/memory.hpp"
#include "support/non_allocating_fakes.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

namespace memory_runs_out_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

// Past the small-string size, as names of models are.
const ModelKey a("bge-small-en-v1.5-of-the-first-kind", "q8_0-with-a-long-name");
const ModelKey b("bge-small-en-v1.5-of-another-kind", "q8_0-with-a-long-name");

const SlotOptions lasting{.keep_alive = keep_alive_forever, .max_leases = 2};
const SlotOptions passing{.keep_alive = 1min, .max_leases = 2};

struct Scene : NonAllocatingBench {
    explicit Scene(const SlotOptions& options) : NonAllocatingBench(options, [this](const Event&) { ++events; }) {}

    template <class Handler>
    auto cancellable(Handler handler) {
        const AmpleMemory mine;
        return asio::bind_cancellation_slot(signals.emplace_back().slot(), std::move(handler));
    }

    // Each of these counts its handler.
    void acquire(const ModelKey& key, RequestOptions request = {}) {
        slot().async_acquire(key, request, cancellable(handlers.count([](std::exception_ptr, const FrugalLease&) {})));
    }
    void embed(RequestOptions request = {}) {
        models->async_embed(a, {"text"}, request,
                            cancellable(handlers.count([](std::exception_ptr, const Embeddings&) {})));
    }
    void unload(UnloadMode mode = UnloadMode::drain) {
        slot().async_unload(a, mode, cancellable(handlers.count([](std::exception_ptr) {})));
    }
    void shut_down(std::chrono::milliseconds deadline) {
        models->async_shutdown(
            deadline, cancellable(handlers.count([this](std::exception_ptr error, const ShutdownReport& report) {
                // What has a lease is left over; if there is no memory to name the model, it is not said that
                // there is none.
                lied = lied || (!error && report.clean());
            })));
    }
    void hold(const ModelKey& key) { held.push_back(lease(key)); }
    // Who asked last leaves.
    void cancel() { signals.back().emit(asio::cancellation_type::terminal); }

    std::size_t events = 0;
    bool lied = false;
    std::deque<asio::cancellation_signal> signals;
};

struct Story {
    const char* name;
    SlotOptions options;
    // With memory.
    std::function<void(Scene&)> begin;
    // Without.
    std::function<void(Scene&)> go_on;
};

[[noreturn]] void fail_at_work() {
    const AmpleMemory mine;
    throw std::runtime_error("a reason that is longer than a small string can be");
}

const auto runs = [](Scene& scene) { scene.run_without_memory(); };

const std::vector<Story> stories{
    {"a load, a grant, a call", lasting, [](Scene& scene) { scene.embed(); }, runs},
    {"a timeout that is not needed", lasting, [](Scene& scene) { scene.embed({.timeout = 1h}); }, runs},
    {"a switch", lasting,
     [](Scene& scene) {
         scene.hold(a);
         scene.acquire(b);
     },
     [](Scene& scene) {
         scene.held.clear();
         scene.run_without_memory();
     }},
    {"idleness", passing, [](Scene& scene) { scene.hold(a); },
     [](Scene& scene) {
         scene.held.clear();
         VirtualClock::advance(1min);
         scene.run_without_memory();
         VirtualClock::advance(1min);
         scene.run_without_memory();
     }},
    {"a keep-alive that is zero", {.keep_alive = 0ms}, [](Scene& scene) { scene.embed(); }, runs},
    {"a load that throws", lasting,
     [](Scene& scene) {
         scene.world.in_load = fail_at_work;
         scene.acquire(a);
         scene.embed();
     },
     runs},
    {"a load that throws without waiters", lasting,
     [](Scene& scene) {
         scene.world.in_load = fail_at_work;
         scene.acquire(a);
     },
     [](Scene& scene) {
         scene.cancel();
         scene.run_without_memory();
     }},
    {"a model that throws", lasting,
     [](Scene& scene) {
         scene.world.in_call = fail_at_work;
         scene.embed();
     },
     runs},
    {"a model that answers too much", lasting,
     [](Scene& scene) {
         scene.world.too_many = 1;
         scene.embed();
     },
     runs},
    {"a waiter that leaves", lasting,
     [](Scene& scene) {
         scene.hold(a);
         scene.acquire(b);
     },
     [](Scene& scene) {
         scene.cancel();
         scene.run_without_memory();
     }},
    {"a waiter that times out", lasting,
     [](Scene& scene) {
         scene.hold(a);
         scene.acquire(b, {.timeout = 1s});
     },
     [](Scene& scene) {
         scene.run_without_memory();
         VirtualClock::advance(1s);
         scene.run_without_memory();
     }},
    {"a call that is left while it runs", lasting,
     [](Scene& scene) {
         scene.world.in_call = [&scene] {
             scene.cancel();
             scene.run_control_without_memory();
         };
         scene.embed();
     },
     runs},
    {"a call that times out while it runs", lasting,
     [](Scene& scene) {
         scene.world.in_call = [&scene] {
             VirtualClock::advance(1s);
             scene.run_control_without_memory();
         };
         scene.embed({.timeout = 1s});
         scene.run_control_without_memory();
     },
     runs},
    {"a call whose model is revoked while it runs", lasting,
     [](Scene& scene) {
         scene.world.in_call = [&scene] {
             const std::size_t made = scene.handlers.made();
             try {
                 scene.unload(UnloadMode::revoke);
             } catch (const std::bad_alloc&) {
                 const AmpleMemory mine;
                 scene.handlers.forget(scene.handlers.made() - made);
             }
         };
         scene.embed();
     },
     runs},
    {"a call whose manager is destroyed while it runs", lasting,
     [](Scene& scene) {
         scene.world.in_call = [&scene] { scene.models.reset(); };
         scene.embed();
     },
     runs},
    {"an unload whose caller leaves", lasting,
     [](Scene& scene) {
         scene.hold(a);
         scene.unload();
     },
     [](Scene& scene) {
         scene.cancel();
         scene.run_without_memory();
     }},
    {"a shutdown whose caller leaves", lasting,
     [](Scene& scene) {
         scene.hold(a);
         scene.shut_down(1h);
     },
     [](Scene& scene) {
         scene.cancel();
         scene.run_without_memory();
     }},
    {"a shutdown whose deadline passes", lasting,
     [](Scene& scene) {
         scene.hold(a);
         scene.shut_down(1s);
     },
     [](Scene& scene) {
         scene.run_without_memory();
         VirtualClock::advance(1s);
         scene.run_without_memory();
     }},
    {"a destructor with everything under way", lasting,
     [](Scene& scene) {
         scene.hold(a);
         scene.acquire(b);
         scene.unload();
         scene.shut_down(1h);
     },
     [](Scene& scene) {
         scene.models.reset();
         scene.run_without_memory();
         scene.held.clear();
         scene.run_without_memory();
     }},
    {"an unload of what is loading", lasting,
     [](Scene& scene) {
         scene.acquire(a);
         scene.unload();
     },
     runs},
};

// Runs a story with its `nth` allocation failing. Gives whether it got that far.
bool run(const Story& story, std::size_t nth, FaultPattern scarcity) {
    Scene scene(story.options);
    story.begin(scene);
    std::size_t failures = 0;
    {
        const AllocationFaults scarce(nth, scarcity);
        story.go_on(scene);
        failures = scarce.failures();
    }
    // The end, with memory.
    scene.world.in_load = scene.world.in_call = {};
    scene.world.too_many = 0;
    scene.held.clear();
    scene.run();
    CHECK(scene.handlers.ran() == scene.handlers.made());
    CHECK_FALSE(scene.lied);
    if (scene.models) {
        if (!scene.models->status().embedding.shutting_down) {
            // It is as good as new.
            VirtualClock::advance(1h);
            scene.run();
            CHECK(scene.lease(a));
            CHECK(scene.lease(b));
        }
        Outcome<ShutdownReport> report;
        scene.models->async_shutdown(report.handler());
        scene.run();
        REQUIRE(report.calls() == 1);
        CHECK(report.value().clean());
    }
    CHECK(scene.world.live == 0);
    CHECK(scene.at_rest());
    return failures != 0;
}

}  // namespace

TEST_CASE("Memory that runs out while operations are on their way loses none of them, and nothing else",
          "[H18][R9][R11][R12]") {
    fail_each_allocation(stories, run);
}

TEST_CASE("Loads that find no memory to begin fail one after the other, however many keys wait", "[H18][R9][R11]") {
    constexpr std::size_t keys = 1'500;
    Scene scene({.keep_alive = keep_alive_forever, .max_leases = 2, .max_queue = keys});
    scene.hold(a);
    for (std::size_t key = 0; key < keys; ++key) {
        scene.acquire("a-model-with-a-name-that-is-as-long " + std::to_string(key));
    }
    CHECK(scene.handlers.ran() == 0);
    {
        const AllocationFaults scarce(1, FaultPattern::from);
        // Its place goes to one key after the other.
        scene.held.clear();
        scene.run_without_memory();
    }
    CHECK(scene.handlers.ran() == keys);
    CHECK(scene.slot().status().waiting == 0);
    CHECK(scene.slot().status().counters.load_failures == keys);
    scene.run();
    CHECK(scene.handlers.ran() == keys);
    CHECK(scene.world.live == 0);
    CHECK(scene.at_rest());
    // It is as good as new.
    CHECK(scene.lease(b));
    scene.held.clear();
}

TEST_CASE("Where there is no memory for the alarm's wait, control looks at the time again and again until there is",
          "[H14][H18][R7][R9]") {
    for (const FaultPattern scarcity : {FaultPattern::only, FaultPattern::from}) {
        INFO((scarcity == FaultPattern::from ? "for good" : "for a moment"));
        Scene scene(passing);
        std::size_t before = 0;
        std::size_t while_scarce = 0;
        scene.acquire(a, {.timeout = 1s});
        scene.world.in_load = [&] {
            const AllocationFaults scarce(1, scarcity);
            // One handler at a time: there is always one more as long as the wait cannot be started.
            const auto turns = [&scene] {
                scene.control.restart();
                for (int turn = 0; turn < 10; ++turn) {
                    scene.control.poll_one();
                }
            };
            turns();
            before = scene.handlers.ran();
            VirtualClock::advance(1s);
            turns();
            while_scarce = scarce.failures();
        };
        scene.loading.poll_one();
        CHECK(while_scarce > 0);
        CHECK(before == 0);
        scene.world.in_load = {};
        scene.run();
        // Within its time, or, if the wait stood in the end, by that.
        CHECK(scene.handlers.ran() == 1);
        CHECK(scene.slot().status().counters.timed_out == 1);
        // The model, whose waiters had left, is unloaded in its time.
        CHECK(scene.world.live == 1);
        VirtualClock::advance(1min);
        scene.run();
        CHECK(scene.world.live == 0);
        CHECK(scene.at_rest());
    }
}

namespace {

// Three requests that share a call, with the `nth` allocation failing once their model has its lease. Gives whether it
// got that far. What they got is added up in `served`.
bool share_a_call(bool reranks, std::size_t nth, FaultPattern scarcity, std::size_t& served) {
    Scene scene({.keep_alive = keep_alive_forever, .max_leases = 1});
    scene.world.batch_limits = {8};
    scene.world.answers_sizes = true;
    const std::vector<std::vector<std::string>> texts{
        {"one", "three"}, {"a text that is longer than a small string can be"}, {"four", "two", "six"}};
    std::size_t completed = 0;
    std::size_t sound = 0;
    std::size_t of_memory = 0;
    const auto judge = [&](std::exception_ptr error, std::size_t request, const auto& size_of, std::size_t rows) {
        const AmpleMemory mine;
        ++completed;
        if (!error) {
            bool own = rows == texts[request].size();
            for (std::size_t row = 0; own && row < rows; ++row) {
                own = size_of(row) == static_cast<float>(texts[request][row].size());
            }
            sound += own ? 1 : 0;
            return;
        }
        try {
            std::rethrow_exception(error);
        } catch (const std::bad_alloc&) {
            ++of_memory;
        } catch (const Error& typed) {
            of_memory += typed.code() == errc::inference_failed ? 1 : 0;
        }
    };
    // A lease keeps them waiting.
    FrugalLease lease;
    if (reranks) {
        Outcome<FrugalLease> answer;
        scene.models->reranker().async_acquire(a, answer.handler());
        scene.run();
        lease = std::move(answer.value());
        for (std::size_t request = 0; request < texts.size(); ++request) {
            scene.models->async_rerank(
                a, "query", texts[request],
                scene.handlers.count([&, request](std::exception_ptr error, Ranking ranking) {
                    std::sort(ranking.begin(), ranking.end(),
                              [](const auto& left, const auto& right) { return left.index < right.index; });
                    judge(
                        error, request, [&](std::size_t row) { return ranking[row].score; }, ranking.size());
                }));
        }
    } else {
        lease = scene.lease(a);
        for (std::size_t request = 0; request < texts.size(); ++request) {
            scene.models->async_embed(
                a, texts[request], scene.handlers.count([&, request](std::exception_ptr error, const Embeddings& rows) {
                    judge(
                        error, request, [&](std::size_t row) { return rows[row][0]; }, rows.size());
                }));
        }
    }
    lease.release();
    std::size_t failures = 0;
    {
        const AllocationFaults scarce(nth, scarcity);
        scene.run_without_memory();
        failures = scarce.failures();
    }
    scene.run();
    CHECK(completed == texts.size());
    CHECK(sound + of_memory == texts.size());
    // Where there was none for a moment, at most one request is the worse for it.
    CHECK((scarcity == FaultPattern::from || of_memory <= 1));
    CHECK((failures != 0 || sound == texts.size()));
    served += sound;
    const SlotStatus status = reranks ? scene.models->status().reranker : scene.models->status().embedding;
    CHECK(status.leases == 0);
    CHECK(status.counters.batches == 1);
    CHECK(status.counters.texts == 6);
    CHECK(scene.handlers.ran() == scene.handlers.made());
    // It is as good as new.
    CHECK(scene.lease(a));
    return failures != 0;
}

}  // namespace

TEST_CASE("Memory that runs out in a shared call costs each request its own rows at most", "[H18][H30][R9][R14]") {
    for (const bool reranks : {false, true}) {
        for (const FaultPattern scarcity : {FaultPattern::only, FaultPattern::from}) {
            std::size_t nth = 1;
            std::size_t served = 0;
            for (bool failed = true; failed; ++nth) {
                INFO((reranks ? "rerank" : "embed")
                     << ": allocation " << nth << " fails"
                     << (scarcity == FaultPattern::from ? " and all that follow" : " alone"));
                REQUIRE(nth < 1000);
                failed = share_a_call(reranks, nth, scarcity, served);
            }
            // The list of the texts.
            CHECK(nth > 2);
            CHECK(served >= 3);
        }
    }
}

}  // namespace memory_runs_out_test

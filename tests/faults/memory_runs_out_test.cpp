// H18: what began while there was memory goes on when there is none, to the end: each request is told something once, nothing is lost and
// nothing is kept. Each story is told again and again, with its first, second, ... allocation failing.

#include "support/frugal.hpp"
#include "support/memory.hpp"

#include <chrono>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <new>
#include <stdexcept>
#include <vector>

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

// Past the small-string size, as names of models are.
const ModelKey a("bge-small-en-v1.5-of-the-first-kind", "q8_0-with-a-long-name");
const ModelKey b("bge-small-en-v1.5-of-another-kind", "q8_0-with-a-long-name");

const SlotOptions lasting{.keep_alive = keep_alive_forever, .max_leases = 2};
const SlotOptions passing{.keep_alive = 1min, .max_leases = 2};

struct Stage : FrugalBench {
    explicit Stage(const SlotOptions& options) : FrugalBench(options, [this](const Event&) { ++events; }) {}

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
        models->async_embed(a, {"text"}, request, cancellable(handlers.count([](std::exception_ptr, const Embeddings&) {})));
    }
    void unload(UnloadMode mode = UnloadMode::drain) {
        slot().async_unload(a, mode, cancellable(handlers.count([](std::exception_ptr) {})));
    }
    void shut_down(std::chrono::milliseconds deadline) {
        models->async_shutdown(deadline, cancellable(handlers.count([this](std::exception_ptr error, const ShutdownReport& report) {
                                   // Whoever holds a lease is left over; if there is no memory to name the model, it is not said that there is none.
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
    std::function<void(Stage&)> begin;
    // Without.
    std::function<void(Stage&)> go_on;
};

[[noreturn]] void fail_at_work() {
    const AmpleMemory mine;
    throw std::runtime_error("a reason that is longer than a small string can be");
}

const auto runs = [](Stage& stage) { stage.run_frugally(); };

const std::vector<Story> stories{
    {"a load, a grant, a call", lasting, [](Stage& stage) { stage.embed(); }, runs},
    {"a timeout that is not needed", lasting, [](Stage& stage) { stage.embed({.timeout = 1h}); }, runs},
    {"a switch", lasting,
     [](Stage& stage) {
         stage.hold(a);
         stage.acquire(b);
     },
     [](Stage& stage) {
         stage.held.clear();
         stage.run_frugally();
     }},
    {"idleness", passing, [](Stage& stage) { stage.hold(a); },
     [](Stage& stage) {
         stage.held.clear();
         VirtualClock::advance(1min);
         stage.run_frugally();
         VirtualClock::advance(1min);
         stage.run_frugally();
     }},
    {"a keep-alive that is zero", {.keep_alive = 0ms}, [](Stage& stage) { stage.embed(); }, runs},
    {"a load that throws", lasting,
     [](Stage& stage) {
         stage.world.in_load = fail_at_work;
         stage.acquire(a);
         stage.embed();
     },
     runs},
    {"a load that throws for nobody any more", lasting,
     [](Stage& stage) {
         stage.world.in_load = fail_at_work;
         stage.acquire(a);
     },
     [](Stage& stage) {
         stage.cancel();
         stage.run_frugally();
     }},
    {"a model that throws", lasting,
     [](Stage& stage) {
         stage.world.in_call = fail_at_work;
         stage.embed();
     },
     runs},
    {"a model that answers too much", lasting,
     [](Stage& stage) {
         stage.world.too_many = 1;
         stage.embed();
     },
     runs},
    {"a waiter that leaves", lasting,
     [](Stage& stage) {
         stage.hold(a);
         stage.acquire(b);
     },
     [](Stage& stage) {
         stage.cancel();
         stage.run_frugally();
     }},
    {"a waiter that times out", lasting,
     [](Stage& stage) {
         stage.hold(a);
         stage.acquire(b, {.timeout = 1s});
     },
     [](Stage& stage) {
         stage.run_frugally();
         VirtualClock::advance(1s);
         stage.run_frugally();
     }},
    {"a call that is left while it runs", lasting,
     [](Stage& stage) {
         stage.world.in_call = [&stage] {
             stage.cancel();
             stage.run_control_frugally();
         };
         stage.embed();
     },
     runs},
    {"a call that times out while it runs", lasting,
     [](Stage& stage) {
         stage.world.in_call = [&stage] {
             VirtualClock::advance(1s);
             stage.run_control_frugally();
         };
         stage.embed({.timeout = 1s});
         stage.run_control_frugally();
     },
     runs},
    {"a call whose model is revoked while it runs", lasting,
     [](Stage& stage) {
         stage.world.in_call = [&stage] {
             const std::size_t made = stage.handlers.made();
             try {
                 stage.unload(UnloadMode::revoke);
             } catch (const std::bad_alloc&) {
                 const AmpleMemory mine;
                 stage.handlers.forget(stage.handlers.made() - made);
             }
         };
         stage.embed();
     },
     runs},
    {"a call whose manager is destroyed while it runs", lasting,
     [](Stage& stage) {
         stage.world.in_call = [&stage] { stage.models.reset(); };
         stage.embed();
     },
     runs},
    {"an unload whose caller leaves", lasting,
     [](Stage& stage) {
         stage.hold(a);
         stage.unload();
     },
     [](Stage& stage) {
         stage.cancel();
         stage.run_frugally();
     }},
    {"a shutdown whose caller leaves", lasting,
     [](Stage& stage) {
         stage.hold(a);
         stage.shut_down(1h);
     },
     [](Stage& stage) {
         stage.cancel();
         stage.run_frugally();
     }},
    {"a shutdown whose deadline passes", lasting,
     [](Stage& stage) {
         stage.hold(a);
         stage.shut_down(1s);
     },
     [](Stage& stage) {
         stage.run_frugally();
         VirtualClock::advance(1s);
         stage.run_frugally();
     }},
    {"a destructor with everything under way", lasting,
     [](Stage& stage) {
         stage.hold(a);
         stage.acquire(b);
         stage.unload();
         stage.shut_down(1h);
     },
     [](Stage& stage) {
         stage.models.reset();
         stage.run_frugally();
         stage.held.clear();
         stage.run_frugally();
     }},
    {"an unload of what is loading", lasting,
     [](Stage& stage) {
         stage.acquire(a);
         stage.unload();
     },
     runs},
};

// Tells a story with its `nth` allocation failing. Gives whether it got that far.
bool tell(const Story& story, std::size_t nth, Scarcity scarcity) {
    Stage stage(story.options);
    story.begin(stage);
    std::size_t failures = 0;
    {
        const ScarceMemory scarce(nth, scarcity);
        story.go_on(stage);
        failures = scarce.failures();
    }
    // The end, with memory.
    stage.world.in_load = stage.world.in_call = {};
    stage.world.too_many = 0;
    stage.held.clear();
    stage.run();
    CHECK(stage.handlers.ran() == stage.handlers.made());
    CHECK_FALSE(stage.lied);
    if (stage.models) {
        if (!stage.models->status().embedding.shutting_down) {
            // It is as good as new.
            VirtualClock::advance(1h);
            stage.run();
            CHECK(stage.lease(a));
            CHECK(stage.lease(b));
        }
        Outcome<ShutdownReport> report;
        stage.models->async_shutdown(report.handler());
        stage.run();
        REQUIRE(report.calls() == 1);
        CHECK(report.value().clean());
    }
    CHECK(stage.world.live == 0);
    CHECK(stage.idle());
    return failures != 0;
}

}  // namespace

TEST_CASE("Memory that runs out while operations are on their way loses none of them, and nothing else", "[H18][R9][R11][R12]") {
    for (const Story& story : stories) {
        for (const Scarcity scarcity : {Scarcity::only, Scarcity::from}) {
            std::size_t nth = 1;
            for (bool failed = true; failed; ++nth) {
                INFO(story.name << ": allocation " << nth << " fails" << (scarcity == Scarcity::from ? " and all that follow" : " alone"));
                REQUIRE(nth < 1000);
                failed = tell(story, nth, scarcity);
            }
            INFO(story.name);
            // Each of them needs memory: for events, if for nothing else.
            CHECK(nth > 2);
        }
    }
}

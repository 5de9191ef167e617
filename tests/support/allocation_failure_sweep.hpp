#pragma once

// Starts each operation in each state that a slot can be in, with its n-th allocation failing, and looks at what came
// of it. It reports in words instead of with assertions, so that it may also be used in a process that is not expected
// to live.

#include "support/non_allocating_fakes.hpp"

#include <chrono>
#include <cstddef>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace residency::test::starving {

using namespace std::chrono_literals;

// Past the small-string size, as names of models are.
inline const ModelKey a("bge-small-en-v1.5-of-the-first-kind", "q8_0-with-a-long-name");
inline const ModelKey b("bge-small-en-v1.5-of-another-kind", "q8_0-with-a-long-name");

/// Where a slot is when an operation is started: two leases, two waiters and one resident are the most it takes.
struct Setting {
    const char* name;
    void (*prepare)(NonAllocatingBench&);
};

inline void wait_for(NonAllocatingBench& bench, const ModelKey& key) {
    bench.slot().async_acquire(key, bench.handlers.count([](std::exception_ptr, const FrugalLease&) {}));
}
inline void unload(NonAllocatingBench& bench) {
    bench.slot().async_unload(a, bench.handlers.count([](std::exception_ptr) {}));
}
inline void shut_down(NonAllocatingBench& bench) {
    bench.slot().async_shutdown(bench.handlers.count([](std::exception_ptr, const ShutdownReport&) {}));
}
inline void hold(NonAllocatingBench& bench, const ModelKey& key) { bench.held.push_back(bench.lease(key)); }

inline const Setting nothing{"nothing resident", [](NonAllocatingBench&) {}};
inline const Setting ready{"ready", [](NonAllocatingBench& bench) { bench.lease(a).release(); }};
inline const Setting leased{"leased", [](NonAllocatingBench& bench) { hold(bench, a); }};

/// All of them.
inline const std::vector<Setting> settings{
    nothing,
    ready,
    leased,
    {"a queue",
     [](NonAllocatingBench& bench) {
         hold(bench, a);
         hold(bench, a);
         wait_for(bench, a);
     }},
    {"a full queue",
     [](NonAllocatingBench& bench) {
         hold(bench, a);
         hold(bench, a);
         wait_for(bench, a);
         wait_for(bench, b);
     }},
    {"loading", [](NonAllocatingBench& bench) { wait_for(bench, a); }},
    {"loading without waiters",
     [](NonAllocatingBench& bench) {
         Request<FrugalLease> left;
         bench.slot().async_acquire(a, left.token());
         left.cancel();
         bench.run_without_loading();
     }},
    {"loading another key", [](NonAllocatingBench& bench) { wait_for(bench, b); }},
    {"another key ready", [](NonAllocatingBench& bench) { bench.lease(b).release(); }},
    {"another key leased", [](NonAllocatingBench& bench) { hold(bench, b); }},
    {"draining for an unload",
     [](NonAllocatingBench& bench) {
         hold(bench, a);
         unload(bench);
     }},
    {"draining for a switch",
     [](NonAllocatingBench& bench) {
         hold(bench, a);
         wait_for(bench, b);
     }},
    {"unloading",
     [](NonAllocatingBench& bench) {
         bench.lease(a).release();
         unload(bench);
         bench.run_without_loading();
     }},
    {"cooling down",
     [](NonAllocatingBench& bench) {
         bench.world.in_load = [] { throw std::runtime_error("a file that is not there"); };
         wait_for(bench, a);
         bench.run();
         bench.world.in_load = {};
     }},
    {"shutting down",
     [](NonAllocatingBench& bench) {
         hold(bench, a);
         shut_down(bench);
     }},
    {"shut down",
     [](NonAllocatingBench& bench) {
         shut_down(bench);
         bench.run();
     }},
};

// -- The operations: `start(bench, token)` ----------------------------------------------------------------------------

inline std::vector<std::string> one_text() {
    const AmpleMemory mine;
    return {"text"};
}

struct Acquire {
    using Result = FrugalLease;
    static constexpr const char* name = "async_acquire";
    static void start(NonAllocatingBench& bench, auto token) { bench.slot().async_acquire(a, std::move(token)); }
};
struct AcquireInTime {
    using Result = FrugalLease;
    static constexpr const char* name = "async_acquire with a timeout";
    static constexpr std::chrono::milliseconds timeout = 1h;
    static void start(NonAllocatingBench& bench, auto token) {
        bench.slot().async_acquire(a, {.timeout = timeout}, std::move(token));
    }
};
struct EnsureLoaded {
    using Result = Generation;
    static constexpr const char* name = "async_ensure_loaded";
    static void start(NonAllocatingBench& bench, auto token) { bench.slot().async_ensure_loaded(a, std::move(token)); }
};
struct Embed {
    using Result = Embeddings;
    static constexpr const char* name = "async_embed";
    static void start(NonAllocatingBench& bench, auto token) {
        bench.models->async_embed(a, one_text(), std::move(token));
    }
};
struct EmbedInTime {
    using Result = Embeddings;
    static constexpr const char* name = "async_embed with a timeout";
    static constexpr std::chrono::milliseconds timeout = 1h;
    static void start(NonAllocatingBench& bench, auto token) {
        bench.models->async_embed(a, one_text(), {.timeout = timeout}, std::move(token));
    }
};
struct Rerank {
    using Result = Ranking;
    static constexpr const char* name = "async_rerank";
    static void start(NonAllocatingBench& bench, auto token) {
        bench.models->async_rerank(a, "query", one_text(), std::move(token));
    }
};
struct Unload {
    using Result = void;
    static constexpr const char* name = "async_unload of a key";
    static void start(NonAllocatingBench& bench, auto token) { bench.slot().async_unload(a, std::move(token)); }
};
struct Revoke {
    using Result = void;
    static constexpr const char* name = "async_unload that revokes";
    static void start(NonAllocatingBench& bench, auto token) {
        bench.slot().async_unload(a, UnloadMode::revoke, std::move(token));
    }
};
struct UnloadAll {
    using Result = void;
    static constexpr const char* name = "async_unload of everything";
    static void start(NonAllocatingBench& bench, auto token) { bench.slot().async_unload(std::move(token)); }
};
struct ShutSlot {
    using Result = ShutdownReport;
    static constexpr const char* name = "async_shutdown of a slot";
    static void start(NonAllocatingBench& bench, auto token) { bench.slot().async_shutdown(std::move(token)); }
};
struct ShutManager {
    using Result = ShutdownReport;
    static constexpr const char* name = "async_shutdown";
    static void start(NonAllocatingBench& bench, auto token) { bench.models->async_shutdown(std::move(token)); }
};
struct ShutManagerInTime {
    using Result = ShutdownReport;
    static constexpr const char* name = "async_shutdown with a deadline";
    static void start(NonAllocatingBench& bench, auto token) { bench.models->async_shutdown(1h, std::move(token)); }
};

// -- A start with an allocation that fails ----------------------------------------------------------------------------

/// What came of a start.
struct Trial {
    /// How many allocations failed in it.
    std::size_t failures = 0;
    /// Whether it threw bad_alloc.
    bool threw = false;
    /// Whether requests that waited were turned away.
    bool turned_away = false;
    /// Whether it threw after a lease had been granted, which was given back.
    bool gave_back = false;
    /// What the caller got: "success", the message of a code, or "bad_alloc".
    std::string answer{};
    /// What must not be; empty if all is well.
    std::string problem{};

    void expect(bool holds, const std::string& what) {
        if (!holds) {
            problem += what + "; ";
        }
    }
};

template <class Result>
std::string answer_of(const Request<Result>& request) {
    try {
        if (const std::exception_ptr error = request.exception()) {
            std::rethrow_exception(error);
        }
        return "success";
    } catch (const Error& error) {
        return error.code().message();
    } catch (const std::bad_alloc&) {
        return "bad_alloc";
    }
}

/// A status without its count of leases that were granted.
inline std::string without_grants(std::string status) {
    for (std::size_t begin = status.find("  leases "); begin != std::string::npos;
         begin = status.find("  leases ", begin)) {
        status.erase(begin, status.find('\n', begin) - begin);
    }
    return status;
}

/// The options of a slot whose settings these are: they need no timer.
inline const SlotOptions tight{.keep_alive = keep_alive_forever, .max_leases = 2, .max_queue = 2};

/// Starts `Operation` in `setting` with the `nth` allocation failing (none, with zero), goes on with all the memory
/// that is wanted, ends everything, and looks at what is left.
template <class Operation>
Trial try_start(const Setting& setting, std::size_t nth, FaultPattern scarcity, const SlotOptions& options = tight) {
    using Result = typename Operation::Result;
    Trial trial;
    NonAllocatingBench bench(options);
    setting.prepare(bench);
    const std::string before = bench.status();
    const std::size_t waiting = bench.slot().status().waiting;
    const std::size_t ran_before = bench.handlers.ran();
    Request<Result> request;
    {
        auto token = request.token();
        const AllocationFaults scarce(nth, scarcity);
        try {
            Operation::start(bench, std::move(token));
        } catch (const std::bad_alloc&) {
            trial.threw = true;
        }
        trial.failures = scarce.failures();
    }
    trial.turned_away = bench.slot().status().waiting < waiting;
    if (trial.threw) {
        // Nothing has begun: nothing completes, nothing can be cancelled, nothing is kept.
        const std::string after = bench.status();
        trial.gave_back = after != before && without_grants(after) == without_grants(before);
        trial.expect(after == before || trial.gave_back,
                     "threw, and the status changed from\n" + before + "to\n" + after);
        trial.expect(!request.held(), "threw, and kept the handler");
        request.cancel();
        trial.expect(bench.handlers.ran() == ran_before, "threw, and completed another request");
        Request<Result> again;
        Operation::start(bench, again.token());
        bench.held.clear();
        bench.run();
        trial.expect(request.calls() == 0, "threw, and called the handler");
        trial.expect(again.calls() == 1, "the second attempt did not complete");
        trial.answer = again.calls() == 1 ? answer_of(again) : "nothing";
    } else {
        trial.expect(request.calls() == 0, "completed inside the call");
        bench.held.clear();
        bench.run();
        trial.expect(request.calls() == 1, "did not complete once");
        trial.answer = request.calls() == 1 ? answer_of(request) : "nothing";
    }
    if constexpr (std::is_same_v<Result, FrugalLease>) {
        if (!trial.threw && trial.answer == "success") {
            request.value().release();
        }
    }
    bench.models->async_shutdown(bench.handlers.count([&](std::exception_ptr error, const ShutdownReport& report) {
        trial.expect(!error && report.clean(), "the shutdown at the end was not clean");
    }));
    bench.run();
    trial.expect(bench.handlers.ran() == bench.handlers.made(), "a handler was not called once");
    trial.expect(bench.world.live == 0, "a model is left");
    trial.expect(bench.at_rest(), "something is left to do");
    return trial;
}

/// Whether a request that had begun may complete with `answer` because there was no memory for a step of it.
inline bool says_lack_of_memory(const std::string& answer) {
    return answer == "bad_alloc" || answer == make_error_code(errc::load_failed).message() ||
           answer == make_error_code(errc::inference_failed).message() ||
           answer == make_error_code(errc::insufficient_memory).message();
}

/// The same, compared with what comes of it when no allocation fails, which was `answer`.
template <class Operation>
Trial try_start(const Setting& setting, std::size_t nth, FaultPattern scarcity, const std::string& answer,
                const SlotOptions& options = tight) {
    Trial trial = try_start<Operation>(setting, nth, scarcity, options);
    // Once it has begun, an operation may fail for want of memory, and a refusal may be without its words; nothing else
    // may be spared.
    const bool begun = !trial.threw && trial.failures != 0;
    trial.expect(trial.answer == answer || (begun && says_lack_of_memory(trial.answer)),
                 "the answer is `" + trial.answer + "` instead of `" + answer + "`");
    // Where there is no memory for the alarm's wait, the time is looked at in its stead.
    constexpr bool may_wait = requires { Operation::timeout; };
    trial.expect(!begun || trial.answer != "success" || trial.turned_away || may_wait, "did without memory");
    return trial;
}

}  // namespace residency::test::starving

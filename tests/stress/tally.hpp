#pragma once

#include "residency/error.hpp"
#include "residency/event.hpp"
#include "residency/status.hpp"
#include "stress/facts.hpp"
#include "stress/relaxed.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>

namespace residency::stress {

/// What else than requests is done, or happens.
enum class Deed : std::uint8_t {
    try_acquire_served,
    try_acquire_refused,
    looked,
    cancelled_terminal,
    cancelled_partial,
    cancelled_total,
    invalid_request,
    expected_generation,
    keep_alive_override,
    lease_parked,
    lease_ended_elsewhere,
    lease_outlived_manager,
    called_back,
    called_back_in_destructor,
    request_chained,
    stop_callback_ran,
    would_deadlock,
    handler_threw,
    erased_executor,
    context_ended_in_handler,
    pool_ended_after_handler,
    posts_checked,
    observed,
    observed_slowly,
    two_residents,
    owned_threads,
    one_pool,
    strand_and_pool,
    separate_contexts,
    ended_quiet,
    ended_idle,
    ended_busy,
    ended_on_own_thread,
    ended_as_shut_down,
    ended_after_shutdown,
    early_cancel,
    early_timeout,
    early_revoke,
    joint_call,
    joint_call_of_pairs,
    joined_call,
    left_joint_call,
    left_before_call,
    joint_call_stopped,
    busy_joint_call,
    rerun_in_part,
    rerun_together,
    rerun_halved,
    batches_counted,
    part,
    parts_at_once,
    part_failed,
    part_halved,
    parts_on_two_models,
    budget,
    trimmed,
    limit_lowered,
    limit_in_vain,
    seen_waiting,
    neighbour,
    neighbour_served,
    load_out_of_memory,
    overrun,
};
inline constexpr std::array deed_names{"try_acquire served",
                                       "try_acquire refused",
                                       "status",
                                       "terminal cancels",
                                       "partial cancels",
                                       "total cancels",
                                       "invalid requests",
                                       "expected_generation",
                                       "keep-alive overrides",
                                       "leases parked",
                                       "leases ended on other threads",
                                       "leases that outlived their manager",
                                       "calls back into the library",
                                       "calls back while the destructor runs",
                                       "requests started by the handler of another",
                                       "stop callbacks",
                                       "would_deadlock",
                                       "handlers that threw",
                                       "handlers on an erased executor",
                                       "contexts stopped by their only handler",
                                       "pools joined after their only handler",
                                       "handlers known to be posted before a clean shutdown's",
                                       "managers observed",
                                       "managers observed slowly",
                                       "two residents at once",
                                       "on owned threads",
                                       "on one thread_pool",
                                       "on a strand and a pool",
                                       "on contexts of their own",
                                       "ended quiet",
                                       "ended with everything unloaded as idle",
                                       "ended with work in flight",
                                       "ended on one of their own threads",
                                       "ended by who waited for their shutdown",
                                       "ended after a blocking shutdown",
                                       "calls cancelled while they had their lease",
                                       "calls timed out while they had their lease",
                                       "calls revoked while they had their lease",
                                       "joint calls of embedders",
                                       "joint calls of rerankers",
                                       "requests in joint calls",
                                       "requests that completed while their joint call ran",
                                       "requests that completed before their call began",
                                       "joint calls asked to stop",
                                       "requests whose joint call failed and was not repeated",
                                       "requests called again without half of the others",
                                       "requests called again without the one at fault",
                                       "requests called again in halves",
                                       "slots whose batches and texts were counted",
                                       "parts of requests",
                                       "parts of one request at once",
                                       "parts that failed",
                                       "parts called again in halves",
                                       "requests with parts on two models",
                                       "managers with a memory budget",
                                       "budgets trimmed",
                                       "limits lowered and kept",
                                       "limits raised again before they were",
                                       "keys seen to wait for memory",
                                       "other managers of the budget",
                                       "requests that those served",
                                       "loads out of memory",
                                       "models that held more than they were to need"};

/// What was done, and what came of it. A run in which something of it never happened has not looked at everything.
struct Tally {
    std::array<std::array<Relaxed<std::uint64_t>, ways>, kinds> requests{};
    /// By errc; 0 is success, the last one operation_aborted.
    std::array<Relaxed<std::uint64_t>, 14> outcomes{};
    std::array<Relaxed<std::uint64_t>, deed_names.size()> deeds{};
    std::array<Relaxed<std::uint64_t>, 13> unloads{};
    Relaxed<std::uint64_t> loads{0};
    Relaxed<std::uint64_t> loads_failed{0};
    Relaxed<std::uint64_t> loads_aborted{0};
    Relaxed<std::size_t> most_leases{0};
    Relaxed<std::size_t> most_waiting{0};
    std::uint64_t managers = 0;

    void did(Deed deed) noexcept { deeds[static_cast<std::size_t>(deed)].count(); }

    /// A slot as it was just before its manager's end.
    void add(const SlotStatus& status) noexcept {
        for (std::size_t reason = 0; reason < unloads.size(); ++reason) {
            unloads[reason].add(status.counters.unloads[reason]);
        }
        loads.add(status.counters.loads);
        loads_failed.add(status.counters.load_failures);
        loads_aborted.add(status.counters.loads_aborted);
        most_leases.raise(status.counters.most_leases);
        most_waiting.raise(status.counters.most_waiting);
    }

    /// Prints all of it, if there is somewhere to; gives what never happened.
    [[nodiscard]] std::string print(std::FILE* out) const {
        std::string missing;
        const auto line = [&](const char* title) {
            if (out != nullptr) {
                std::fprintf(out, "%s\n", title);
            }
        };
        const auto figure = [&](const std::string& name, std::uint64_t count) {
            if (out != nullptr) {
                std::fprintf(out, "  %s %llu\n", name.c_str(), static_cast<unsigned long long>(count));
            }
            if (count == 0) {
                missing += (missing.empty() ? "" : ", ") + name;
            }
        };
        constexpr std::array kind_names{"embed", "rerank", "acquire", "ensure_loaded", "unload", "shutdown"};
        constexpr std::array way_names{"handler", "coroutine", "future", "blocking"};
        line("requests");
        for (std::size_t kind = 0; kind < kinds; ++kind) {
            for (std::size_t way = 0; way < ways; ++way) {
                figure(std::string(kind_names[kind]) + " " + way_names[way], requests[kind][way].get());
            }
        }
        line("outcomes");
        for (std::size_t code = 0; code < outcomes.size(); ++code) {
            if (code != static_cast<std::size_t>(
                            errc::would_deadlock)) {  // Among the deeds: only calls back into the library meet it.
                figure(code == 0                     ? "success"
                       : code + 1 == outcomes.size() ? "operation_aborted"
                                                     : std::string(to_string(static_cast<errc>(code))),
                       outcomes[code].get());
            }
        }
        line("models");
        figure("loads", loads.get());
        figure("loads failed", loads_failed.get());
        figure("loads aborted", loads_aborted.get());
        for (const Reason reason :
             {Reason::idle, Reason::switched, Reason::unload, Reason::revoked, Reason::shutdown, Reason::memory}) {
            figure("unloads, " + std::string(to_string(reason)), unloads[static_cast<std::size_t>(reason)].get());
        }
        figure("most leases at once", most_leases.get());
        figure("most waiting at once", most_waiting.get());
        line("and");
        for (std::size_t deed = 0; deed < deeds.size(); ++deed) {
            figure(deed_names[deed], deeds[deed].get());
        }
        return missing;
    }

    [[nodiscard]] std::uint64_t all_requests() const noexcept {
        std::uint64_t sum = 0;
        for (const auto& of_kind : requests) {
            for (const auto& count : of_kind) {
                sum += count.get();
            }
        }
        return sum;
    }
};

}  // namespace residency::stress

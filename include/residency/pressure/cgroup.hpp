#pragma once

// Watches the memory of this process's control group, a container's for one, and lowers a memory budget while it is
// short. Linux only: elsewhere this header is empty.

#include "residency/pressure/cgroup_memory.hpp"
#include "residency/pressure/pressure_control.hpp"
#include "residency/runtime/asio.hpp"
#include "residency/runtime/cgroup.hpp"
#include "residency/runtime/mutex.hpp"

#if defined(__linux__)

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace residency {

/// How a `CgroupPressure` watches.
struct CgroupPressureOptions {
    /// How long after one look the next one comes. From 1 ms to 24 hours.
    /// Default 1 s: a load takes about as long, and a look reads some ten small files.
    std::chrono::milliseconds interval{std::chrono::seconds{1}};

    /// From which part of the group's limit on memory is short: idle residents go, and the budget may not grow. More
    /// than `give_back_below`, at most 1.
    /// Default 0.9: below that the kernel has room for the pages of files that it needs.
    double trim_above = 0.9;

    /// Below which part of the group's limit the budget gets its own limit back. More than 0.
    /// Default 0.75: far enough below the other that one model does not go back and forth.
    double give_back_below = 0.75;

    /// The budget's limit is not lowered further than to this many bytes, so that models up to this size can still be
    /// loaded while memory is short. Default 0: no model is loaded then.
    std::size_t least_limit = 0;

    /// What stands before the path of each file. Default empty; a folder of plain files in tests.
    std::string root{};
};

/// What a `CgroupPressure` has seen and done.
struct CgroupPressureStatus {
    /// How many bytes the group uses, as of the latest look: without the pages of files that were not used lately. Of
    /// the group and its ancestors the fullest counts. None if no limit is known.
    std::optional<std::uint64_t> used{};
    /// How many bytes it may use: the lesser of `memory.high` and `memory.max`, or version 1's `memory.limit_in_bytes`.
    std::optional<std::uint64_t> limit{};
    /// Whether the budget's limit is lower than the host has set it.
    bool lowered = false;
    /// How often it has looked.
    std::uint64_t looks = 0;
    /// At how many of these looks memory was short.
    std::uint64_t short_looks = 0;
    /// What went wrong at the latest look: a file that cannot be read, or what the budget threw. Empty if nothing did.
    std::string flaw{};
    /// Whether no look will come any more, as there was no memory to start a wait.
    bool ended = false;
};

/// What can be lowered: a memory budget.
///
/// `trim(bytes)` has idle residents unloaded until so many bytes have come back, or none is idle. A resident in use is
/// not touched by it, nor by `set_limit`. `MemoryBudget` is one.
template <class Budget>
concept TrimmableBudget = requires(Budget& budget, std::size_t bytes) {
    { budget.limit() } -> std::convertible_to<std::size_t>;
    { budget.used() } -> std::convertible_to<std::size_t>;
    budget.set_limit(bytes);
    budget.trim(bytes);
};

/// Lowers a budget while the memory of this process's control group is short, and gives it back afterwards.
///
/// Each `interval` it reads what the group uses and may use. From `trim_above` on the budget's limit becomes what it
/// uses, and idle residents are evicted until what is used would be at `give_back_below`; what is in use stays. Below
/// `give_back_below` the limit comes back, as far as there is room below that mark; between the marks nothing changes.
/// A limit that the host sets meanwhile is the one that comes back; if both set it at the same moment, the later wins.
/// A second watch would be taken for the host: a budget has one, however many managers share it.
///
/// What the group uses is the kernel's figure less `inactive_file`: pages of files that were not used lately, which the
/// kernel drops before it ends a process. That is the working set that Kubernetes evicts by. The pages of a mapped
/// model count as soon as calls have used them twice.
///
///     residency::CgroupPressure pressure(context.get_executor(), budget);
///
/// The timer waits on the executor's context, which must outlive this and runs meanwhile; like every timer it keeps
/// `run()` from returning. The destructor cancels the wait, waits for a look that another thread is at, and gives the
/// budget its limit back; nothing of this runs afterwards but a handler that does nothing. It must not run inside a
/// call of the budget.
template <TrimmableBudget Budget, class Clock = std::chrono::steady_clock>
class CgroupPressure {
public:
    /// Starts watching for `budget`; the first look is the context's next work. Throws std::invalid_argument, naming
    /// the field, if an option is not what its doc demands, or `budget` is null; bad_alloc.
    CgroupPressure(const asio::any_io_executor& executor, std::shared_ptr<Budget> budget,
                   CgroupPressureOptions options = {})
        : watch_(std::make_shared<Watch>(executor, checked(std::move(budget)), checked(std::move(options)))) {
        watch_->start();
    }
    ~CgroupPressure() { watch_->end(); }
    CgroupPressure(const CgroupPressure&) = delete;
    CgroupPressure& operator=(const CgroupPressure&) = delete;

    /// What it has seen and done. From any thread.
    [[nodiscard]] CgroupPressureStatus status() const { return watch_->status(); }

private:
    // Owned by the pending wait, too.
    class Watch : public std::enable_shared_from_this<Watch> {
    public:
        Watch(const asio::any_io_executor& executor, std::shared_ptr<Budget> budget, CgroupPressureOptions options)
            : budget_(std::move(budget)),
              options_(std::move(options)),
              control_(options_.give_back_below, options_.trim_above, options_.least_limit),
              timer_(executor) {}

        void start() RESIDENCY_EXCLUDES(looking_) {
            const runtime::MutexLock lock(looking_);
            wait(std::chrono::milliseconds(0));
        }

        void end() noexcept RESIDENCY_EXCLUDES(looking_) {
            const runtime::MutexLock lock(looking_);
            ended_ = true;
            try {
                timer_.cancel();
                if (const auto limit = control_.to_give_back(budget_->limit())) {
                    budget_->set_limit(*limit);
                }
            } catch (...) {  // NOLINT(bugprone-empty-catch): a destructor cannot say that there was no memory.
            }
        }

        [[nodiscard]] CgroupPressureStatus status() const RESIDENCY_EXCLUDES(reporting_) {
            const runtime::MutexLock lock(reporting_);
            return status_;
        }

    private:
        void wait(std::chrono::milliseconds delay) RESIDENCY_REQUIRES(looking_) {
            timer_.expires_after(delay);
            timer_.async_wait(
                [self = this->shared_from_this()](const boost::system::error_code&) { self->on_timer(); });
        }

        void on_timer() noexcept RESIDENCY_EXCLUDES(looking_) {
            const runtime::MutexLock lock(looking_);
            if (ended_) {
                return;
            }
            CgroupPressureStatus seen;
            try {
                look(seen);
            } catch (const std::exception& error) {
                note(seen.flaw, error.what());
            } catch (...) {
                note(seen.flaw, "the budget threw something that is no std::exception");
            }
            try {
                wait(options_.interval);
            } catch (...) {
                seen.ended = true;
            }
            report(std::move(seen));
        }

        void look(CgroupPressureStatus& seen) RESIDENCY_REQUIRES(looking_) {
            detail::CgroupReading reading = read();
            seen.flaw = std::move(reading.flaw);
            if (reading.memory) {
                seen.used = reading.memory->used;
                seen.limit = reading.memory->limit;
            } else if (!seen.flaw.empty()) {
                seen.lowered = control_.lowered();
                return;
            }
            // A group without a limit has all the room that there may be.
            const detail::PressureStep step =
                control_.decide(seen.used.value_or(0), seen.limit.value_or((std::numeric_limits<std::uint64_t>::max)()),
                                budget_->used(), budget_->limit());
            seen.lowered = control_.lowered();
            seen.short_looks = step.is_short ? 1 : 0;
            if (step.limit) {
                budget_->set_limit(*step.limit);
            }
            if (step.trim != 0) {
                budget_->trim(step.trim);
            }
        }

        // The process may have been moved to another group: where no file is found, the group is looked for again.
        detail::CgroupReading read() RESIDENCY_REQUIRES(looking_) {
            detail::CgroupReading reading = read_folders();
            if (!reading.flaw.empty()) {
                folders_ = runtime::cgroup_folders(options_.root, "memory");
                reading = read_folders();
            }
            return reading;
        }
        [[nodiscard]] detail::CgroupReading read_folders() const RESIDENCY_REQUIRES(looking_) {
            detail::CgroupMemoryReader reader;
            for (const runtime::CgroupFolder& folder : folders_) {
                reader.read(folder);
            }
            return std::move(reader).reading();
        }

        static void note(std::string& flaw, const char* text) noexcept {
            try {
                flaw = text;
            } catch (...) {  // NOLINT(bugprone-empty-catch): then there is no memory for the reason either.
            }
        }

        void report(CgroupPressureStatus&& seen) noexcept RESIDENCY_EXCLUDES(reporting_) {
            const runtime::MutexLock lock(reporting_);
            seen.looks = status_.looks + 1;
            seen.short_looks += status_.short_looks;
            status_ = std::move(seen);
        }

        const std::shared_ptr<Budget> budget_;
        const CgroupPressureOptions options_;
        // Held during a look and while it ends. The budget is called under it, and so must not need it.
        runtime::Mutex looking_{};
        bool ended_ RESIDENCY_GUARDED_BY(looking_) = false;
        detail::PressureControl control_ RESIDENCY_GUARDED_BY(looking_);
        std::vector<runtime::CgroupFolder> folders_ RESIDENCY_GUARDED_BY(looking_){};
        asio::basic_waitable_timer<Clock> timer_ RESIDENCY_GUARDED_BY(looking_);

        mutable runtime::Mutex reporting_{};
        CgroupPressureStatus status_ RESIDENCY_GUARDED_BY(reporting_){};
    };

    static std::shared_ptr<Budget> checked(std::shared_ptr<Budget> budget) {
        if (!budget) {
            throw std::invalid_argument("residency: CgroupPressure needs a budget");
        }
        return budget;
    }
    static CgroupPressureOptions checked(CgroupPressureOptions options) {
        const auto demand = [](bool holds, const char* rule) {
            if (!holds) {
                throw std::invalid_argument("residency: option CgroupPressureOptions." + std::string(rule));
            }
        };
        demand(options.interval >= std::chrono::milliseconds(1) && options.interval <= std::chrono::hours(24),
               "interval must be between 1 ms and 24 hours");
        demand(options.give_back_below > 0, "give_back_below must be more than 0");
        demand(options.trim_above > options.give_back_below, "trim_above must be more than give_back_below");
        demand(options.trim_above <= 1, "trim_above must be at most 1");
        return options;
    }

    std::shared_ptr<Watch> watch_;
};

}  // namespace residency

#endif

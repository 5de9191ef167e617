#pragma once

#include "residency/error.hpp"
#include "residency/runtime/mutex.hpp"
#include "residency/std_deque.hpp"
#include "residency/testing/fake_call.hpp"
#include "residency/testing/fake_counts.hpp"
#include "residency/testing/gate.hpp"

#include <algorithm>
#include <array>
#include <concepts>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace residency::testing {

class FakeModel;
class FakeAsyncModel;
template <std::derived_from<FakeModel> Model>
class FakeBackend;

/// Where fake models live: says what the fakes of a test shall do, and counts what they have done.
///
/// Backends and models share it, and it may be asked after all of them are gone. Two backends may share one; keys that
/// both use are then counted together. A call of a fake does, in this order: counts itself, calls the hook, waits at
/// the gate, throws the next failure, answers with the next fault or rightly. All functions may be called from any
/// thread.
class FakeWorld {
public:
    /// Called in each call of a fake, on its thread. It may throw, which fails the call, except in a destructor; it may
    /// move the virtual clock on, which makes the call slow; it may call the library.
    using Hook = std::function<void(const FakeCall&)>;

    FakeWorld() = default;
    FakeWorld(const FakeWorld&) = delete;
    FakeWorld& operator=(const FakeWorld&) = delete;

    // -- What the fakes shall do

    /// Calls `hook` in each call for `step`, in place of the hook before it. An empty one calls nothing.
    void on(FakeStep step, Hook hook) {
        auto shared = std::make_shared<const Hook>(std::move(hook));
        const runtime::MutexLock lock(mutex_);
        hooks_.at(index_of(step)).swap(shared);
    }

    /// Lets the next `times` calls for `step` of `key` throw `failure`, after those that are to throw already: an
    /// exception of any type, a copy for each call, or an exception_ptr. Throws std::invalid_argument for `unload`: a
    /// destructor must not throw.
    template <class Failure>
    void fail_next(FakeStep step, const ModelKey& key, Failure failure, std::size_t times = 1) {
        if (step == FakeStep::unload) {
            throw std::invalid_argument("residency: a fake model's destructor must not throw");
        }
        const std::function<void()> fail = [failure = std::move(failure)] {
            if constexpr (std::same_as<Failure, std::exception_ptr>) {
                std::rethrow_exception(failure);
            } else {
                throw failure;
            }
        };
        const runtime::MutexLock lock(mutex_);
        auto& failures = rules_.at(index_of(step))[key].failures;
        failures.insert(failures.end(), times, fail);
    }

    /// Lets the next `times` calls of `key` answer wrongly: loads with `null_model`, inferences with the others.
    void spoil_next(FakeFault fault, const ModelKey& key, std::size_t times = 1) {
        const FakeStep step = fault == FakeFault::null_model ? FakeStep::load : FakeStep::inference;
        const runtime::MutexLock lock(mutex_);
        auto& faults = rules_.at(index_of(step))[key].faults;
        faults.insert(faults.end(), times, fault);
    }

    /// Holds back each call for `step` of `key` that begins from now on, until the gate that this gives is opened. A
    /// second call of this function puts a second gate in the place of the first.
    std::shared_ptr<Gate> block(FakeStep step, const ModelKey& key, FakeStop stop = FakeStop::ignore) {
        auto gate = std::make_shared<Gate>();
        const runtime::MutexLock lock(mutex_);
        Rule& rule = rules_.at(index_of(step))[key];
        rule.gate = gate;
        rule.stop = stop;
        return gate;
    }

    /// Lets the models of `key` that are loaded from now on take `calls` inferences at once. As many as there are, if
    /// this was never called.
    void set_max_concurrency(const ModelKey& key, std::size_t calls) {
        const runtime::MutexLock lock(mutex_);
        concurrency_[key] = calls;
    }

    /// Lets the models of `key` that are loaded from now on say that one call does best with this much. Their calls are
    /// not shared if this was never called.
    void set_batch_limits(const ModelKey& key, const BatchLimits& limits) {
        const runtime::MutexLock lock(mutex_);
        batch_limits_[key] = limits;
    }

    // -- What they have done

    /// What has happened to all keys together.
    [[nodiscard]] FakeCounts counts() const {
        const runtime::MutexLock lock(mutex_);
        return total_;
    }

    /// What has happened to `key`.
    [[nodiscard]] FakeCounts counts(const ModelKey& key) const {
        const runtime::MutexLock lock(mutex_);
        return counts_[key];
    }

    /// The models that live, and the latest 4,096 at least of those that are gone, in the order of their loads.
    [[nodiscard]] std::vector<FakeModelRecord> models() const {
        const runtime::MutexLock lock(mutex_);
        std::vector<FakeModelRecord> all;
        all.reserve(models_.size());
        for (const auto& [serial, record] : models_) {
            all.push_back(record);
        }
        return all;
    }

    /// The model with this number. Throws std::out_of_range if there is none, or it is long gone.
    [[nodiscard]] FakeModelRecord model(std::uint64_t serial) const {
        const runtime::MutexLock lock(mutex_);
        return models_.at(serial);
    }

    /// What the library did and never may, a sentence each: destroyed a model during a call, or gave one more calls
    /// at once than it takes. A test ends with `CHECK(world->violations().empty())`.
    [[nodiscard]] std::vector<std::string> violations() const {
        const runtime::MutexLock lock(mutex_);
        return violations_;
    }

    /// Waits until `holds(counts())`, for what happens on other threads. `holds` must not call this world.
    template <std::predicate<const FakeCounts&> Holds>
    void await(Holds holds) const {
        const runtime::MutexLock lock(mutex_);
        while (!holds(std::as_const(total_))) {
            changed_.wait(mutex_);
        }
    }

    /// Waits until `holds(counts(key))`, for what happens on other threads. `holds` must not call this world.
    template <std::predicate<const FakeCounts&> Holds>
    void await(const ModelKey& key, Holds holds) const {
        const runtime::MutexLock lock(mutex_);
        while (!holds(std::as_const(counts_[key]))) {
            changed_.wait(mutex_);
        }
    }

private:
    friend class FakeModel;
    friend class FakeAsyncModel;
    template <std::derived_from<FakeModel> Model>
    friend class FakeBackend;

    struct Rule {
        std::shared_ptr<Gate> gate{};
        FakeStop stop = FakeStop::ignore;
        std::deque<std::function<void()>> failures{};
        std::deque<FakeFault> faults{};
    };

    static constexpr std::size_t index_of(FakeStep step) noexcept { return static_cast<std::size_t>(step); }

    // Does what the test wants of this call; gives the fault to answer with. Allocates nothing unless the test said
    // something: it is called in destructors, too, and also in tests that let allocations fail.
    std::optional<FakeFault> perform(const FakeCall& call) {
        call_hook(call);
        if (const Wait wait = gate_of(call);
            wait.gate && !wait.gate->pass(wait.stop == FakeStop::honour ? call.stop : std::stop_token{})) {
            stopped(call);
        }
        return answer(call);
    }

    void call_hook(const FakeCall& call) {
        std::shared_ptr<const Hook> hook;
        {
            const runtime::MutexLock lock(mutex_);
            hook = hooks_.at(index_of(call.step));
        }
        if (hook && *hook) {
            (*hook)(call);
        }
    }

    // Where a call is to wait, if anywhere.
    struct Wait {
        std::shared_ptr<Gate> gate{};
        FakeStop stop = FakeStop::ignore;
    };
    Wait gate_of(const FakeCall& call) {
        const runtime::MutexLock lock(mutex_);
        const Rule* const rule = rule_of(call);
        return rule == nullptr ? Wait() : Wait{rule->gate, rule->stop};
    }

    [[noreturn]] static void stopped(const FakeCall& call) {
        throw Error(operation_aborted(), call.key, call.step == FakeStep::load ? Stage::load : Stage::inference,
                    "the fake was asked to stop");
    }

    // Throws if the call is to fail, or gives the fault to answer with.
    std::optional<FakeFault> answer(const FakeCall& call) {
        std::optional<std::function<void()>> fail;
        std::optional<FakeFault> fault;
        {
            const runtime::MutexLock lock(mutex_);
            if (Rule* rule = rule_of(call)) {
                fail = take_next(rule->failures);
                fault = fail ? std::optional<FakeFault>() : take_next(rule->faults);
            }
        }
        if (fail) {
            (*fail)();
        }
        return fault;
    }

    Rule* rule_of(const FakeCall& call) RESIDENCY_REQUIRES(mutex_) {
        auto& rules = rules_.at(index_of(call.step));
        const auto found = rules.find(call.key);
        return found == rules.end() ? nullptr : &found->second;
    }

    template <class T>
    static std::optional<T> take_next(std::deque<T>& queue) {
        if (queue.empty()) {
            return {};
        }
        std::optional<T> next(std::move(queue.front()));
        queue.pop_front();
        return next;
    }

    // Applies `change` to the figures of `key` and of all.
    template <class Change>
    void count(const ModelKey& key, Change change) RESIDENCY_REQUIRES(mutex_) {
        for (FakeCounts* counts : {&counts_[key], &total_}) {
            change(*counts);
            counts->most_loading = (std::max)(counts->most_loading, counts->loading);
            counts->most_resident = (std::max)(counts->most_resident, counts->loading + counts->live);
            counts->most_calling = (std::max)(counts->most_calling, counts->calling);
        }
        changed_.notify_all();
    }

    std::uint64_t begin_load(const ModelKey& key) {
        const runtime::MutexLock lock(mutex_);
        count(key, [](FakeCounts& counts) { ++counts.loads, ++counts.loading; });
        return ++serials_;
    }

    void fail_load(const ModelKey& key, std::uint64_t serial) {
        const runtime::MutexLock lock(mutex_);
        // A model that was made and then given up again, by the constructor of a derived one, has ended its load
        // already.
        const std::size_t running = models_.contains(serial) ? 0 : 1;
        count(key, [running](FakeCounts& counts) { ++counts.failed_loads, counts.loading -= running; });
    }

    // Ends the load: from here on the model lives. Gives its max_concurrency.
    std::size_t begin_life(const ModelKey& key, std::uint64_t serial) {
        const runtime::MutexLock lock(mutex_);
        const auto found = concurrency_.find(key);
        const std::size_t most = found == concurrency_.end() ? static_cast<std::size_t>(-1) : found->second;
        models_.emplace(
            serial,
            FakeModelRecord{
                .serial = serial, .key = key, .max_concurrency = most, .loaded_on = std::this_thread::get_id()});
        count(key, [](FakeCounts& counts) { --counts.loading, ++counts.live; });
        return most;
    }

    [[nodiscard]] BatchLimits batch_limits(const ModelKey& key) const {
        const runtime::MutexLock lock(mutex_);
        const auto found = batch_limits_.find(key);
        return found == batch_limits_.end() ? BatchLimits() : found->second;
    }

    void begin_unload(std::uint64_t serial) {
        const runtime::MutexLock lock(mutex_);
        const FakeModelRecord& record = models_.at(serial);
        if (record.calling != 0) {
            violate(record, "was destroyed while it was called");
        }
    }

    void end_life(const ModelKey& key, std::uint64_t serial) {
        const runtime::MutexLock lock(mutex_);
        models_.at(serial).unloaded_on = std::this_thread::get_id();
        ++gone_;
        count(key, [](FakeCounts& counts) { --counts.live, ++counts.unloads; });
        // Records of models long gone are dropped, so that a long run does not fill the memory with them.
        for (auto oldest = models_.begin(); gone_ > 2 * records_kept && oldest != models_.end();) {
            const bool gone = oldest->second.unloaded_on.has_value();
            gone_ -= gone ? 1 : 0;
            oldest = gone ? models_.erase(oldest) : std::next(oldest);
        }
    }

    void begin_call(const ModelKey& key, std::uint64_t serial) {
        const runtime::MutexLock lock(mutex_);
        count(key, [](FakeCounts& counts) { ++counts.calls, ++counts.calling; });
        FakeModelRecord& record = models_.at(serial);
        ++record.calls;
        record.most_calling = (std::max)(record.most_calling, ++record.calling);
        if (record.calling > record.max_concurrency) {
            violate(record, "was called more often at once than it takes");
        }
    }

    void end_call(const ModelKey& key, std::uint64_t serial) {
        const runtime::MutexLock lock(mutex_);
        count(key, [](FakeCounts& counts) { --counts.calling; });
        // A model destroyed under its call, a fault of the library's, may even have been forgotten.
        const auto found = models_.find(serial);
        if (found != models_.end()) {
            --found->second.calling;
        }
    }

    void violate(const FakeModelRecord& record, const char* what) RESIDENCY_REQUIRES(mutex_) {
        violations_.push_back("model " + std::to_string(record.serial) + ", " + to_string(record.key) + ", " + what);
    }

    static constexpr std::size_t records_kept = 4096;

    mutable runtime::Mutex mutex_{};
    mutable std::condition_variable_any changed_{};
    std::array<std::shared_ptr<const Hook>, 3> hooks_ RESIDENCY_GUARDED_BY(mutex_){};
    std::array<std::map<ModelKey, Rule>, 3> rules_ RESIDENCY_GUARDED_BY(mutex_){};
    std::map<ModelKey, std::size_t> concurrency_ RESIDENCY_GUARDED_BY(mutex_){};
    std::map<ModelKey, BatchLimits> batch_limits_ RESIDENCY_GUARDED_BY(mutex_){};
    // Asking for a key that nothing happened to yet makes its entry.
    mutable std::map<ModelKey, FakeCounts> counts_ RESIDENCY_GUARDED_BY(mutex_){};
    FakeCounts total_ RESIDENCY_GUARDED_BY(mutex_){};
    std::map<std::uint64_t, FakeModelRecord> models_ RESIDENCY_GUARDED_BY(mutex_){};
    std::size_t gone_ RESIDENCY_GUARDED_BY(mutex_) = 0;
    std::vector<std::string> violations_ RESIDENCY_GUARDED_BY(mutex_){};
    std::uint64_t serials_ RESIDENCY_GUARDED_BY(mutex_) = 0;
};

}  // namespace residency::testing

#pragma once

#include "residency/batch_limits.hpp"
#include "residency/error.hpp"
#include "residency/error_code.hpp"
#include "residency/model_key.hpp"
#include "residency/runtime/mutex.hpp"
#include "residency/std_deque.hpp"
#include "residency/testing/fake_call.hpp"
#include "residency/testing/gate.hpp"

#include <array>
#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <utility>

namespace residency::testing {

class FakeWorld;
class FakeModel;
class FakeAsyncModel;
template <std::derived_from<FakeModel> Model>
class FakeBackend;

/// What the fakes of a test shall do. A call does, in this order: calls the hook, waits at the gate, throws the next
/// failure, answers with the next fault or rightly. All functions may be called from any thread.
class FakeScript {
public:
    /// Called in each call of a fake, on its thread. It may throw, which fails the call, except in a destructor; it may
    /// move the virtual clock on, which makes the call slow; it may call the library.
    using Hook = std::function<void(const FakeCall&)>;

    FakeScript() = default;
    FakeScript(const FakeScript&) = delete;
    FakeScript& operator=(const FakeScript&) = delete;

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

protected:
    // Destroyed as part of a FakeWorld alone.
    ~FakeScript() = default;

private:
    friend class FakeWorld;
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

    // What `perform` does, one after the other, for a model that waits otherwise.
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

    // How many inferences a model of the key takes at once.
    [[nodiscard]] std::size_t max_concurrency(const ModelKey& key) const {
        const runtime::MutexLock lock(mutex_);
        const auto found = concurrency_.find(key);
        return found == concurrency_.end() ? static_cast<std::size_t>(-1) : found->second;
    }

    [[nodiscard]] BatchLimits batch_limits(const ModelKey& key) const {
        const runtime::MutexLock lock(mutex_);
        const auto found = batch_limits_.find(key);
        return found == batch_limits_.end() ? BatchLimits() : found->second;
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

    mutable runtime::Mutex mutex_{};
    std::array<std::shared_ptr<const Hook>, 3> hooks_ RESIDENCY_GUARDED_BY(mutex_){};
    std::array<std::map<ModelKey, Rule>, 3> rules_ RESIDENCY_GUARDED_BY(mutex_){};
    std::map<ModelKey, std::size_t> concurrency_ RESIDENCY_GUARDED_BY(mutex_){};
    std::map<ModelKey, BatchLimits> batch_limits_ RESIDENCY_GUARDED_BY(mutex_){};
};

}  // namespace residency::testing

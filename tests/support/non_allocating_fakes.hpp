#pragma once

// Models and a manager that need no memory of a test's own while allocations fail: what fails then is the library's or
// Boost.Asio's. Which allocations those are is said by what the program includes, see allocation_faults.hpp.

#include "residency/model_manager.hpp"
#include "residency/testing/outcome.hpp"
#include "residency/testing/virtual_clock.hpp"

#include "support/allocation_faults.hpp"
#include "support/catch.hpp"
#include "support/contexts.hpp"
#include "support/handler_tally.hpp"
#include "support/request.hpp"

#include <boost/asio/io_context.hpp>

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace residency::test {

using testing::Outcome;

/// What frugal models do, and how many of them there are. All of it but `live` is for one thread.
struct NonAllocatingWorld {
    std::atomic<int> live{0};
    /// Called in each load, in each call of a model, and in each destructor of one. They may throw, the last excepted.
    std::function<void()> in_load{};
    std::function<void()> in_call{};
    std::function<void()> in_unload{};
    /// Called where the backend is asked how much a model needs, which only a memory budget does. May throw.
    std::function<void()> in_sizing{};
    /// How many bytes a model needs, and how many it holds then; zero: it does not say.
    std::size_t memory_needed = 60;
    std::size_t memory_used = 0;
    /// How many rows or scores too many a model answers.
    std::size_t too_many = 0;
    /// How much one call of a model does best with.
    BatchLimits batch_limits{};
    /// Whether each row or score is the size of its text; if not, zero.
    bool answers_sizes = false;

    static void visit(const std::function<void()>& hook) {
        if (hook) {
            hook();
        }
    }
};

class NonAllocatingModel {
public:
    explicit NonAllocatingModel(NonAllocatingWorld& world) : world_(&world) { ++world_->live; }
    NonAllocatingModel(const NonAllocatingModel&) = delete;
    NonAllocatingModel& operator=(const NonAllocatingModel&) = delete;
    ~NonAllocatingModel() {
        NonAllocatingWorld::visit(world_->in_unload);
        --world_->live;
    }
    Embeddings embed(std::span<const std::string> texts) {
        NonAllocatingWorld::visit(world_->in_call);
        const AmpleMemory mine;
        Embeddings rows(texts.size() + world_->too_many, 1);
        for (std::size_t row = 0; world_->answers_sizes && row < texts.size(); ++row) {
            rows[row][0] = static_cast<float>(texts[row].size());
        }
        return rows;
    }
    [[nodiscard]] BatchLimits batch_limits() const noexcept { return world_->batch_limits; }
    [[nodiscard]] std::size_t memory_used() const noexcept { return world_->memory_used; }
    std::vector<float> rerank(std::string_view /*query*/, std::span<const std::string> documents) {
        return score(documents.size(), [&](std::size_t row) { return documents[row].size(); });
    }
    std::vector<float> rerank(std::span<const RerankPair> pairs) {
        return score(pairs.size(), [&](std::size_t row) { return pairs[row].document.size(); });
    }

private:
    template <class SizeOf>
    std::vector<float> score(std::size_t documents, const SizeOf& size_of) {
        NonAllocatingWorld::visit(world_->in_call);
        const AmpleMemory mine;
        std::vector<float> scores(documents + world_->too_many);
        for (std::size_t row = 0; world_->answers_sizes && row < documents; ++row) {
            scores[row] = static_cast<float>(size_of(row));
        }
        return scores;
    }

    NonAllocatingWorld* world_;
};

struct NonAllocatingBackend {
    using model_type = NonAllocatingModel;
    NonAllocatingWorld* world;

    std::unique_ptr<NonAllocatingModel> load(const ModelKey& /*key*/) {
        NonAllocatingWorld::visit(world->in_load);
        const AmpleMemory mine;
        return std::make_unique<NonAllocatingModel>(*world);
    }
    [[nodiscard]] std::size_t memory_needed(const ModelKey& /*key*/) const {
        NonAllocatingWorld::visit(world->in_sizing);
        return world->memory_needed;
    }
};

/// A lease on one.
using FrugalLease = Lease<NonAllocatingModel>;

/// Is destroyed after the contexts, in which models may be left.
struct NonAllocatingScene {
    NonAllocatingWorld world{};
};

/// A manager of the models of `Backend`, which are frugal, on the virtual clock, with executors that the test polls.
/// Both slots have the same options, which by default need no timer.
template <class Backend>
struct NonAllocatingBenchOf : NonAllocatingScene, Contexts {
    using Manager = ModelManager<Backend, Backend, VirtualClock>;
    using LeaseType = Lease<typename Backend::model_type>;

    explicit NonAllocatingBenchOf(const SlotOptions& options = {.keep_alive = keep_alive_forever},
                                  const Observer& observer = {}) {
        models.emplace(Backend{&world}, Backend{&world},
                       ManagerOptions{.embedding = options, .reranker = options, .observer = observer}, executors());
    }
    [[nodiscard]] auto& slot() { return models->embedding(); }

    /// Runs all that is ready without an allocation of the test's own; for use where they fail. Gives how many handlers
    /// ran.
    std::size_t run_without_memory() {
        std::size_t count = 0;
        std::size_t before = 0;
        do {
            before = count;
            count += round(control) + round(inference) + round(loading);
        } while (count != before);
        return count;
    }
    /// Runs what is ready on control; also for use within a model call.
    std::size_t run_control_without_memory() { return round(control); }

    /// Takes a lease, which can be had without waiting for anybody.
    [[nodiscard]] LeaseType lease(const ModelKey& key) {
        Outcome<LeaseType> answer;
        slot().async_acquire(key, answer.handler());
        run();
        REQUIRE(answer.calls() == 1);
        return std::move(answer.value());
    }
    [[nodiscard]] std::string status() const {
        std::ostringstream text;
        text << models->status();
        return text.str();
    }

    HandlerTally handlers;
    std::vector<LeaseType> held;
    std::optional<Manager> models;

private:
    // As testing::run_ready: a timer that is due before all others shows when all that are due have been looked at.
    static std::size_t round(asio::io_context& context) {
        std::optional<asio::basic_waitable_timer<VirtualClock>> probe;
        bool seen = false;
        {
            const AmpleMemory mine;
            context.restart();
            probe.emplace(context, VirtualClock::time_point::min());
            probe->async_wait([&seen](const boost::system::error_code&) { seen = true; });
        }
        std::size_t count = 0;
        while (!seen) {
            count += context.poll();
        }
        return count - 1;
    }
};

/// The same of plain frugal models.
using NonAllocatingBench = NonAllocatingBenchOf<NonAllocatingBackend>;

}  // namespace residency::test

#pragma once

#include "residency/embeddings.hpp"
#include "residency/error.hpp"
#include "residency/memory_budget.hpp"
#include "residency/model_key.hpp"
#include "residency/model_manager.hpp"
#include "residency/ranking.hpp"
#include "stress/black_box.hpp"
#include "stress/random.hpp"
#include "stress/relaxed.hpp"
#include "stress/tally.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace residency::stress {

/// How many bytes a model of a key needs.
[[nodiscard]] constexpr std::size_t bytes_of(std::uint32_t slot, std::uint32_t key) noexcept {
    return 20 + 10 * std::size_t{key} + slot;
}
/// By how much a model may hold more than that.
inline constexpr std::size_t most_overrun = 15;

/// How many bytes all models of a budget hold together, each from the beginning of its load to the end of its
/// destructor. Of a model that holds more than it was to need only the need counts: so the sum passes the limit by
/// nothing, not even by what was not said (R13).
class HeldMemory {
public:
    HeldMemory(BlackBox& box, std::size_t limit) : box_(box), limit_(limit) {}

    void add(std::size_t bytes) {
        const std::size_t now = held_.exchange_add(bytes) + bytes;
        box_.require(limit_ == 0 || now <= limit_, "R13: models hold more than the limit");
    }
    void remove(std::size_t bytes) noexcept { held_.subtract(bytes); }
    [[nodiscard]] std::size_t now() const noexcept { return held_.get(); }

private:
    BlackBox& box_;
    // Zero if there is no budget.
    const std::size_t limit_;
    Relaxed<std::size_t> held_{0};
};

/// A model of another manager of the budget.
class NeighbourModel {
public:
    NeighbourModel(HeldMemory& held, std::size_t bytes) : held_(held), bytes_(bytes) {}
    NeighbourModel(const NeighbourModel&) = delete;
    NeighbourModel& operator=(const NeighbourModel&) = delete;
    ~NeighbourModel() {
        dawdle(20);
        held_.remove(bytes_);
    }
    [[nodiscard]] Embeddings embed(std::span<const std::string> texts) const {
        dawdle(20);
        return {texts.size(), 1};
    }
    [[nodiscard]] std::vector<float> rerank(std::string_view /*query*/, std::span<const std::string> documents) const {
        dawdle(20);
        return std::vector<float>(documents.size());
    }

private:
    HeldMemory& held_;
    const std::size_t bytes_;
};

class NeighbourBackend {
public:
    using model_type = NeighbourModel;
    NeighbourBackend(HeldMemory& held, std::uint32_t slot) : held_(&held), slot_(slot) {}
    [[nodiscard]] std::unique_ptr<NeighbourModel> load(const ModelKey& key) const {
        const std::size_t bytes = memory_needed(key);
        held_->add(bytes);
        dawdle(30);
        return std::make_unique<NeighbourModel>(*held_, bytes);
    }
    [[nodiscard]] std::size_t memory_needed(const ModelKey& key) const {
        return bytes_of(slot_, static_cast<std::uint32_t>(key.name.front() - 'a'));
    }

private:
    HeldMemory* held_;
    std::uint32_t slot_;
};

/// A budget, and one who does with it what a host may, and has other managers take part in it for a while.
class SharedMemory {
public:
    SharedMemory(BlackBox& box, Tally& tally, HeldMemory& held, std::size_t limit)
        : box_(box), tally_(tally), held_(held), limit_(limit), budget_(std::make_shared<MemoryBudget>(limit)) {}

    [[nodiscard]] const std::shared_ptr<MemoryBudget>& budget() const noexcept { return budget_; }

    /// Does something. On one thread.
    void act() {
        switch (dice().below(8)) {
            case 0: lower_limit(); break;
            case 1:
                tally_.did(Deed::trimmed);
                budget_->trim(dice().below(static_cast<std::uint32_t>(limit_)));
                break;
            case 2: look(); break;
            case 3: have_neighbour(); break;
            default: dawdle(50); break;
        }
    }
    /// All managers are gone, and so are their models.
    [[nodiscard]] bool is_empty() const {
        const MemoryStatus status = budget_->status();
        return status.used == 0 && status.holders.empty() && status.waiting.empty();
    }

private:
    using Neighbour = ModelManager<NeighbourBackend, NeighbourBackend>;

    // Once no more than a lower limit is reserved, no more is held either, until it is raised.
    void lower_limit() {
        const std::size_t lower = dice().below(static_cast<std::uint32_t>(limit_));
        budget_->set_limit(lower);
        constexpr int patience = 200;
        bool is_reached = false;
        for (int times = 0; times < patience && !is_reached; ++times) {
            is_reached = budget_->used() <= lower;
            dawdle(10);
        }
        for (int times = 0; times < patience / 4 && is_reached; ++times) {
            box_.require(held_.now() <= lower, "R13: models hold more than a limit that was lowered");
            dawdle(5);
        }
        tally_.did(is_reached ? Deed::limit_lowered : Deed::limit_in_vain);
        budget_->set_limit(limit_);
    }
    void look() {
        std::ostringstream text;
        const MemoryStatus status = budget_->status();
        text << status;
        box_.require(status.limit == limit_ && budget_->limit() == limit_, "the status shows another limit");
        for (const MemoryHolder& waiting : status.waiting) {
            box_.require(!waiting.state && waiting.bytes != 0, "H35: a resident that waits for memory");
        }
        if (!status.waiting.empty()) {
            tally_.did(Deed::seen_waiting);
        }
    }
    // Another manager, which goes with requests that it has not answered.
    void have_neighbour() {
        tally_.did(Deed::neighbour);
        ManagerOptions options;
        options.memory = budget_;
        options.embedding.max_resident = options.reranker.max_resident = 0;
        options.embedding.keep_alive = options.reranker.keep_alive = std::chrono::milliseconds(1);
        std::atomic<std::uint32_t> ended{0};
        std::uint32_t begun = 0;
        {
            Neighbour neighbour(NeighbourBackend(held_, 0), NeighbourBackend(held_, 1), options);
            const std::uint32_t requests = dice().below(6);
            RequestOptions request;
            for (; begun < requests; ++begun) {
                request.priority = dice().coin() ? Priority::high : Priority::normal;
                const ModelKey key(std::string(1, static_cast<char>('a' + dice().below(3))), "f16");
                const auto end = [this, &ended](const std::exception_ptr& error) {
                    judge(error);
                    ++ended;
                };
                if (dice().coin()) {
                    neighbour.async_embed(
                        key, {"text"}, request,
                        [end](const std::exception_ptr& error, const Embeddings& /*rows*/) { end(error); });
                } else {
                    neighbour.async_rerank(
                        key, "query", {"text"}, request,
                        [end](const std::exception_ptr& error, const Ranking& /*ranking*/) { end(error); });
                }
                dawdle(100);
            }
            dawdle(dice().coin() ? 300 : 0);
        }
        box_.require(ended == begun, "R12: a manager of the budget was destroyed before its requests were complete");
    }
    void judge(const std::exception_ptr& exception) {
        if (!exception) {
            tally_.did(Deed::neighbour_served);
            return;
        }
        try {
            std::rethrow_exception(exception);
        } catch (const Error& error) {
            box_.require(error.code() == errc::shutting_down || error.code() == errc::insufficient_memory,
                         "another manager of the budget failed a request for no reason");
        } catch (...) {
            box_.require(false, "an error that is no residency::Error");
        }
    }

    BlackBox& box_;
    Tally& tally_;
    HeldMemory& held_;
    const std::size_t limit_;
    const std::shared_ptr<MemoryBudget> budget_;
};

}  // namespace residency::stress

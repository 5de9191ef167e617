#pragma once

#include "chain.hpp"
#include "no_op.hpp"

#include "residency/backends/any.hpp"
#include "residency/memory_budget.hpp"
#include "residency/model_manager.hpp"
#include "residency/model_slot.hpp"
#include "residency/runtime/asio.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace residency::cost {

using Manager = ModelManager<NoOpBackend, NoOpRerankerBackend>;
using Slot = ModelSlot<NoOpBackend>;
using SlotLease = Slot::lease_type;

/// How many operations are under way where each is started by the handler of one before, as in the benchmark.
inline constexpr std::size_t at_once = 32;

/// What every path stands on.
struct OneThread {
    asio::io_context context{1};
    asio::executor_work_guard<asio::io_context::executor_type> guard{context.get_executor()};

    /// Starts what gives a generation, and waits for it.
    template <class AnySlot>
    void load(AnySlot& slot, const ModelKey& key) {
        bool loaded = false;
        slot.async_ensure_loaded(key, [&loaded](const std::exception_ptr& error, Generation) { loaded = !error; });
        context.poll();
        if (!loaded) {
            throw std::logic_error("a model was not loaded");
        }
    }
};

/// The options of a slot that never says no while a benchmark runs.
struct Roomy {
    [[nodiscard]] static SlotOptions options() { return roomy(); }
};
/// The same in a memory budget that is not under pressure.
struct RoomyInBudget {
    [[nodiscard]] static SlotOptions options() {
        SlotOptions options = roomy();
        options.memory = std::make_shared<MemoryBudget>(1'000'000);
        options.model_memory = 1'000;
        return options;
    }
};

// A path: `turn` does `operations` of it and says how many of them went as they should.

/// try_acquire and release.
template <class Given>
class LeasePathOf : OneThread {
public:
    static constexpr std::size_t operations = chain_length;

    LeasePathOf() { load(slot_, usual_key()); }
    std::size_t turn() {
        std::size_t granted = 0;
        for (std::size_t index = 0; index < operations; ++index) {
            const SlotLease lease = slot_.try_acquire(usual_key());
            granted += lease ? 1 : 0;
        }
        return granted;
    }

private:
    Slot slot_{NoOpBackend(), Given::options(), Executors::all(context.get_executor())};
};

using LeasePath = LeasePathOf<Roomy>;
/// The same with a memory budget.
using BudgetLeasePath = LeasePathOf<RoomyInBudget>;

// What is called is named, not a lambda: callgrind cannot read the names of all that is made of generic ones.

/// async_acquire and release; the model is ready, and the handler's executor a concrete one.
class AcquirePath : OneThread {
public:
    static constexpr std::size_t operations = chain_length;

    AcquirePath() { load(slot_, usual_key()); }
    std::size_t turn() {
        granted_ = 0;
        Chain chain(at_once, Start{this});
        chain([this] { context.poll(); });
        return granted_;
    }

private:
    struct Start {
        AcquirePath* path;
        void operator()(Chain<Start>& chain) const {
            path->slot_.async_acquire(usual_key(),
                                      asio::bind_executor(path->context.get_executor(), Handler{path, &chain}));
        }
    };
    struct Handler {
        AcquirePath* path;
        Chain<Start>* chain;
        void operator()(const std::exception_ptr& /*error*/, SlotLease lease) const {
            path->granted_ += lease ? 1 : 0;
            lease.release();
            chain->done();
        }
    };

    Slot slot_{NoOpBackend(), roomy(), Executors::all(context.get_executor())};
    std::size_t granted_ = 0;
};

/// async_embed of one text by a model that does nothing.
template <class Backend, class Made = Backend, class Given = Roomy>
class EmbedPathOf : OneThread {
public:
    static constexpr std::size_t operations = chain_length;

    EmbedPathOf() { load(manager_.embedding(), usual_key()); }
    std::size_t turn() {
        answered_ = 0;
        Chain chain(at_once, Start{this});
        chain([this] { context.poll(); });
        return answered_;
    }

private:
    struct Start {
        EmbedPathOf* path;
        void operator()(Chain<Start>& chain) const {
            path->manager_.async_embed(usual_key(), std::vector<std::string>(1, "a cat sat"),
                                       asio::bind_executor(path->context.get_executor(), Handler{path, &chain}));
        }
    };
    struct Handler {
        EmbedPathOf* path;
        Chain<Start>* chain;
        void operator()(const std::exception_ptr& /*error*/, const Embeddings& answer) const {
            path->answered_ += answer.size() == 1 ? 1 : 0;
            chain->done();
        }
    };

    ModelManager<Backend, NoOpRerankerBackend> manager_{
        Made(), {}, {.embedding = Given::options()}, Executors::all(context.get_executor())};
    std::size_t answered_ = 0;
};

using EmbedPath = EmbedPathOf<NoOpBackend>;
/// The same, where the backend's type is erased.
using AnyEmbedPath = EmbedPathOf<AnyEmbeddingBackend, NoOpBackend>;
/// The same with a memory budget.
using BudgetEmbedPath = EmbedPathOf<NoOpBackend, NoOpBackend, RoomyInBudget>;
/// The same where the model answers asynchronously.
using AsyncEmbedPath = EmbedPathOf<NoOpAsyncBackend>;

/// co_spawn of what such a model gives, without a manager, on the executor that its calls have: a floor.
class SpawnPath : OneThread {
public:
    static constexpr std::size_t operations = chain_length;

    std::size_t turn() {
        answered_ = 0;
        Chain chain(at_once, Start{this});
        chain([this] { context.poll(); });
        return answered_;
    }

private:
    struct Start {
        SpawnPath* path;
        void operator()(Chain<Start>& chain) const {
            asio::co_spawn(path->executor_, Call{path, {"text"}},
                           asio::bind_executor(path->context.get_executor(), Handler{path, &chain}));
        }
    };
    struct Call {
        SpawnPath* path;
        std::vector<std::string> texts;
        asio::awaitable<Embeddings> operator()() const { return path->model_.embed(texts); }
    };
    struct Handler {
        SpawnPath* path;
        Chain<Start>* chain;
        void operator()(const std::exception_ptr& /*error*/, const Embeddings& rows) const {
            path->answered_ += rows.size() == 1 ? 1 : 0;
            chain->done();
        }
    };

    const asio::any_io_executor executor_{context.get_executor()};
    NoOpAsyncEmbedder model_;
    std::size_t answered_ = 0;
};

/// A slot whose one lease is taken, so that all others wait.
class QueuePath : protected OneThread {
public:
    static constexpr std::size_t operations = 10'000;

protected:
    QueuePath() {
        load(slot_, usual_key());
        lease_ = slot_.try_acquire(usual_key());
    }
    static SlotOptions options() {
        SlotOptions options = roomy();
        options.max_leases = 1;
        return options;
    }

    Slot slot_{NoOpBackend(), options(), Executors::all(context.get_executor())};
    SlotLease lease_;
};

/// 10,000 join the queue and get the lease one after the other.
class GrantPath : QueuePath {
public:
    using QueuePath::operations;

    std::size_t turn() {
        granted_ = 0;
        for (std::size_t index = 0; index < operations; ++index) {
            slot_.async_acquire(usual_key(), asio::bind_executor(context.get_executor(), Handler{this}));
        }
        lease_.release();
        context.poll();
        return granted_;
    }

private:
    struct Handler {
        GrantPath* path;
        void operator()(const std::exception_ptr& /*error*/, SlotLease lease) const {
            path->granted_ += lease ? 1 : 0;
            // The last one keeps it, so that all wait in the next turn, too.
            path->lease_ = std::move(lease);
            if (path->granted_ != operations) {
                path->lease_.release();
            }
        }
    };

    std::size_t granted_ = 0;
};

/// 10,000 join the queue and are cancelled, all over the queue.
class CancelPath : QueuePath {
public:
    using QueuePath::operations;

    std::size_t turn() {
        failed_ = 0;
        for (asio::cancellation_signal& signal : signals_) {
            slot_.async_acquire(
                usual_key(), asio::bind_cancellation_slot(signal.slot(),
                                                          asio::bind_executor(context.get_executor(), Handler{this})));
        }
        // Has no factor in common with their number: each has its turn.
        constexpr std::size_t stride = 7'919;
        for (std::size_t index = 0; index < operations; ++index) {
            signals_[index * stride % operations].emit(asio::cancellation_type::total);
        }
        context.poll();
        return failed_;
    }

private:
    struct Handler {
        CancelPath* path;
        void operator()(const std::exception_ptr& error, const SlotLease& /*none*/) const {
            path->failed_ += error ? 1 : 0;
        }
    };

    std::vector<asio::cancellation_signal> signals_{operations};
    std::size_t failed_ = 0;
};

/// 4,000 keys wait for a memory budget that has room for one model, and are served one after the other.
class MemoryPath : OneThread {
public:
    static constexpr std::size_t operations = 4'000;

    MemoryPath() {
        for (std::size_t index = 0; index < operations; ++index) {
            keys_.emplace_back("bge-small-en-v1.5-" + std::to_string(index), "q8_0");
        }
    }
    std::size_t turn() {
        granted_ = 0;
        for (const ModelKey& key : keys_) {
            slot_.async_acquire(key, asio::bind_executor(context.get_executor(), Handler{this}));
        }
        context.poll();
        return granted_;
    }

private:
    struct Handler {
        MemoryPath* path;
        void operator()(const std::exception_ptr& error, const SlotLease& /*lease*/) const {
            path->granted_ += error ? 0 : 1;
        }
    };
    // Nothing in it depends on how fast the machine is.
    static SlotOptions options() {
        SlotOptions options = roomy();
        options.max_resident = 0;
        options.memory = std::make_shared<MemoryBudget>(1);
        options.model_memory = 1;
        options.min_stay = std::chrono::milliseconds(0);
        options.aging = std::chrono::hours(24);
        return options;
    }

    Slot slot_{NoOpBackend(), options(), Executors::all(context.get_executor())};
    std::vector<ModelKey> keys_;
    std::size_t granted_ = 0;
};

/// A manager with three embedding models, one of them leased, and a reranker.
class LookPath : protected OneThread {
public:
    static constexpr std::size_t operations = 100;

protected:
    LookPath() {
        for (const ModelKey& key :
             {usual_key(), ModelKey("bge-large-en-v1.5", "f16"), ModelKey("all-minilm-l6-v2", "q8_0")}) {
            load(manager_.embedding(), key);
        }
        load(manager_.reranker(), ModelKey("minilm-reranker-v2", "f16"));
        lease_ = manager_.embedding().try_acquire(usual_key());
    }
    static SlotOptions options() {
        SlotOptions options = roomy();
        options.max_resident = 3;
        return options;
    }

    Manager manager_{{}, {}, {.embedding = options()}, Executors::all(context.get_executor())};
    SlotLease lease_;
};

/// status() of that manager.
class StatusPath : LookPath {
public:
    using LookPath::operations;

    std::size_t turn() {
        std::size_t seen = 0;
        for (std::size_t index = 0; index < operations; ++index) {
            const ManagerStatus status = manager_.status();
            seen += status.embedding.residents.size() == 3 ? 1 : 0;
        }
        return seen;
    }
};

/// The same, and its text.
class StatusTextPath : LookPath {
public:
    using LookPath::operations;

    std::size_t turn() {
        std::size_t seen = 0;
        for (std::size_t index = 0; index < operations; ++index) {
            std::ostringstream text;
            text << manager_.status();
            seen += text.view().size() > 100 ? 1 : 0;
        }
        return seen;
    }
};

}  // namespace residency::cost

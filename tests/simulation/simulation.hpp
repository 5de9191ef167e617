#pragma once

#include "residency/memory_budget.hpp"
#include "residency/model_manager.hpp"
#include "residency/testing/virtual_clock.hpp"
#include "simulation/choices.hpp"
#include "simulation/fakes.hpp"
#include "simulation/neighbour.hpp"
#include "simulation/oracle.hpp"
#include "simulation/seeded_queue.hpp"
#include "simulation/settings.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <exception>
#include <memory>
#include <optional>
#include <sstream>
#include <stop_token>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace residency::simulation {

using Clock = testing::VirtualClock;

/// What a handler, a hook or an observer throws to see what becomes of it.
struct Thrown {};

/// A run.
class AnySimulation {
public:
    AnySimulation() = default;
    virtual ~AnySimulation() = default;
    AnySimulation(const AnySimulation&) = delete;
    AnySimulation& operator=(const AnySimulation&) = delete;

    /// Runs it. Gives what rule was broken; empty if none was.
    virtual std::string run() = 0;

    /// What happened, a line for each step.
    [[nodiscard]] virtual std::string trace() const = 0;
    /// All decisions.
    [[nodiscard]] virtual const Choices& choices() const noexcept = 0;
    /// What happened to model calls.
    [[nodiscard]] virtual const Sights& sights() const noexcept = 0;
    /// How many steps there were, and how many requests.
    [[nodiscard]] virtual std::size_t steps() const noexcept = 0;
    [[nodiscard]] virtual std::size_t requests() const noexcept = 0;
};

/// One run of a whole ModelManager on the virtual clock. Everything that could be otherwise is a choice: which of the
/// posted functions runs next, on whichever executor, also in the midst of another (as another thread might); what the
/// host asks for, cancels, holds and lets go, and from where; how long a load or a call takes and how it ends; when the
/// time moves on, and when timers are looked at.
///
/// One at a time in a process, for there is one virtual clock. With `Asynchronous` the models answer so.
template <bool Asynchronous>
class SimulationOf final : public AnySimulation, PostObserver, FakeStage {
public:
    explicit SimulationOf(Choices choices, std::FILE* stream)
        : stream_(stream),
          choices_(std::move(choices)),
          settings_(Settings::choose(choices_)),
          oracle_(settings_.slots[0], settings_.slots[1], settings_.keys) {
        if (settings_.budgeted) {
            budget_ = std::make_shared<MemoryBudget>(settings_.memory);
            oracle_.memory.limited = true;
            oracle_.memory.limit = oracle_.memory.ceiling = oracle_.memory.lowest = settings_.memory;
        }
    }

    std::string run() override;

    [[nodiscard]] std::string trace() const override {
        return (Asynchronous ? "models that answer asynchronously\n" : "") + settings_.text() + trace_;
    }
    [[nodiscard]] const Choices& choices() const noexcept override { return choices_; }
    [[nodiscard]] const Sights& sights() const noexcept override { return oracle_.sights; }
    [[nodiscard]] std::size_t steps() const noexcept override { return steps_; }
    [[nodiscard]] std::size_t requests() const noexcept override { return oracle_.requests.size() - 1; }

private:
    using Embedder = std::conditional_t<Asynchronous, AsyncSimulatedEmbedder, SimulatedEmbedder>;
    using Reranker = std::conditional_t<Asynchronous, AsyncSimulatedReranker, SimulatedReranker>;
    using Manager = ModelManager<SimulatedBackend<Embedder, 0>, SimulatedBackend<Reranker, 1>, Clock>;
    using Timer = asio::basic_waitable_timer<std::chrono::steady_clock>;
    template <class... Results>
    class Handler;
    struct HeldLease {
        std::variant<Lease<Embedder>, Lease<Reranker>> lease;
        ModelFacts* model;
    };
    // What runs, and since when: a function of a queue, or, without one, the host.
    struct Frame {
        const SeededQueue* queue;
        std::uint64_t sequence;
        Time time;
    };
    // Inside the backend, a model or an observer: blocking calls are refused here.
    struct LibraryFrame {
        explicit LibraryFrame(SimulationOf& of) : simulation(of) { ++simulation.user_code_scopes_; }
        ~LibraryFrame() { --simulation.user_code_scopes_; }
        LibraryFrame(const LibraryFrame&) = delete;
        LibraryFrame& operator=(const LibraryFrame&) = delete;
        SimulationOf& simulation;
    };
    struct InFrame {
        InFrame(SimulationOf& of, const SeededQueue* queue) : simulation(of) {
            simulation.frames_.push_back({queue, ++of.oracle_.sequence, now()});
        }
        ~InFrame() { simulation.frames_.pop_back(); }
        InFrame(const InFrame&) = delete;
        InFrame& operator=(const InFrame&) = delete;
        SimulationOf& simulation;
    };

    static constexpr std::size_t most_steps = 600;
    static constexpr std::size_t most_requests = 120;
    static constexpr int deepest = 5;

    // -- simulation_run.hpp: what runs when ---------------------------------------------------------------------------
    void make_manager();
    void step();
    void run_item(SeededQueue& queue, std::size_t index);
    void poll_timers();
    void resume(std::size_t index);
    void advance(Time by);
    void advance_somehow();
    [[nodiscard]] Time next_due() const;
    void come_to_rest();
    void check_quiet();
    void nest(std::uint32_t times);
    void posting() noexcept override;
    void posted(int request) noexcept override;
    void observe();
    void finish();
    void serve_all();
    void let_all_idle();
    void check_gone();
    [[nodiscard]] std::vector<SeededQueue*> ready_queues();
    [[nodiscard]] bool calm() const noexcept { return quiet_ || !oracle_.violation.empty() || steps_ >= most_steps; }

    // -- simulation_host.hpp: what the host does ----------------------------------------------------------------------
    void act();
    RequestFacts& ask(Kind kind, const RequestFacts* like = nullptr);
    [[nodiscard]] static std::vector<std::string> texts_of(const RequestFacts& request);
    void start(RequestFacts& request);
    void burst();
    template <class Result, class Start>
    void with_handler(RequestFacts& request, const Start& start);
    template <class Slot>
    void start_in(Slot& slot, RequestFacts& request);
    void unload();
    void shut_down();
    void cancel();
    void cancel(RequestFacts& request, asio::cancellation_type type);
    void look();
    void block_in_vain();
    void squeeze();
    void set_limit(std::size_t bytes);
    void destroy();

    // -- simulation_leases.hpp: what it does with bare leases ---------------------------------------------------------
    void attempt();
    void use_lease();
    template <class Model>
    void keep(RequestFacts& request, Lease<Model> lease);
    void release(std::size_t index);

    // -- simulation_calls.hpp: what the library calls -----------------------------------------------------------------
    template <class... Results>
    void completed(RequestFacts& request, const std::exception_ptr& error, Results... results);
    void check_value(RequestFacts& request, const std::exception_ptr& error, Embeddings& rows);
    void check_value(RequestFacts& request, const std::exception_ptr& error, Ranking& ranking);
    void check_value(RequestFacts& request, const std::exception_ptr& error, Generation& generation);
    template <class Model>
    void check_value(RequestFacts& request, const std::exception_ptr& error, Lease<Model>& lease);
    void event(const Event& event);
    bool knows(int slot, const ModelKey& key) override;
    std::optional<std::size_t> memory_needed(int slot, const ModelKey& key) override;
    ModelFacts* load(int slot, const ModelKey& key, LoadContext& context) override;
    void say_memory(ModelFacts& model);
    FakeAnswer call(ModelFacts& model, const FakeCall& made) override;
    asio::awaitable<FakeAnswer> call_later(ModelFacts& model, const FakeCall& made) override;
    [[nodiscard]] CallFacts& begin_call(ModelFacts& model, const FakeCall& made);
    void leave(const CallFacts& call);
    [[nodiscard]] FakeAnswer end_call(ModelFacts& model, CallFacts& call, bool stopped);
    [[nodiscard]] asio::awaitable<bool> suspend(int call);
    [[nodiscard]] Ending end_somehow(CallFacts& call);
    void unload(ModelFacts& model) override;
    void require_frame(const SeededQueue& queue, const char* what);
    // The queue of an executor, and that of the handlers.
    [[nodiscard]] const SeededQueue& callbacks() const noexcept {
        return settings_.callbacks_apart ? callbacks_ : control_;
    }
    [[nodiscard]] const SeededQueue& handlers() const noexcept { return settings_.bound ? client_ : callbacks(); }

    [[nodiscard]] static Time now() noexcept { return Clock::now().time_since_epoch(); }
    [[nodiscard]] static ModelKey key_of(int key) {
        return ModelKey(std::string(1, static_cast<char>('a' + key)), "f16");
    }
    template <class... Parts>
    void note(const Parts&... parts);

    std::FILE* const stream_;
    Choices choices_;
    const Settings settings_;
    Oracle oracle_;
    // Each queue has a context of its own, as different executors have: what the library may call on the spot depends
    // on that.
    asio::io_context context_{1};
    std::array<asio::io_context, 5> others_;
    SeededQueue control_{"control", context_, *this};
    SeededQueue inference_{"inference", others_[0], *this};
    SeededQueue loading_{"loading", others_[1], *this};
    SeededQueue callbacks_{"callbacks", others_[2], *this};
    SeededQueue client_{"client", others_[3], *this};
    // All of the second manager's executors.
    SeededQueue next_door_{"next door", others_[4], *this};
    std::deque<asio::cancellation_signal> signals_;
    std::vector<HeldLease> leases_;
    // What asynchronous calls wait for, and the numbers of these.
    std::vector<std::pair<int, std::shared_ptr<Timer>>> suspended_;
    std::shared_ptr<MemoryBudget> budget_;
    std::unique_ptr<Neighbour> neighbour_;
    std::unique_ptr<Manager> manager_;
    std::vector<Frame> frames_;
    std::string trace_;
    std::size_t steps_ = 0;
    int manager_calls_ = 0;
    // How many posts of the library's this is in: the destructor waits for such posts, which are another thread's.
    int posts_ = 0;
    int user_code_scopes_ = 0;
    int emitting_ = 0;
    bool quiet_ = true;
    bool polling_ = false;
    bool observing_ = false;
    // The request that is being started.
    RequestFacts* asking_ = nullptr;
};

/// Counts as one as long as it, or what it was moved to, lives.
template <bool Asynchronous>
template <class... Results>
class SimulationOf<Asynchronous>::Handler {
public:
    using cancellation_slot_type = asio::cancellation_slot;

    Handler(SimulationOf& simulation, RequestFacts& request) : simulation_(&simulation), request_(&request) {
        ++request.handlers;
    }
    Handler(Handler&& other) noexcept
        : simulation_(std::exchange(other.simulation_, nullptr)), request_(other.request_) {
        look_in();
    }
    Handler& operator=(Handler&&) = delete;
    ~Handler() {
        if (simulation_ != nullptr) {
            --request_->handlers;
            look_in();
        }
    }

    [[nodiscard]] asio::cancellation_slot get_cancellation_slot() const noexcept {
        return simulation_->signals_[static_cast<std::size_t>(request_->id)].slot();
    }
    void operator()(std::exception_ptr error, Results... results) {
        simulation_->completed(*request_, error, std::move(results)...);
    }

private:
    // Moving and destroying a handler is calling the user: it may call the library.
    void look_in() const noexcept {
        if (simulation_ != nullptr && request_->id % 8 == 0 && simulation_->manager_ && !simulation_->quiet_) {
            (void)simulation_->manager_->embedding().status();
            (void)simulation_->manager_->reranker().status();
        }
    }

    SimulationOf* simulation_;
    RequestFacts* request_;
};

template <bool Asynchronous>
template <class... Parts>
void SimulationOf<Asynchronous>::note(const Parts&... parts) {
    const auto add = [this](const auto& part) {
        using Part = std::decay_t<decltype(part)>;
        if constexpr (std::is_convertible_v<Part, std::string_view> || std::is_same_v<Part, char>) {
            trace_ += part;
        } else {
            trace_ += std::to_string(part);
        }
    };
    const std::size_t begin = trace_.size();
    trace_.append(2 * static_cast<std::size_t>(oracle_.depth), ' ');
    (add(parts), ...);
    trace_ += '\n';
    if (stream_ != nullptr) {
        std::fputs(trace_.c_str() + begin, stream_);
        std::fflush(stream_);
    }
}

}  // namespace residency::simulation

#include "simulation/simulation_calls.hpp"   // IWYU pragma: export
#include "simulation/simulation_host.hpp"    // IWYU pragma: export
#include "simulation/simulation_leases.hpp"  // IWYU pragma: export
#include "simulation/simulation_run.hpp"     // IWYU pragma: export

namespace residency::simulation {

/// Has the first choice say what kind of models the others are about. With `stream`, what happens is also printed as it
/// happens: a crash then shows how it came to be.
[[nodiscard]] inline std::unique_ptr<AnySimulation> make_simulation(Choices choices, std::FILE* stream = nullptr) {
    if (choices.once_in(3)) {
        return std::make_unique<SimulationOf<true>>(std::move(choices), stream);
    }
    return std::make_unique<SimulationOf<false>>(std::move(choices), stream);
}

}  // namespace residency::simulation

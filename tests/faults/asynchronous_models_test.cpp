// H18, H39: models that answer asynchronously while memory runs out, and over an inference executor that refuses what
// it is given. Each story runs again and again, with its first, second, ... allocation failing.

#include "support/failing_allocations.hpp"
#include "support/memory.hpp"
#include "support/non_allocating_fakes.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace asynchronous_models_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

// Past the small-string size, as names of models are.
const ModelKey a("bge-small-en-v1.5-of-the-first-kind", "q8_0-with-a-long-name");

// Answers the size of each text, after it has waited.
class NonAllocatingAsyncModel {
public:
    explicit NonAllocatingAsyncModel(NonAllocatingWorld& world) : world_(&world) { ++world_->live; }
    NonAllocatingAsyncModel(const NonAllocatingAsyncModel&) = delete;
    NonAllocatingAsyncModel& operator=(const NonAllocatingAsyncModel&) = delete;
    ~NonAllocatingAsyncModel() { --world_->live; }

    asio::awaitable<Embeddings> embed(std::span<const std::string> texts) {
        co_await asio::post(asio::use_awaitable);
        NonAllocatingWorld::visit(world_->in_call);
        const AmpleMemory mine;
        Embeddings rows(texts.size(), 1);
        for (std::size_t row = 0; row < texts.size(); ++row) {
            rows[row][0] = static_cast<float>(texts[row].size());
        }
        co_return rows;
    }
    asio::awaitable<std::vector<float>> rerank(std::string_view /*query*/, std::span<const std::string> documents) {
        co_return std::vector<float>(documents.size());
    }
    asio::awaitable<std::vector<float>> rerank(std::span<const RerankPair> pairs) {
        co_return std::vector<float>(pairs.size());
    }
    [[nodiscard]] BatchLimits batch_limits() const { return world_->batch_limits; }

private:
    NonAllocatingWorld* world_;
};

struct NonAllocatingAsyncBackend {
    using model_type = NonAllocatingAsyncModel;
    NonAllocatingWorld* world;

    std::unique_ptr<NonAllocatingAsyncModel> load(const ModelKey& /*key*/) {
        const AmpleMemory mine;
        return std::make_unique<NonAllocatingAsyncModel>(*world);
    }
};

struct Scene : NonAllocatingBenchOf<NonAllocatingAsyncBackend> {
    explicit Scene(const BatchLimits& limits, std::size_t leases)
        : NonAllocatingBenchOf({.keep_alive = keep_alive_forever, .max_leases = leases}) {
        world.batch_limits = limits;
        // What is looked at is a call of a model that is ready.
        ready = lease(a);
        ready.release();
    }

    void embed(std::vector<std::string> texts, const RequestOptions& options = {}) {
        const AmpleMemory mine;
        const std::vector<std::string>& own = asked.emplace_back(std::move(texts));
        models->async_embed(
            a, own, options,
            asio::bind_cancellation_slot(signals.emplace_back().slot(),
                                         handlers.count([this, &own](std::exception_ptr error, const Embeddings& rows) {
                                             const AmpleMemory also_mine;
                                             judge(own, error, rows);
                                         })));
    }
    void judge(const std::vector<std::string>& texts, const std::exception_ptr& error, const Embeddings& rows) {
        if (!error) {
            bool own = rows.size() == texts.size();
            for (std::size_t row = 0; own && row < rows.size(); ++row) {
                own = rows[row][0] == static_cast<float>(texts[row].size());
            }
            sound += own ? 1 : 0;
            return;
        }
        try {
            std::rethrow_exception(error);
        } catch (const std::bad_alloc&) {
            ++failed;
        } catch (const Error& typed) {
            const boost::system::error_code code = typed.code();
            failed += code == errc::inference_failed ? 1 : 0;
            left += code == errc::timed_out || code == asio::error::operation_aborted ? 1 : 0;
        }
    }

    LeaseType ready;
    std::deque<std::vector<std::string>> asked;
    std::deque<asio::cancellation_signal> signals;
    std::size_t sound = 0;
    std::size_t failed = 0;
    std::size_t left = 0;
    // Whether the model fails the next time.
    bool faulty = true;
};

struct Story {
    const char* name;
    BatchLimits limits;
    std::size_t leases;
    std::function<void(Scene&)> begin;
    std::function<void(Scene&)> go_on;
};

const auto runs = [](Scene& scene) { scene.run_without_memory(); };

const std::vector<Story> stories{
    {"a call", {}, 2, [](Scene& scene) { scene.embed({"text"}); }, runs},
    {"two calls at once and one that waits",
     {},
     2,
     [](Scene& scene) {
         scene.embed({"a"});
         scene.embed({"bb"});
         scene.embed({"ccc"});
     },
     runs},
    {"a shared call",
     {.texts = 8},
     1,
     [](Scene& scene) {
         scene.held.push_back(scene.lease(a));
         scene.embed({"a", "bb"});
         scene.embed({"ccc"});
         scene.embed({"dddd"});
         scene.held.clear();
     },
     runs},
    {"a shared call that fails, and each of its requests alone",
     {.texts = 8},
     1,
     [](Scene& scene) {
         scene.held.push_back(scene.lease(a));
         scene.embed({"a", "bb"});
         scene.embed({"ccc"});
         scene.embed({"dddd"});
         scene.world.in_call = [&scene] {
             const AmpleMemory mine;
             if (std::exchange(scene.faulty, false)) {
                 throw std::runtime_error("once");
             }
         };
         scene.held.clear();
     },
     runs},
    {"parts of a request",
     {.texts = 2},
     2,
     [](Scene& scene) {
         scene.embed({"a", "bb", "ccc", "dddd", "eeeee", "ffffff"});
     },
     runs},
    {"a request that leaves while its call runs",
     {},
     2,
     [](Scene& scene) {
         scene.embed({"a"});
         scene.embed({"bb"});
         scene.world.in_call = [&scene] { scene.signals.front().emit(asio::cancellation_type::terminal); };
     },
     runs},
};

// Whether an allocation failed.
bool live_through(const Story& story, std::size_t nth, FaultPattern scarcity) {
    Scene scene(story.limits, story.leases);
    story.begin(scene);
    std::size_t failures = 0;
    {
        const AllocationFaults scarce(nth, scarcity);
        story.go_on(scene);
        failures = scarce.failures();
    }
    scene.run();
    CHECK(scene.handlers.ran() == scene.handlers.made());
    CHECK(scene.sound + scene.failed + scene.left == scene.asked.size());
    CHECK((failures != 0 || scene.failed == 0));
    CHECK(scene.slot().status().leases == 0);
    // It is as good as new.
    scene.world.in_call = {};
    scene.embed({"one more"});
    scene.run();
    CHECK(scene.sound + scene.failed + scene.left == scene.asked.size());
    CHECK(scene.sound != 0);
    scene.models.reset();
    scene.run();
    CHECK(scene.world.live == 0);
    CHECK(scene.at_rest());
    return failures != 0;
}

// An inference executor that refuses one of the functions that it is given.
class Refusing {
public:
    struct State {
        // Which one; counted down.
        std::size_t refuses = 0;
        std::size_t given = 0;
    };

    Refusing(asio::io_context::executor_type inner, State& state) : inner_(std::move(inner)), state_(&state) {}

    [[nodiscard]] asio::execution_context& query(asio::execution::context_t /*property*/) const noexcept {
        return inner_.context();
    }
    [[nodiscard]] static constexpr asio::execution::blocking_t::never_t query(
        asio::execution::blocking_t /*property*/) noexcept {
        return {};
    }
    [[nodiscard]] Refusing require(asio::execution::blocking_t::never_t /*property*/) const noexcept { return *this; }
    template <class Function>
    void execute(Function&& function) const {
        ++state_->given;
        if (state_->refuses != 0 && --state_->refuses == 0) {
            throw std::runtime_error("no more of them");
        }
        asio::require(inner_, asio::execution::blocking.never).execute(std::forward<Function>(function));
    }
    friend bool operator==(const Refusing& left, const Refusing& right) noexcept { return left.state_ == right.state_; }

private:
    asio::io_context::executor_type inner_;
    State* state_;
};

}  // namespace

TEST_CASE("Asynchronous calls for which memory runs out complete each request once, and give their leases back",
          "[H18][H39][R9]") {
    fail_each_allocation(stories, live_through);
}

TEST_CASE("An asynchronous call that the inference executor refuses fails its request, and gives its lease back",
          "[H39][R9][R12]") {
    NonAllocatingWorld world;
    const bool has_parts = GENERATE(false, true);
    world.batch_limits = {.texts = has_parts ? std::size_t{2} : std::size_t{0}};
    Refusing::State state;
    VirtualClock::reset();
    asio::io_context control;
    asio::io_context inference;
    Request<Embeddings> refused;
    Request<Embeddings> sound;
    {
        ModelManager<NonAllocatingAsyncBackend, NonAllocatingAsyncBackend, VirtualClock> models{
            {&world},
            {&world},
            {.embedding = {.max_leases = 2}},
            {control.get_executor(), Refusing(inference.get_executor(), state), control.get_executor()}};
        state.refuses = 1;
        models.async_embed(a, {"a", "bb", "ccc", "dddd"}, refused.token());
        run_ready(control, inference);
        CHECK(state.given >= 1);
        CHECK(refused.code() == errc::inference_failed);
        CHECK(models.embedding().status().leases == 0);
        // Nothing of the request is kept by what was refused.
        CHECK_FALSE(refused.held());
        models.async_embed(a, {"a"}, sound.token());
        run_ready(control, inference);
        CHECK(sound.value().size() == 1);
        Request<ShutdownReport> report;
        models.async_shutdown(report.token());
        run_ready(control, inference);
        CHECK(report.value().clean());
    }
    run_ready(control, inference);
    CHECK(world.live == 0);
}

}  // namespace asynchronous_models_test

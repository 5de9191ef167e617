// H11: the end of a slot while another thread is still at work in it, or ends its contexts. Freed memory is overwritten
// in this program, so that who still uses it is found without a sanitizer.

#include "support/bench.hpp"

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/execution.hpp>

#include <malloc.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <thread>
#include <utility>

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

// Not inlined: where g++ sees one of a pair and not the other, it warns that they do not match.
[[gnu::noinline]] void* operator new(std::size_t size) {
    if (void* const memory = std::malloc(size)) {
        return memory;
    }
    throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return std::malloc(size); }
[[gnu::noinline]] void operator delete(void* memory) noexcept {
    if (memory != nullptr) {
        std::memset(memory, 0xDD, malloc_usable_size(memory));
        std::free(memory);
    }
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { operator delete(memory); }
[[gnu::noinline]] void operator delete(void* memory, const std::nothrow_t&) noexcept { operator delete(memory); }

namespace {

// An executor that lets something else happen before it runs what it is given: all that another thread could do just
// then.
struct Interrupting {
    std::function<void()>* interrupt;

    template <class Function>
    void execute(Function&& function) const {
        (*interrupt)();
        std::forward<Function>(function)();
    }
    [[nodiscard]] Interrupting require(asio::execution::blocking_t::never_t) const noexcept { return *this; }
    [[nodiscard]] static constexpr asio::execution::blocking_t query(asio::execution::blocking_t) noexcept {
        return asio::execution::blocking_t::never;
    }
    friend bool operator==(const Interrupting&, const Interrupting&) noexcept = default;
};

}  // namespace

TEST_CASE("A slot may be destroyed while the end of its last lease is still being carried out", "[H11][R9][R12]") {
    SlotBench bench;
    FakeLease held = bench.lease(a);
    // Wants the place of a, which drains for it ...
    Outcome<Generation> other;
    bench.slot->async_ensure_loaded(b, other.handler());
    // ... so that a request for that very residency waits, and fails as soon as the lease ends, on the thread that ends
    // it.
    std::thread destroys;
    std::function<void()> interrupt = [&] { destroys = std::thread([&bench] { bench.slot.reset(); }); };
    Outcome<FakeLease> expecting;
    RequestOptions options;
    options.expected_generation = held.generation();
    bench.slot->async_acquire(a, options, asio::bind_executor(Interrupting{&interrupt}, expecting.handler()));
    bench.run();
    REQUIRE(other.calls() == 0);
    REQUIRE(expecting.calls() == 0);

    held.release();
    destroys.join();
    bench.run();
    CHECK(expecting.calls() == 1);
    CHECK(expecting.code() == errc::model_changed);
    CHECK(other.calls() == 1);
    CHECK(other.code() == errc::shutting_down);
    CHECK(bench.world->counts().live == 0);
    bench.check_nothing_left();
}

TEST_CASE("A manager may be destroyed as soon as its shutdown has completed, while the start of that still runs",
          "[H11][R9][R12]") {
    // With threads of its own.
    using Manager = ModelManager<testing::FakeEmbeddingBackend, testing::FakeRerankerBackend>;
    const auto world = std::make_shared<FakeWorld>();
    auto manager = std::make_unique<Manager>(testing::FakeEmbeddingBackend(world), testing::FakeRerankerBackend(world),
                                             ManagerOptions{.reranker = {.max_leases = 1}});
    Lease<testing::FakeReranker> held = manager->reranker().acquire(a);
    Outcome<ShutdownReport> report;
    // What happens on other threads while this one is in the start of the shutdown, and fails a waiter.
    std::thread destroys;
    std::function<void()> interrupt = [&] {
        held.release();
        destroys = std::thread([&] {
            report.wait();
            manager.reset();
        });
    };
    Outcome<Lease<testing::FakeReranker>> refused;
    manager->reranker().async_acquire(a, asio::bind_executor(Interrupting{&interrupt}, refused.handler()));

    manager->async_shutdown(report.handler());
    destroys.join();
    CHECK(manager == nullptr);
    CHECK(refused.code() == errc::shutting_down);
    CHECK(report.value().clean());
    CHECK(world->counts().live == 0);
    CHECK(world.use_count() == 1);
}

namespace {

// A backend whose destructor takes long enough for something else to happen.
struct SlowToGo {
    using model_type = FakeModel;

    SlowToGo(std::shared_ptr<FakeWorld> world, std::function<void()>& at_its_end)
        : backend(std::move(world)), meanwhile(&at_its_end) {}
    SlowToGo(SlowToGo&& other) noexcept
        : backend(std::move(other.backend)), meanwhile(std::exchange(other.meanwhile, nullptr)) {}
    SlowToGo& operator=(SlowToGo&&) = delete;
    ~SlowToGo() {
        if (meanwhile != nullptr) {
            (*meanwhile)();
        }
    }
    std::unique_ptr<FakeModel> load(const ModelKey& key, LoadContext& context) { return backend.load(key, context); }

    PlainBackend backend;
    std::function<void()>* meanwhile;
};

}  // namespace

TEST_CASE("The control context may end once its slot is destroyed, while the last owner of the shell still goes",
          "[H11]") {
    VirtualClock::reset();
    const auto world = std::make_shared<FakeWorld>();
    auto control = std::make_unique<asio::io_context>();
    asio::io_context loading;
    bool destroyed = false;
    std::function<void()> meanwhile = [&] {
        control.reset();
        destroyed = true;
    };
    std::optional<ModelSlot<SlowToGo, VirtualClock>> slot(
        std::in_place, SlowToGo(world, meanwhile), SlotOptions{.keep_alive = 1min},
        Executors{control->get_executor(), loading.get_executor(), loading.get_executor()});
    // The alarm has rung once: Asio's timer would touch its context when it is destroyed.
    Outcome<Generation> loaded;
    slot->async_ensure_loaded(a, loaded.handler());
    run_ready(*control, loading);
    REQUIRE(loaded.calls() == 1);
    VirtualClock::advance(1min);
    run_ready(*control, loading);
    REQUIRE(world->counts().live == 0);
    // A load is on its way when the slot goes, and owns what is left of it.
    Outcome<Generation> other;
    slot->async_ensure_loaded(b, other.handler());
    slot.reset();
    run_ready(*control);
    CHECK(other.code() == errc::shutting_down);
    REQUIRE_FALSE(destroyed);
    run_ready(loading);
    CHECK(destroyed);
    CHECK(world->counts().live == 0);
}

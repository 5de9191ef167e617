// H16: what a completion handler finds when it is called, and what its moves and its destructor may do.

#include "support/bench.hpp"

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>

#include <memory>
#include <utility>

namespace handlers_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a");
const ModelKey b("b");

// Calls the library whenever it is moved or destroyed, which would never return if that happened under the slot's
// mutex.
template <class Inner>
class Touchy {
public:
    Touchy(SlotBench& bench, Inner inner) : bench_(&bench), inner_(std::move(inner)) {}
    Touchy(Touchy&& other) noexcept : bench_(other.bench_), inner_(std::move(other.inner_)) { touch(); }
    Touchy(const Touchy& other) : bench_(other.bench_), inner_(other.inner_) { touch(); }
    Touchy& operator=(Touchy&&) = delete;
    ~Touchy() { touch(); }

    template <class... Results>
    void operator()(Results&&... results) {
        touch();
        inner_(std::forward<Results>(results)...);
    }

private:
    void touch() const noexcept {
        if (bench_->slot) {
            (void)bench_->slot->status();
            (void)bench_->slot->try_acquire(ModelKey("unknown"));
        }
    }

    SlotBench* bench_;
    Inner inner_;
};

}  // namespace

TEST_CASE("The cancellation slot is cleared on the handler's executor just before the call", "[H16]") {
    SlotBench bench;
    asio::io_context elsewhere;
    asio::cancellation_signal signal;
    int calls = 0;
    bench.slot->async_acquire(
        a, asio::bind_cancellation_slot(signal.slot(),
                                        asio::bind_executor(elsewhere, [&](std::exception_ptr error, FakeLease) {
                                            ++calls;
                                            CHECK_FALSE(error);
                                            CHECK_FALSE(signal.slot().has_handler());
                                            // Too late, and so without effect.
                                            signal.emit(asio::cancellation_type::terminal);
                                        })));
    CHECK(signal.slot().has_handler());
    bench.run();
    // Granted and posted, not called yet: only the handler's own executor may touch the slot.
    CHECK(calls == 0);
    CHECK(signal.slot().has_handler());
    CHECK(bench.slot->status().leases == 1);
    // Emitted here and now it finds the request completed.
    signal.emit(asio::cancellation_type::terminal);
    bench.run();
    run_ready(elsewhere);
    CHECK(calls == 1);
    signal.emit(asio::cancellation_type::terminal);
    CHECK(bench.slot->status().leases == 0);
    CHECK(is_idle(elsewhere));
    bench.check_end();
}

TEST_CASE("Every operation clears its cancellation slot before its handler is called", "[H16]") {
    SlotBench bench;
    ManagerBench managers;
    asio::cancellation_signal signals[6];
    int cleared = 0;
    const auto handler = [&](int index) {
        return asio::bind_cancellation_slot(signals[index].slot(), [&, index](std::exception_ptr, auto&&...) {
            cleared += signals[index].slot().has_handler() ? 0 : 1;
        });
    };
    bench.slot->async_acquire(a, handler(0));
    bench.slot->async_ensure_loaded(a, handler(1));
    managers.manager->async_embed(a, {"text"}, handler(2));
    managers.manager->async_rerank(a, "query", {"text"}, handler(3));
    for (int index = 0; index < 4; ++index) {
        CHECK(signals[index].slot().has_handler());
    }
    bench.run();
    managers.run();
    bench.slot->async_unload(a, handler(4));
    bench.slot->async_shutdown(handler(5));
    CHECK(signals[4].slot().has_handler());
    CHECK(signals[5].slot().has_handler());
    bench.run();
    CHECK(cleared == 6);
    managers.check_end();
    bench.check_end();
}

TEST_CASE("Cancelling before the start and after the end is harmless", "[H16][R9]") {
    SlotBench bench;
    Request<FakeLease> request;
    request.cancel();
    bench.slot->async_acquire(a, request.token());
    bench.run();
    // Emitted while nothing listened: the request never heard of it.
    CHECK(request.code() == boost::system::error_code());
    request.cancel();
    request.cancel(asio::cancellation_type::all);
    bench.run();
    CHECK(request.calls() == 1);
    CHECK(request.value()->serial() == 1);
    request.value().release();
    bench.check_end();
}

TEST_CASE("Types of cancellation: any ends a wait, and none is none", "[H16]") {
    for (const auto type : {asio::cancellation_type::terminal, asio::cancellation_type::partial,
                            asio::cancellation_type::total, asio::cancellation_type::all}) {
        SlotBench bench;
        Request<FakeLease> lease;
        Request<Generation> ensured;
        bench.slot->async_acquire(a, lease.token());
        bench.slot->async_ensure_loaded(a, ensured.token());
        lease.cancel(asio::cancellation_type::none);
        ensured.cancel(asio::cancellation_type::none);
        run_ready(bench.control);
        CHECK(lease.calls() + ensured.calls() == 0);
        lease.cancel(type);
        ensured.cancel(type);
        // Never inside the call that cancels either.
        CHECK(lease.calls() + ensured.calls() == 0);
        CHECK(bench.slot->status().waiting == 0);
        run_ready(bench.control);
        CHECK(lease.code() == asio::error::operation_aborted);
        CHECK(ensured.code() == asio::error::operation_aborted);
        bench.run();
        CHECK(lease.calls() + ensured.calls() == 2);
        CHECK(bench.slot->status().counters.cancelled == 2);
        bench.check_end();
    }
}

TEST_CASE("Handlers are moved and destroyed without a mutex held", "[H16][R10]") {
    SlotBench bench({.max_leases = 1, .max_queue = 4});
    const auto touchy = [&](auto handler) { return Touchy<decltype(handler)>(bench, std::move(handler)); };
    Outcome<FakeLease> granted;
    Outcome<FakeLease> waits;
    Outcome<FakeLease> refused;
    Outcome<FakeLease> late;
    Outcome<Generation> ensured;
    Outcome<> unloaded;
    Outcome<ShutdownReport> report;
    bench.slot->async_acquire(a, touchy(granted.handler()));
    bench.slot->async_ensure_loaded(a, touchy(ensured.handler()));
    bench.slot->async_acquire(a, touchy(waits.handler()));
    bench.slot->async_acquire(b, {.timeout = 1s}, touchy(late.handler()));
    bench.slot->async_acquire(b, touchy(refused.handler()));
    bench.run();
    bench.advance(1s);
    CHECK(late.code() == errc::timed_out);
    CHECK(refused.code() == errc::overloaded);
    bench.slot->async_unload(a, touchy(unloaded.handler()));
    granted.value().release();
    bench.run();
    waits.value().release();
    bench.slot->async_shutdown(touchy(report.handler()));
    bench.run();
    CHECK(granted.calls() + waits.calls() + refused.calls() + late.calls() + ensured.calls() + unloaded.calls() +
              report.calls() ==
          7);
    bench.check_end();
}

TEST_CASE("Handlers that are destroyed uncalled are destroyed without a mutex held", "[H16][R10]") {
    VirtualClock::reset();
    Outcome<FakeLease> waits;
    SlotBench outer;
    auto context = std::make_unique<asio::io_context>();
    outer.slot.emplace(PlainBackend(outer.world), SlotOptions{}, Executors::all(context->get_executor()));
    outer.slot->async_acquire(a, Touchy(outer, waits.handler()));
    outer.slot.reset();
    context.reset();
    CHECK(waits.calls() == 0);
    CHECK_FALSE(waits.held());
    outer.check_nothing_left();
}

TEST_CASE("Models and observers are destroyed without a mutex held", "[H16][R10]") {
    SlotBench bench;
    int unloads = 0;
    bench.world->on(FakeStep::unload, [&](const FakeCall&) {
        ++unloads;
        if (bench.slot) {
            CHECK(bench.slot->status().residents.size() == 1);
            CHECK_FALSE(bench.slot->try_acquire(a));
        }
    });
    bench.lease(a).release();
    bench.lease(b).release();
    Outcome<> unloaded;
    bench.slot->async_unload(unloaded.handler());
    bench.run();
    CHECK(unloaded.calls() == 1);
    CHECK(unloads == 2);
    // In place, by the thread that drops the last lease.
    FakeLease held = bench.lease(a);
    bench.slot.reset();
    held.release();
    CHECK(unloads == 3);
    bench.check_nothing_left();
}

TEST_CASE("Nothing completes inside the call that starts it", "[H16][R9]") {
    // Handlers of executors that would run what they are given at once, if they were only dispatched to.
    ManagerBench bench;
    auto& models = *bench.manager;
    Outcome<Embeddings> invalid;
    Outcome<Embeddings> empty;
    Outcome<Embeddings> first;
    Outcome<Generation> known;
    Outcome<Lease<testing::FakeEmbedder>> ready;
    Outcome<> unloaded;
    Outcome<ShutdownReport> report;
    models.async_embed(a, {"text"}, first.handler());
    bench.run();
    std::size_t inside = 0;
    asio::post(bench.control, [&] {
        models.async_embed(ModelKey(), {"text"}, invalid.handler());
        models.async_embed(a, {}, empty.handler());
        models.embedding().async_acquire(a, ready.handler());
        models.embedding().async_ensure_loaded(a, known.handler());
        models.embedding().async_unload(b, unloaded.handler());
        models.reranker().async_shutdown(report.handler());
        inside = invalid.calls() + empty.calls() + ready.calls() + known.calls() + unloaded.calls() + report.calls();
    });
    bench.run();
    CHECK(inside == 0);
    CHECK(invalid.calls() + empty.calls() + ready.calls() + known.calls() + unloaded.calls() + report.calls() == 6);
    ready.value().release();
    bench.check_end();
}

}  // namespace handlers_test

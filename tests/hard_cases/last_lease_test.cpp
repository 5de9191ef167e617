// H11: the end of a lease while another thread destroys the slot. Freed memory is overwritten in this program, so that who still uses it
// is found without a sanitizer.

#include "support/bench.hpp"

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/execution.hpp>

#include <malloc.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>
#include <utility>

using namespace residency;
using namespace residency::test;

void* operator new(std::size_t size) {
    if (void* const memory = std::malloc(size)) {
        return memory;
    }
    throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
    if (memory != nullptr) {
        std::memset(memory, 0xDD, malloc_usable_size(memory));
        std::free(memory);
    }
}
void operator delete(void* memory, std::size_t) noexcept { operator delete(memory); }

namespace {

const ModelKey a("a");
const ModelKey b("b");

// An executor that lets something else happen before it runs what it is given: all that another thread could do just then.
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
    // ... so that who wants that very residency waits, and is told as soon as the lease ends, by whoever ends it.
    std::function<void()> interrupt = [&bench] {
        bench.slot.reset();
        bench.run();
    };
    Outcome<FakeLease> expecting;
    RequestOptions options;
    options.expected_generation = held.generation();
    bench.slot->async_acquire(a, options, asio::bind_executor(Interrupting{&interrupt}, expecting.handler()));
    bench.run();
    REQUIRE(other.calls() == 0);
    REQUIRE(expecting.calls() == 0);

    held.release();
    bench.run();
    CHECK(expecting.calls() == 1);
    CHECK(expecting.code() == errc::model_changed);
    CHECK(other.calls() == 1);
    CHECK(other.code() == errc::shutting_down);
    CHECK(bench.world->counts().live == 0);
    bench.check_nothing_left();
}

// SerialExecutor: one after the other, in order; and what becomes of functions that cannot be run.

#include "residency/runtime/serial_executor.hpp"

#include "support/catch.hpp"

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

namespace serial_executor_test {

using namespace residency;
using runtime::SerialExecutor;

namespace {

static_assert(asio::execution::is_executor<SerialExecutor>::value);

// An executor that refuses the next function while `refuses` is set.
class Refusing {
public:
    Refusing(asio::io_context& context, bool& refuses) : context_(&context), refuses_(&refuses) {}

    [[nodiscard]] asio::execution_context& query(asio::execution::context_t /*property*/) const noexcept {
        return *context_;
    }
    [[nodiscard]] static constexpr asio::execution::blocking_t::never_t query(
        asio::execution::blocking_t /*property*/) noexcept {
        return {};
    }
    [[nodiscard]] Refusing require(asio::execution::blocking_t::never_t /*property*/) const noexcept { return *this; }
    template <class Function>
    void execute(Function&& function) const {
        if (std::exchange(*refuses_, false)) {
            throw std::runtime_error("no more of them");
        }
        asio::post(*context_, std::forward<Function>(function));
    }
    friend bool operator==(const Refusing& left, const Refusing& right) noexcept {
        return left.context_ == right.context_;
    }

private:
    asio::io_context* context_;
    bool* refuses_;
};

struct Bench {
    // What it is given holds a copy of `held`, so that it is seen how many are left.
    void post(std::function<void()> function) {
        asio::post(serial, [function = std::move(function), kept = held] { function(); });
    }
    [[nodiscard]] long left() const { return held.use_count() - 1; }

    asio::io_context context{1};
    bool refuses = false;
    SerialExecutor serial = SerialExecutor::over(Refusing(context, refuses), this);
    std::shared_ptr<int> held = std::make_shared<int>();
    std::vector<int> ran{};
};

}  // namespace

TEST_CASE("Functions run in order, and none inside the call that posts it", "[H39]") {
    Bench bench;
    // More than have one turn.
    std::vector<int> expected;
    for (int index = 0; index < 50; ++index) {
        bench.post([&bench, index] { bench.ran.push_back(index); });
        expected.push_back(index);
    }
    CHECK(bench.ran.empty());
    bench.context.poll();
    CHECK(bench.ran == expected);
    CHECK(bench.left() == 0);
}

TEST_CASE("What is dispatched in its turn runs at once, what is posted there after it", "[H39]") {
    Bench bench;
    bench.post([&] {
        asio::post(bench.serial, [&] { bench.ran.push_back(3); });
        asio::dispatch(bench.serial, [&] { bench.ran.push_back(1); });
        bench.ran.push_back(2);
    });
    asio::dispatch(bench.serial, [&] { bench.ran.push_back(4); });
    bench.context.poll();
    CHECK(bench.ran == std::vector<int>{1, 2, 4, 3});
}

TEST_CASE("A function is user code of the owner", "[H39][H15]") {
    Bench bench;
    bench.post([&] { bench.ran.push_back(runtime::UserCodeScope::active(&bench) ? 1 : 0); });
    bench.context.poll();
    CHECK(bench.ran == std::vector<int>{1});
    CHECK_FALSE(runtime::UserCodeScope::active(&bench));
}

TEST_CASE("What a function throws ends that function alone", "[H39]") {
    Bench bench;
    bench.post([] { throw std::runtime_error("no"); });
    bench.post([&] { bench.ran.push_back(1); });
    CHECK_NOTHROW(bench.context.poll());
    CHECK(bench.ran == std::vector<int>{1});
    CHECK(bench.left() == 0);
}

TEST_CASE("A function that the other executor refuses is destroyed, and the next one runs", "[H39]") {
    Bench bench;
    bench.refuses = true;
    CHECK_NOTHROW(bench.post([&] { bench.ran.push_back(1); }));
    CHECK(bench.left() == 0);
    bench.post([&] { bench.ran.push_back(2); });
    bench.context.poll();
    CHECK(bench.ran == std::vector<int>{2});
}

TEST_CASE("Where a second turn is refused, what waits for it is destroyed", "[H39]") {
    Bench bench;
    for (int index = 0; index < 20; ++index) {
        bench.post([&bench, index] { bench.ran.push_back(index); });
    }
    bench.refuses = true;
    bench.context.poll();
    // So many as one turn has.
    CHECK(bench.ran.size() == 16);
    CHECK(bench.left() == 0);
    bench.post([&] { bench.ran.push_back(100); });
    bench.context.restart();
    bench.context.poll();
    CHECK(bench.ran.back() == 100);
}

TEST_CASE("What waits is destroyed with the context", "[H39]") {
    const auto held = std::make_shared<int>();
    {
        asio::io_context context;
        const SerialExecutor serial = SerialExecutor::over(context.get_executor(), nullptr);
        for (int count = 0; count < 3; ++count) {
            asio::post(serial, [held, serial] {});
        }
        CHECK(held.use_count() == 4);
    }
    CHECK(held.use_count() == 1);
}

TEST_CASE("On many threads one function runs at a time, and none is lost", "[H39]") {
    constexpr int each = 2000;
    std::atomic<int> inside{0};
    std::atomic<bool> overlapped{false};
    // Guarded by the turns alone.
    int ran = 0;
    {
        asio::thread_pool pool(4);
        const SerialExecutor serial = SerialExecutor::over(pool.get_executor(), nullptr);
        std::vector<std::thread> threads;
        for (int thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&] {
                for (int count = 0; count < each; ++count) {
                    asio::post(serial, [&] {
                        overlapped = overlapped || inside.exchange(1) != 0;
                        ++ran;
                        inside = 0;
                    });
                }
            });
        }
        for (std::thread& thread : threads) {
            thread.join();
        }
        pool.join();
    }
    CHECK_FALSE(overlapped);
    CHECK(ran == 4 * each);
}

TEST_CASE("What may run at once does so on a thread of the other executor's, in its turn", "[H39]") {
    asio::io_context context(1);
    const SerialExecutor serial = SerialExecutor::over(context.get_executor(), nullptr);
    std::vector<int> ran;
    const auto note = [&ran](int number) { return [&ran, number] { ran.push_back(number); }; };
    asio::dispatch(serial, note(1));
    CHECK(ran.empty());  // This is not one of its threads.
    context.poll();
    CHECK(ran == std::vector<int>{1});
    asio::post(context, [&] {
        asio::dispatch(serial, [&] {
            asio::dispatch(serial, note(2));
            asio::post(serial, note(4));
            ran.push_back(3);
        });
        CHECK(ran == std::vector<int>{1, 2, 3, 4});
        asio::post(serial, note(5));
        asio::dispatch(serial, note(6));  // The fifth has the turn.
        CHECK(ran.size() == 4);
    });
    context.restart();
    context.poll();
    CHECK(ran == std::vector<int>{1, 2, 3, 4, 5, 6});
}

}  // namespace serial_executor_test

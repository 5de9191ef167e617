// A thread that cannot be made, at each of the threads that a manager or a slot makes: then it is not made either, and
// those that were have ended.

#include "support/bench.hpp"
#include "support/threads.hpp"

#include <memory>
#include <system_error>
#include <type_traits>

namespace thread_creation_test {

using namespace residency;
using namespace residency::test;

namespace {

using Manager = ModelManager<testing::FakeEmbeddingBackend, testing::FakeRerankerBackend>;
using Slot = ModelSlot<PlainBackend>;

std::unique_ptr<Manager> make(const std::shared_ptr<FakeWorld>& world, const Observer& observer,
                              std::type_identity<Manager>) {
    ManagerOptions options;
    options.observer = observer;
    return std::make_unique<Manager>(testing::FakeEmbeddingBackend(world), testing::FakeRerankerBackend(world),
                                     options);
}
std::unique_ptr<Slot> make(const std::shared_ptr<FakeWorld>& world, const Observer& observer,
                           std::type_identity<Slot>) {
    return std::make_unique<Slot>(PlainBackend(world), SlotOptions(), Executors(), observer);
}

}  // namespace

TEMPLATE_TEST_CASE("Where a thread cannot be made, whichever it is, nothing is, and none is left behind", "[H12][R12]",
                   Manager, Slot) {
    constexpr std::type_identity<TestType> which;
    threads_made = 0;
    (void)make(std::make_shared<FakeWorld>(), {}, which);
    const int wanted = threads_made;
    // Control, one for each slot, and at least one for calls.
    CHECK(wanted >= (std::is_same_v<TestType, Manager> ? 4 : 3));
    for (int possible = 0; possible < wanted; ++possible) {
        INFO("thread " << possible + 1 << " cannot be made");
        const auto world = std::make_shared<FakeWorld>();
        const auto token = std::make_shared<int>();
        threads_made = 0;
        threads_left = possible;
        std::error_code code;
        try {
            (void)make(
                world, [token](const Event&) {}, which);
        } catch (const std::system_error& error) {
            code = error.code();
        }
        threads_left = -1;
        CHECK(code == std::errc::resource_unavailable_try_again);
        CHECK(threads_made == possible);
        // Its backends are gone, and with each thread what it held of the observer.
        CHECK(world.use_count() == 1);
        CHECK(token.use_count() == 1);
        // The next one is made.
        CHECK(make(world, {}, which)->shutdown().clean());
        CHECK(world.use_count() == 1);
    }
}

}  // namespace thread_creation_test

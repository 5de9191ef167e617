// Descriptors that run out while a manager or a slot is made: then it is not made either, and nothing of it is left.

#include "support/bench.hpp"

#include <boost/asio/io_context.hpp>

#include <cerrno>
#include <filesystem>
#include <iterator>
#include <memory>
#include <type_traits>
#include <vector>

#include <sys/resource.h>
#include <unistd.h>

namespace descriptors_test {

using namespace residency;
using namespace residency::test;

namespace {

using Manager = ModelManager<testing::FakeEmbeddingBackend, testing::FakeRerankerBackend>;
using Slot = ModelSlot<PlainBackend>;

std::unique_ptr<Manager> make(const std::shared_ptr<FakeWorld>& world, const Executors& executors,
                              const Observer& observer, std::type_identity<Manager>) {
    ManagerOptions options;
    options.observer = observer;
    return std::make_unique<Manager>(testing::FakeEmbeddingBackend(world), testing::FakeRerankerBackend(world), options,
                                     executors);
}
std::unique_ptr<Slot> make(const std::shared_ptr<FakeWorld>& world, const Executors& executors,
                           const Observer& observer, std::type_identity<Slot>) {
    return std::make_unique<Slot>(PlainBackend(world), SlotOptions(), executors, observer);
}

// As long as it lives, this process can open as many files as were given free, and no more.
class FewDescriptors {
public:
    explicit FewDescriptors(int free) {
        getrlimit(RLIMIT_NOFILE, &before_);
        const int next = dup(0);
        close(next);
        rlimit few = before_;
        few.rlim_cur = static_cast<rlim_t>(next + 64);
        setrlimit(RLIMIT_NOFILE, &few);
        for (int taken = dup(0); taken >= 0; taken = dup(0)) {
            taken_.push_back(taken);
        }
        for (; free > 0; --free) {
            close(taken_.back());
            taken_.pop_back();
        }
    }
    FewDescriptors(const FewDescriptors&) = delete;
    FewDescriptors& operator=(const FewDescriptors&) = delete;
    ~FewDescriptors() {
        for (const int taken : taken_) {
            close(taken);
        }
        setrlimit(RLIMIT_NOFILE, &before_);
    }

private:
    rlimit before_{};
    std::vector<int> taken_{};
};

std::ptrdiff_t entries(const char* folder) {
    return std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator());
}

template <class Made>
void run_out_of_descriptors(bool host) {
#if defined(__SANITIZE_ADDRESS__)
    WARN("not run: UndefinedBehaviorSanitizer needs a descriptor to look at an object's type");
    return;
#endif
    constexpr std::type_identity<Made> which;
    const std::ptrdiff_t files = entries("/proc/self/fd");
    const std::ptrdiff_t threads = entries("/proc/self/task");
    int failed = 0;
    for (int free = 0; free < 64; ++free) {
        INFO(free << " descriptors are free");
        const auto world = std::make_shared<FakeWorld>();
        const auto token = std::make_shared<int>();
        boost::system::error_code code;
        {
            boost::asio::io_context context;
            const Executors executors = host ? Executors::all(context.get_executor()) : Executors();
            const FewDescriptors few(free);
            try {
                (void)make(
                    world, executors, [token](const Event&) {}, which);
            } catch (const boost::system::system_error& error) {
                code = error.code();
            }
        }
        CHECK(world.use_count() == 1);
        CHECK(token.use_count() == 1);
        CHECK(entries("/proc/self/fd") == files);
        CHECK(entries("/proc/self/task") == threads);
        if (!code) {
            break;
        }
        ++failed;
        CHECK(code == boost::system::errc::too_many_files_open);
    }
    // One for the reactor, one for what wakes it.
    CHECK(failed >= 2);
    CHECK(failed < 64);
}

}  // namespace

TEMPLATE_TEST_CASE("Where descriptors run out, the constructor says so and nothing is left behind", "[R12]", Manager,
                   Slot) {
    run_out_of_descriptors<TestType>(false);
}

TEMPLATE_TEST_CASE("So it does where the host's context has yet to open its descriptors", "[R12]", Manager, Slot) {
    run_out_of_descriptors<TestType>(true);
}

}  // namespace descriptors_test

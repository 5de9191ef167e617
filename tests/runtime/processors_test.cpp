#include "residency/runtime/processors.hpp"

#include "residency/runtime/executors.hpp"
#include "support/catch.hpp"

using residency::usable_processors;
using residency::runtime::system_processors;

TEST_CASE("usable_processors: at least one, and never an exception", "[H27]") {
    CHECK(usable_processors() >= 1);
    CHECK(system_processors() >= 1);
    static_assert(noexcept(usable_processors()));
}

#if defined(__linux__)

#include "support/memory.hpp"
#include "support/one_processor.hpp"
#include "support/temporary_folder.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sched.h>
#include <string>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>

using namespace residency::test;
using residency::runtime::affinity_processors;
using residency::runtime::default_max_calls;
using residency::runtime::processors_within_quota;

namespace {

// A system with `Processors` bits in its sets, all of them set, or every other.
template <std::size_t Processors, std::size_t Step>
int affinity_of(pid_t /*thread*/, std::size_t size, cpu_set_t* set) {
    if (size * 8 < Processors) {
        errno = EINVAL;
        return -1;
    }
    CPU_ZERO_S(size, set);
    for (std::size_t processor = 0; processor < Processors; processor += Step) {
        CPU_SET_S(processor, size, set);
    }
    return 0;
}

template <int Error>
int refused(pid_t /*thread*/, std::size_t /*size*/, cpu_set_t* /*set*/) {
    errno = Error;
    return -1;
}

int no_processor(pid_t /*thread*/, std::size_t size, cpu_set_t* set) {
    CPU_ZERO_S(size, set);
    return 0;
}

// What `found` gives in a process of its own that has called `enter`; 255 if that gave false.
std::size_t in_child(const std::function<bool()>& enter, const std::function<std::size_t()>& found) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::_exit(enter() ? static_cast<int>(std::min<std::size_t>(found(), 254)) : 255);
    }
    REQUIRE(child > 0);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    return static_cast<std::size_t>(WEXITSTATUS(status));
}

// A control group of the system with a quota of half a processor, and a group in it without one. Both are removed at
// the end.
class HalfProcessor {
public:
    HalfProcessor() {
        const std::string name = "/residency_test_" + std::to_string(::getpid());
        make("/sys/fs/cgroup/cpu" + name, "cpu.cfs_quota_us", "50000") ||
            make("/sys/fs/cgroup/cpu,cpuacct" + name, "cpu.cfs_quota_us", "50000") ||
            make("/sys/fs/cgroup" + name, "cpu.max", "50000 100000");
    }
    ~HalfProcessor() {
        remove("/inner");
        remove("");
    }
    HalfProcessor(const HalfProcessor&) = delete;
    HalfProcessor& operator=(const HalfProcessor&) = delete;

    [[nodiscard]] bool made() const { return made_; }
    // Moves this process to the group, or to that in it.
    [[nodiscard]] bool enter(const std::string& group) const {
        return write(folder_ + group + "/cgroup.procs", std::to_string(::getpid()));
    }

private:
    static bool write(const std::string& path, const std::string& text) {
        std::ofstream file(path, std::ios::in);  // No file is made where there is none.
        return (file << text << std::flush).good();
    }
    bool make(const std::string& folder, const std::string& file, const std::string& quota) {
        std::error_code error;
        if (!std::filesystem::create_directory(folder, error)) {
            return false;
        }
        folder_ = folder;
        std::filesystem::create_directory(folder + "/inner", error);
        made_ = !error && write(folder + "/" + file, quota);
        if (!made_) {
            remove("/inner");
            remove("");
        }
        return made_;
    }
    void remove(const std::string& group) const {
        if (!folder_.empty()) {
            ::rmdir((folder_ + group).c_str());
        }
    }

    std::string folder_{};
    bool made_ = false;
};

}  // namespace

TEST_CASE("affinity_processors: a set as large as the system's, however large that is", "[H27]") {
    CHECK(affinity_processors(affinity_of<1, 1>) == 1);
    CHECK(affinity_processors(affinity_of<1024, 1>) == 1024);
    CHECK(affinity_processors(affinity_of<1025, 1>) == 1025);
    CHECK(affinity_processors(affinity_of<5000, 2>) == 2500);
    CHECK(affinity_processors(affinity_of<100'000, 1>) == 100'000);
}

TEST_CASE("affinity_processors: what the standard library knows where the system says nothing", "[H27]") {
    CHECK(affinity_processors(refused<EINVAL>) == system_processors());
    CHECK(affinity_processors(refused<EPERM>) == system_processors());
    CHECK(affinity_processors(refused<ENOSYS>) == system_processors());
    CHECK(affinity_processors(no_processor) == 1);
}

TEST_CASE("usable_processors: those that the calling thread may run on", "[H27]") {
    std::size_t found = 0;
    std::size_t calls = 0;
    const bool restricted = on_one_processor([&] {
        found = usable_processors();
        calls = default_max_calls(1000);
    });
    if (!restricted) {
        skip("this process may run on one processor only, or cannot change that");
        return;
    }
    CHECK(found == 1);
    CHECK(calls == 1);
}

TEST_CASE("processors_within_quota: the lesser of affinity and quota, at least one", "[H27]") {
    const TemporaryFolder folder;
    const std::string root = folder.path().string();
    const auto with_quota = [&](const std::string& cpu_max) {
        std::filesystem::create_directories(root + "/proc/self");
        std::filesystem::create_directories(root + "/c");
        std::ofstream(root + "/proc/self/cgroup") << "0::/\n";
        std::ofstream(root + "/proc/self/mountinfo") << "1 0 0:1 / /c rw - cgroup2 cgroup2 rw\n";
        std::ofstream(root + "/c/cpu.max") << cpu_max;
    };
    CHECK(processors_within_quota(8, root) == 8);
    CHECK(processors_within_quota(0, root) == 1);
    with_quota("350000 100000\n");
    CHECK(processors_within_quota(8, root) == 4);
    CHECK(processors_within_quota(3, root) == 3);
    with_quota("1000 100000\n");
    CHECK(processors_within_quota(8, root) == 1);
    with_quota("18446744073709551615 1\n");
    CHECK(processors_within_quota(8, root) == 8);
    with_quota("max 100000\n");
    CHECK(processors_within_quota(8, root) == 8);
    with_quota("150000 100000\n");
    for (const FaultPattern scarcity : {FaultPattern::only, FaultPattern::from}) {
        for (std::size_t nth = 1, failures = 1; failures != 0; ++nth) {
            std::size_t found = 0;
            {
                const AllocationFaults scarce(nth, scarcity);
                found = processors_within_quota(8, root);
                failures = scarce.failures();
            }
            INFO("allocation " << nth);
            CHECK(found == (failures != 0 ? 8 : 2));
        }
    }
}

TEST_CASE("usable_processors: what a control group of the system allows", "[H27]") {
    if (usable_processors() < 2) {
        skip("this process may use one processor only");
        return;
    }
    const HalfProcessor group;
    if (!group.made()) {
        skip("no control group with a CPU quota can be made here: it takes root, and a writable /sys/fs/cgroup");
        return;
    }
    CHECK(in_child([] { return true; }, usable_processors) == std::min<std::size_t>(usable_processors(), 254));
    CHECK(in_child([&] { return group.enter(""); }, usable_processors) == 1);
    CHECK(in_child([&] { return group.enter("/inner"); }, usable_processors) == 1);
    CHECK(in_child([&] { return group.enter("/inner"); }, [] { return default_max_calls(1000); }) == 1);
}

#endif

// Memory pressure: what a control group's files say, what is decided of it, and what becomes of a budget over time.

#include "residency/pressure/cgroup.hpp"

#include "residency/memory_budget.hpp"
#include "residency/model_slot.hpp"
#include "residency/testing/fake_backend.hpp"
#include "residency/testing/outcome.hpp"
#include "residency/testing/virtual_clock.hpp"

#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

// Control groups are Linux's own.
#if defined(__linux__)

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

using namespace residency;
using namespace std::chrono_literals;
using detail::CgroupMemory;
using detail::CgroupMemoryReader;
using detail::CgroupReading;
using detail::PressureControl;
using detail::PressureStep;
using residency::test::skip;
using residency::test::TemporaryFolder;
using runtime::CgroupFolder;
using runtime::CgroupVersion;
using testing::advance;
using testing::run_ready;
using testing::VirtualClock;
namespace asio = boost::asio;

namespace {

constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();

// A folder that stands for the system's root, with the files that a system would have.
class Root {
public:
    Root& file(const std::string& path, const std::string& contents) {
        const std::filesystem::path whole = this->path() + path;
        std::filesystem::create_directories(whole.parent_path());
        std::ofstream(whole) << contents;
        return *this;
    }
    Root& group(const std::string& folder, const std::string& current, const std::string& high, const std::string& max,
                const std::string& inactive = "0") {
        return file(folder + "/memory.current", current + "\n")
            .file(folder + "/memory.high", high + "\n")
            .file(folder + "/memory.max", max + "\n")
            .file(folder + "/memory.stat", "anon 1\ninactive_file " + inactive + "\nactive_file 2\n");
    }
    Root& group_v1(const std::string& folder, const std::string& usage, const std::string& limit,
                   const std::string& inactive = "0") {
        return file(folder + "/memory.usage_in_bytes", usage + "\n")
            .file(folder + "/memory.limit_in_bytes", limit + "\n")
            .file(folder + "/memory.stat", "inactive_file 99\ntotal_inactive_file " + inactive + "\n");
    }
    // The process is in the group `/a` of version 2.
    Root& process(const std::string& group = "/a") {
        return file("/proc/self/cgroup", "0::" + group + "\n")
            .file("/proc/self/mountinfo", "41 31 0:38 / /c rw - cgroup2 cgroup2 rw\n");
    }
    void remove(const std::string& path) const { std::filesystem::remove_all(this->path() + path); }
    [[nodiscard]] std::string path() const { return folder_.path().string(); }
    [[nodiscard]] CgroupReading read(const std::string& group, CgroupVersion version = CgroupVersion::v2) const {
        CgroupMemoryReader reader;
        reader.read({version, path() + "/c", group});
        return std::move(reader).reading();
    }
    // Of a root of its own, without what stands before the path.
    [[nodiscard]] std::string flaw(const std::string& group) const {
        std::string flaw = read(group).flaw;
        if (const std::size_t at = flaw.find(path()); at != std::string::npos) {
            flaw.erase(at, path().size());
        }
        return flaw;
    }

private:
    const TemporaryFolder folder_{};
};

std::optional<CgroupMemory> memory(std::uint64_t used, std::uint64_t limit) { return CgroupMemory{used, limit}; }

// A budget that does what `TrimmableBudget` says.
class Budget {
public:
    explicit Budget(std::size_t limit) : limit_(limit) {}

    [[nodiscard]] std::size_t limit() const noexcept { return limit_; }
    [[nodiscard]] std::size_t used() const {
        std::size_t sum = 0;
        for (const Resident& resident : residents_) {
            sum += resident.bytes;
        }
        return sum;
    }
    void set_limit(std::size_t limit) {
        throw_if_wanted();
        limit_ = limit;
        evict([this] { return used() <= limit_; });
    }
    void trim(std::size_t bytes) {
        throw_if_wanted();
        ++trims;
        evict([this, bytes, before = used()] { return before - used() >= bytes; });
    }

    void load(std::size_t bytes, bool in_use = false) { residents_.push_back({bytes, in_use}); }
    void release_all() {
        for (Resident& resident : residents_) {
            resident.in_use = false;
        }
    }
    [[nodiscard]] std::size_t size() const noexcept { return residents_.size(); }

    int trims = 0;
    int throws = 0;

private:
    struct Resident {
        std::size_t bytes;
        bool in_use;
    };

    void throw_if_wanted() {
        if (throws > 0) {
            --throws;
            throw std::bad_alloc();
        }
    }
    void evict(const std::function<bool()>& enough) {
        for (auto resident = residents_.begin(); resident != residents_.end() && !enough();) {
            resident = resident->in_use ? resident + 1 : residents_.erase(resident);
        }
    }

    std::size_t limit_;
    std::vector<Resident> residents_{};
};

// A budget of 100 bytes, watched in a group that may use 1000.
struct Bench {
    explicit Bench(CgroupPressureOptions options = {}) {
        VirtualClock::reset();
        root.process();
        use(0);
        options.root = root.path();
        pressure.emplace(context.get_executor(), budget, std::move(options));
    }

    void use(std::uint64_t bytes) { root.group("/c/a", std::to_string(bytes), "max", "1000"); }
    void look_at(std::uint64_t bytes) {
        use(bytes);
        advance(context, 1s);
    }

    Root root;
    asio::io_context context;
    std::shared_ptr<Budget> budget = std::make_shared<Budget>(100);
    std::optional<CgroupPressure<Budget, VirtualClock>> pressure;
};

}  // namespace

// -- Files ------------------------------------------------------------------------------------------------------------

TEST_CASE("a group uses what the kernel counts, less the pages of files that were not used lately") {
    Root root;
    root.group("/c/a", "700", "max", "1000", "200");
    CHECK(root.read("/a").memory == memory(500, 1000));
    CHECK(root.read("/a").flaw.empty());
    root.group("/c/a", "700", "max", "1000", "701");
    CHECK(root.read("/a").memory == memory(0, 1000));
}

TEST_CASE("a group may use the lesser of memory.high and memory.max") {
    Root root;
    CHECK(root.group("/c/a", "1", "800", "1000").read("/a").memory == memory(1, 800));
    CHECK(root.group("/c/a", "1", "1200", "1000").read("/a").memory == memory(1, 1000));
    CHECK(root.group("/c/a", "1", "800", "max").read("/a").memory == memory(1, 800));
    CHECK(root.group("/c/a", "1", "max", "0").read("/a").memory == memory(1, 0));
    const CgroupReading none = root.group("/c/a", "1", "max", "max").read("/a");
    CHECK_FALSE(none.memory);
    CHECK(none.flaw.empty());
}

TEST_CASE("of a group and its ancestors the fullest counts") {
    Root root;
    root.group("/c/a/b", "10", "max", "100").group("/c/a", "500", "max", "1000").group("/c", "600", "max", "max");
    CHECK(root.read("/a/b").memory == memory(500, 1000));
    root.group("/c/a/b", "60", "max", "100");
    CHECK(root.read("/a/b").memory == memory(60, 100));
    // Any is fuller than one that may use nothing is allowed to be.
    root.group("/c/a", "0", "max", "0");
    CHECK(root.read("/a/b").memory == memory(0, 0));
}

TEST_CASE("version 1 has other names for the same") {
    Root root;
    root.group_v1("/c/a", "700", "1000", "200");
    CHECK(root.read("/a", CgroupVersion::v1).memory == memory(500, 1000));
    // Its way to write that there is no limit.
    root.group_v1("/c/a", "700", "9223372036854771712");
    CHECK(root.read("/a", CgroupVersion::v1).memory == memory(700, 9223372036854771712U));
    CHECK(root.read("/a", CgroupVersion::v2).flaw == "no control group of this process says what memory it uses");
}

TEST_CASE("numbers up to the largest are read, and larger ones are none") {
    Root root;
    const std::string largest = std::to_string(most);
    CHECK(root.group("/c/a", largest, "max", largest).read("/a").memory == memory(most, most));
    CHECK(root.group("/c/a", largest, "max", largest, largest).read("/a").memory == memory(0, most));
    CHECK_FALSE(root.group("/c/a", "18446744073709551616", "max", "1").read("/a").memory);
    CHECK(root.flaw("/a") == "'/c/a/memory.current' holds no number");
}

TEST_CASE("what cannot be read is left out, and the first of it is named") {
    Root root;
    CHECK(root.flaw("/a") == "no control group of this process says what memory it uses");
    root.group("/c/a", "5", "max", "10").group("/c", "x", "-1", "100");
    CHECK(root.read("/a").memory == memory(5, 10));
    CHECK(root.flaw("/a") == "'/c/memory.current' holds no number");
    root.remove("/c/memory.current");
    CHECK(root.flaw("/a") == "'/c/memory.high' holds no number");
    root.file("/c/memory.high", "max");
    CHECK(root.flaw("/a") == "'/c/memory.current' cannot be read");
    // The group at the root of all has none of the files, which is no flaw.
    root.remove("/c/memory.max");
    CHECK(root.flaw("/a").empty());
    root.remove("/c/a/memory.stat");
    CHECK(root.flaw("/a") == "'/c/a/memory.stat' does not say inactive_file");
    CHECK(root.read("/a").memory == memory(5, 10));
    root.file("/c/a/memory.stat", "inactive_file x\n");
    CHECK(root.read("/a").memory == memory(5, 10));
    root.file("/c/a/memory.max", "10 20");
    CHECK(root.flaw("/a") == "'/c/a/memory.max' holds no number");
    // A folder in a file's place.
    root.remove("/c/a/memory.current");
    root.file("/c/a/memory.current/x", "1").file("/c/a/memory.max", "10");
    CHECK(root.flaw("/a") == "'/c/a/memory.current' cannot be read");
}

TEST_CASE("any bytes may stand in the files") {
    std::mt19937 random(1);
    Root root;
    for (int round = 0; round < 100; ++round) {
        for (const char* const name : {"current", "high", "max", "stat"}) {
            std::string text = std::vector<std::string>{"", "12", "max", "inactive_file ", "7"}[random() % 5];
            for (std::size_t count = random() % 4; count > 0; --count) {
                text += static_cast<char>(random() % 256);
            }
            root.file(std::string("/c/a/memory.") + name, text);
        }
        CHECK_NOTHROW(root.read("/a"));
    }
}

TEST_CASE("the folders of the controller are found by the process's own files") {
    Root root;
    root.file("/proc/self/cgroup", "4:memory:/a\n3:cpu:/b\n0::/d\n")
        .file("/proc/self/mountinfo",
              "1 0 0:1 / /m rw - cgroup cgroup rw,memory\n2 0 0:2 / /p rw - cgroup cgroup rw,cpu\n"
              "3 0 0:3 / /u rw - cgroup2 cgroup2 rw\n")
        .file("/m/a/x", "")
        .file("/p/b/x", "");
    CHECK(runtime::cgroup_folders(root.path(), "memory") ==
          std::vector<CgroupFolder>{{CgroupVersion::v1, root.path() + "/m", "/a"},
                                    {CgroupVersion::v2, root.path() + "/u", ""}});
    CHECK(runtime::cgroup_folders(root.path(), "cpu").front() ==
          CgroupFolder{CgroupVersion::v1, root.path() + "/p", "/b"});
}

// -- Decisions --------------------------------------------------------------------------------------------------------

TEST_CASE("from the upper mark on the budget keeps what it uses, and idle residents make room down to the lower mark") {
    PressureControl control(0.75, 0.9, 0);
    CHECK(control.decide(899, 1000, 500, 600) == PressureStep{});
    CHECK_FALSE(control.lowered());
    CHECK(control.decide(900, 1000, 500, 600) == PressureStep{500, 150, true});
    CHECK(control.lowered());
    // 30 of these have come back, and the others are still being unloaded.
    CHECK(control.decide(900, 1000, 470, 500) == PressureStep{470, 30, true});
    // None came, as none was idle: what was asked for last is not asked for again at once.
    CHECK(control.decide(900, 1000, 470, 470) == PressureStep{std::nullopt, 120, true});
    CHECK(control.decide(900, 1000, 350, 470) == PressureStep{350, 150, true});
    CHECK(control.decide(850, 1000, 350, 350) == PressureStep{});
    CHECK(control.decide(900, 1000, 350, 350) == PressureStep{std::nullopt, 150, true});
    // A budget that overran is not given more.
    CHECK(control.decide(900, 1000, 200, 100) == PressureStep{std::nullopt, 150, true});
}

TEST_CASE("between the marks nothing changes, and below the lower one the limit comes back as far as it fits") {
    PressureControl control(0.75, 0.9, 0);
    CHECK(control.decide(950, 1000, 80, 100) == PressureStep{80, 200, true});
    CHECK(control.decide(899, 1000, 20, 80) == PressureStep{});
    CHECK(control.decide(750, 1000, 20, 80) == PressureStep{});
    CHECK(control.decide(700, 1000, 20, 80) == PressureStep{});  // 20 in use and 50 below the mark: 70, less than 80
    CHECK(control.decide(679, 1000, 20, 80) == PressureStep{91, 0, false});
    CHECK(control.lowered());
    CHECK(control.decide(679, 1000, 20, 91) == PressureStep{});
    CHECK(control.decide(600, 1000, 20, 91) == PressureStep{100, 0, false});
    CHECK_FALSE(control.lowered());
    CHECK(control.decide(100, 1000, 20, 100) == PressureStep{});
}

TEST_CASE("a limit that the host sets meanwhile is the one to come back to") {
    PressureControl control(0.75, 0.9, 0);
    CHECK(control.decide(950, 1000, 80, 100) == PressureStep{80, 200, true});
    CHECK(control.to_give_back(80) == std::optional<std::size_t>(100));
    CHECK(control.to_give_back(500) == std::nullopt);
    CHECK(control.decide(800, 1000, 80, 500) == PressureStep{});
    CHECK_FALSE(control.lowered());
    CHECK(control.decide(950, 1000, 80, 500) == PressureStep{80, 200, true});
    CHECK(control.decide(10, 1000, 80, 80) == PressureStep{500, 0, false});
}

TEST_CASE("the budget is not lowered below the least limit") {
    PressureControl control(0.75, 0.9, 60);
    CHECK(control.decide(900, 1000, 20, 100) == PressureStep{60, 150, true});
    CHECK(control.decide(800, 1000, 20, 60) == PressureStep{});
    CHECK(control.decide(900, 1000, 80, 60) == PressureStep{std::nullopt, 150, true});
    PressureControl generous(0.75, 0.9, 200);
    CHECK(generous.decide(900, 1000, 20, 100) == PressureStep{std::nullopt, 150, true});
    CHECK_FALSE(generous.lowered());
}

TEST_CASE("no size overflows") {
    constexpr std::size_t largest = std::numeric_limits<std::size_t>::max();
    const auto decide = [](std::uint64_t used, std::uint64_t limit, std::size_t budget_used, std::size_t budget_limit) {
        return PressureControl(0.75, 1.0, 0).decide(used, limit, budget_used, budget_limit);
    };
    CHECK(decide(most, most, largest, largest) == PressureStep{std::nullopt, (std::size_t{1} << 62U) - 1, true});
    CHECK(decide(most, 0, largest, largest) == PressureStep{std::nullopt, largest, true});
    CHECK(decide(most, 1, 0, largest) == PressureStep{0, largest, true});
    CHECK(decide(0, 0, 0, largest) == PressureStep{0, 0, true});
    PressureControl control(0.75, 1.0, 0);
    CHECK(control.decide(most, most, 0, largest) == PressureStep{0, (std::size_t{1} << 62U) - 1, true});
    CHECK(control.decide(0, most, largest, 0) == PressureStep{largest, 0, false});
    for (const std::uint64_t near :
         {(std::uint64_t{1} << 63U) - 1, std::uint64_t{1} << 63U, (std::uint64_t{1} << 63U) + 1}) {
        PressureControl other(0.5, 0.9, 0);
        CHECK(other.decide(near, near, near, near).trim >= near / 2 - 1024);
        CHECK(other.decide(near / 4, near, near, near) == PressureStep{});
    }
}

TEST_CASE("whatever comes, a limit is never higher than the host's, and is lowered by pressure alone") {
    std::mt19937_64 random(1);
    for (int round = 0; round < 2000; ++round) {
        const std::size_t given = random() % 1000;
        PressureControl control(0.5, 0.8, random() % 3 == 0 ? random() % 1000 : 0);
        std::size_t limit = given;
        for (int step = 0; step < 20; ++step) {
            const std::uint64_t used = random() % 1200;
            const std::size_t budget_used = random() % (limit + 50);
            const PressureStep taken = control.decide(used, 1000, budget_used, limit);
            const std::size_t next = taken.limit.value_or(limit);
            REQUIRE(next <= given);
            REQUIRE((next >= limit || used >= 800));
            REQUIRE((next <= limit || used < 500));
            REQUIRE(taken.is_short == (used >= 800));
            REQUIRE((taken.trim == 0 || (used >= 800 && taken.trim <= used - 500)));
            REQUIRE(control.lowered() == (next < given));
            // What the budget may take beyond its use fits below the lower mark.
            REQUIRE((next <= limit || used + (next - std::min(next, budget_used)) <= 500));
            limit = next;
        }
    }
}

// -- Over time --------------------------------------------------------------------------------------------------------

TEST_CASE("idle residents go while memory is short, those in use stay, and the limit comes back afterwards", "[S52]") {
    Bench bench;
    bench.budget->load(30);
    bench.budget->load(40, true);
    CHECK(run_ready(bench.context) >= 1);
    CHECK(bench.pressure->status().looks == 1);
    CHECK(bench.pressure->status().limit == std::optional<std::uint64_t>(1000));
    bench.look_at(899);
    CHECK(bench.budget->limit() == 100);
    CHECK(bench.budget->size() == 2);
    bench.look_at(900);
    CHECK(bench.budget->limit() == 70);
    CHECK(bench.budget->used() == 40);
    CHECK(bench.pressure->status().lowered);
    bench.look_at(900);
    CHECK(bench.budget->limit() == 40);
    CHECK(bench.budget->size() == 1);
    bench.budget->release_all();
    bench.look_at(800);
    CHECK(bench.budget->size() == 1);
    bench.look_at(900);
    CHECK(bench.budget->size() == 0);
    bench.look_at(800);
    CHECK(bench.budget->limit() == 40);
    bench.look_at(500);
    CHECK(bench.budget->limit() == 100);
    const CgroupPressureStatus status = bench.pressure->status();
    CHECK_FALSE(status.lowered);
    CHECK(status.looks == 8);
    CHECK(status.short_looks == 3);
    CHECK(status.used == std::optional<std::uint64_t>(500));
    CHECK(status.flaw.empty());
}

TEST_CASE("a MemoryBudget unloads its idle models, loads none while memory is short, and loads them again afterwards") {
    static_assert(TrimmableBudget<MemoryBudget>);
    VirtualClock::reset();
    Root root;
    root.process();
    const auto use = [&root](std::uint64_t bytes) { root.group("/c/a", std::to_string(bytes), "max", "1000"); };
    use(0);
    asio::io_context context;
    const auto world = std::make_shared<testing::FakeWorld>();
    const auto budget = std::make_shared<MemoryBudget>(100);
    SlotOptions options;
    options.memory = budget;
    options.model_memory = 30;
    options.max_resident = 0;
    ModelSlot<testing::FakeEmbeddingBackend, VirtualClock> slot(testing::FakeEmbeddingBackend(world), options,
                                                                Executors::all(context.get_executor()));
    CgroupPressureOptions watching;
    watching.root = root.path();
    const CgroupPressure<MemoryBudget, VirtualClock> pressure(context.get_executor(), budget, watching);
    const auto acquire = [&](const char* key) {
        testing::Outcome<Lease<testing::FakeEmbedder>> lease;
        slot.async_acquire(key, lease.handler());
        run_ready(context);
        return lease;
    };
    acquire("idle").value() = {};
    auto leased = acquire("leased");
    run_ready(context);
    REQUIRE(budget->used() == 60);

    use(900);
    advance(context, 1s);
    CHECK(budget->limit() == 60);
    CHECK(budget->used() == 30);
    CHECK(world->counts("idle").live == 0);
    CHECK(world->counts("leased").live == 1);
    advance(context, 1s);
    CHECK(budget->limit() == 30);
    // One model at a time fits, and that is in use: the request waits.
    auto waiting = acquire("other");
    CHECK(waiting.calls() == 0);
    use(700);
    advance(context, 1s);
    CHECK(budget->limit() == 80);
    CHECK(waiting.calls() == 1);
    CHECK(world->counts("other").live == 1);
    CHECK(world->counts("leased").live == 1);
    use(100);
    advance(context, 1s);
    CHECK(budget->limit() == 100);
    CHECK(pressure.status().short_looks == 2);
    CHECK(pressure.status().flaw.empty());
    leased.value() = {};
    waiting.value() = {};
    testing::Outcome<ShutdownReport> ended;
    slot.async_shutdown(ended.handler());
    run_ready(context);
    CHECK(ended.calls() == 1);
    CHECK(budget->used() == 0);
}

TEST_CASE("no more is evicted than brings the group to the lower mark") {
    Bench bench;
    for (int resident = 0; resident < 10; ++resident) {
        bench.budget->load(10);
    }
    bench.look_at(900 - 1);
    CHECK(bench.budget->trims == 0);
    // 15 above the lower mark would be two residents; 150 are all of them.
    CgroupPressureOptions options;
    options.give_back_below = 0.885;
    options.root = bench.root.path();
    bench.pressure.emplace(bench.context.get_executor(), bench.budget, options);
    bench.look_at(900);
    CHECK(bench.budget->size() == 8);
}

TEST_CASE("a look comes each interval, and none between") {
    CgroupPressureOptions options;
    options.interval = 250ms;
    Bench bench(options);
    run_ready(bench.context);
    CHECK(bench.pressure->status().looks == 1);
    advance(bench.context, 249ms);
    CHECK(bench.pressure->status().looks == 1);
    advance(bench.context, 1ms);
    CHECK(bench.pressure->status().looks == 2);
    advance(bench.context, 1s, 250ms);
    CHECK(bench.pressure->status().looks == 6);
}

TEST_CASE("what cannot be read changes nothing, is named in the status, and is forgotten when it can be read again") {
    Bench bench;
    bench.budget->load(50);
    bench.look_at(950);
    CHECK(bench.budget->limit() == 50);
    bench.root.file("/c/a/memory.current", "nonsense\n");
    advance(bench.context, 1s);
    CgroupPressureStatus status = bench.pressure->status();
    CHECK(status.flaw.find("memory.current' holds no number") != std::string::npos);
    CHECK(status.lowered);
    CHECK_FALSE(status.used);
    CHECK(bench.budget->limit() == 50);
    bench.root.remove("/c");
    advance(bench.context, 1s);
    CHECK_FALSE(bench.pressure->status().flaw.empty());
    CHECK(bench.budget->limit() == 50);
    bench.look_at(100);
    CHECK(bench.pressure->status().flaw.empty());
    CHECK(bench.budget->limit() == 100);
}

TEST_CASE("a group that loses its limit has all the room") {
    Bench bench;
    bench.budget->load(50);
    bench.look_at(950);
    CHECK(bench.budget->limit() == 50);
    bench.root.group("/c/a", "950", "max", "max");
    advance(bench.context, 1s);
    CHECK(bench.budget->limit() == 100);
    CHECK_FALSE(bench.pressure->status().limit);
    CHECK(bench.pressure->status().flaw.empty());
}

TEST_CASE("a process that was moved is found in its new group") {
    Bench bench;
    run_ready(bench.context);
    bench.root.process("/b").group("/c/b", "7", "max", "10").remove("/c/a");
    advance(bench.context, 1s);
    CHECK(bench.pressure->status().used == std::optional<std::uint64_t>(7));
    CHECK(bench.pressure->status().flaw.empty());
}

TEST_CASE("what the budget throws is named, and the next look tries again") {
    Bench bench;
    bench.budget->load(50);
    bench.budget->throws = 1;
    bench.look_at(950);
    CHECK(bench.pressure->status().flaw == std::bad_alloc().what());
    CHECK(bench.budget->size() == 1);
    bench.look_at(950);
    CHECK(bench.pressure->status().flaw.empty());
    CHECK(bench.budget->limit() == 50);
    // What was asked for last may still come.
    CHECK(bench.budget->size() == 1);
    bench.look_at(950);
    CHECK(bench.budget->size() == 0);
    bench.look_at(100);
    CHECK(bench.budget->limit() == 100);
}

TEST_CASE("its end gives the limit back, unless the host has set another, and nothing runs afterwards") {
    Bench bench;
    bench.budget->load(50, true);
    bench.look_at(950);
    CHECK(bench.budget->limit() == 50);
    bench.pressure.reset();
    CHECK(bench.budget->limit() == 100);
    advance(bench.context, 1h, 1s);
    CHECK(bench.budget->limit() == 100);
    CHECK(bench.budget.use_count() == 1);

    CgroupPressureOptions options;
    options.root = bench.root.path();
    bench.pressure.emplace(bench.context.get_executor(), bench.budget, options);
    run_ready(bench.context);
    CHECK(bench.budget->limit() == 50);
    bench.budget->set_limit(70);
    bench.pressure.reset();
    CHECK(bench.budget->limit() == 70);
    // A budget that throws does not throw out of a destructor.
    bench.pressure.emplace(bench.context.get_executor(), bench.budget, options);
    run_ready(bench.context);
    bench.budget->throws = 1;
    bench.pressure.reset();
    CHECK(bench.budget->throws == 0);
}

TEST_CASE("one that never looked leaves the budget alone") {
    Bench bench;
    bench.use(1000);
    bench.pressure.reset();
    run_ready(bench.context);
    CHECK(bench.budget->limit() == 100);
    CHECK(bench.budget.use_count() == 1);
}

TEST_CASE("a context that ends with its wait pending frees what it held") {
    Root root;
    root.process().group("/c/a", "1", "max", "10");
    const auto budget = std::make_shared<Budget>(100);
    {
        asio::io_context context;
        CgroupPressureOptions options;
        options.root = root.path();
        const CgroupPressure pressure(context.get_executor(), budget, options);
        CHECK(context.run_one() == 1);
        CHECK(pressure.status().looks == 1);
    }
    CHECK(budget.use_count() == 1);
}

TEST_CASE("it may end while another thread looks") {
    Root root;
    root.process().group("/c/a", "950", "max", "1000");
    const auto budget = std::make_shared<Budget>(100);
    asio::io_context context;
    auto work = asio::make_work_guard(context);
    std::jthread runner([&] { context.run(); });
    for (int round = 0; round < 100; ++round) {
        CgroupPressureOptions options;
        options.interval = 1ms;
        options.root = root.path();
        const CgroupPressure pressure(context.get_executor(), budget, options);
        while (round % 2 == 0 && pressure.status().looks < 2) {
            std::this_thread::yield();
        }
    }
    CHECK(budget->limit() == 100);
    work.reset();
}

TEST_CASE("options that cannot be are refused by name") {
    const auto refusal = [](const std::function<void(CgroupPressureOptions&)>& change) {
        CgroupPressureOptions options;
        change(options);
        asio::io_context context;
        try {
            const CgroupPressure pressure(context.get_executor(), std::make_shared<Budget>(1), options);
        } catch (const std::invalid_argument& error) {
            return std::string(error.what());
        }
        return std::string();
    };
    CHECK(refusal([](auto&) {}).empty());
    const std::string begin = "residency: option CgroupPressureOptions.";
    CHECK(refusal([](auto& options) { options.interval = 0ms; }) ==
          begin + "interval must be between 1 ms and 24 hours");
    CHECK(refusal([](auto& options) { options.interval = (std::chrono::milliseconds::max)(); }) ==
          begin + "interval must be between 1 ms and 24 hours");
    CHECK(refusal([](auto& options) { options.give_back_below = 0; }) == begin + "give_back_below must be more than 0");
    CHECK(refusal([](auto& options) { options.give_back_below = std::nan(""); }) ==
          begin + "give_back_below must be more than 0");
    CHECK(refusal([](auto& options) { options.trim_above = 0.75; }) ==
          begin + "trim_above must be more than give_back_below");
    CHECK(refusal([](auto& options) { options.trim_above = 1.01; }) == begin + "trim_above must be at most 1");
    asio::io_context context;
    CHECK_THROWS_AS((CgroupPressure<Budget>(context.get_executor(), nullptr)), std::invalid_argument);
}

// -- A group of the system --------------------------------------------------------------------------------------------

namespace {

constexpr std::size_t mebibyte = 1U << 20U;

// A control group of the system that may use 200 MiB. Removed at the end.
class SystemGroup {
public:
    SystemGroup() {
        const std::string name = "/residency_test_" + std::to_string(::getpid());
        make("/sys/fs/cgroup/memory" + name, "memory.limit_in_bytes") || make("/sys/fs/cgroup" + name, "memory.max");
    }
    ~SystemGroup() {
        if (!folder_.empty()) {
            ::rmdir(folder_.c_str());
        }
    }
    SystemGroup(const SystemGroup&) = delete;
    SystemGroup& operator=(const SystemGroup&) = delete;

    [[nodiscard]] bool made() const noexcept { return made_; }
    [[nodiscard]] bool enter() const { return write(folder_ + "/cgroup.procs", std::to_string(::getpid())); }

private:
    static bool write(const std::string& path, const std::string& text) {
        std::ofstream file(path, std::ios::in);  // No file is made where there is none.
        return (file << text << std::flush).good();
    }
    bool make(const std::string& folder, const std::string& file) {
        std::error_code error;
        if (!std::filesystem::create_directory(folder, error)) {
            return false;
        }
        folder_ = folder;
        made_ = write(folder + "/" + file, std::to_string(200 * mebibyte));
        if (!made_) {
            ::rmdir(folder.c_str());
            folder_.clear();
        }
        return made_;
    }

    std::string folder_{};
    bool made_ = false;
};

// What a process of the group came to.
enum ChildResult : int { good, no_entry, not_counted, not_lowered, not_given_back };

ChildResult under_pressure(const SystemGroup& group) {
    if (!group.enter()) {
        return no_entry;
    }
    asio::io_context context;
    const auto budget = std::make_shared<Budget>(100 * mebibyte);
    budget->load(30 * mebibyte);
    budget->load(30 * mebibyte, true);
    CgroupPressureOptions options;
    options.interval = 1ms;
    const CgroupPressure pressure(context.get_executor(), budget, options);
    context.run_one();
    if (budget->limit() != 100 * mebibyte) {
        return not_lowered;
    }
    constexpr std::size_t size = 185 * mebibyte;
    // The kernel fills it, so that ThreadSanitizer does not keep a shadow of it.
    void* const memory =
        ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) {
        return not_counted;
    }
    context.run_one();
    if (pressure.status().limit.value_or(0) != 200 * mebibyte || pressure.status().used.value_or(0) < size) {
        return not_counted;
    }
    if (budget->limit() != 60 * mebibyte || budget->used() != 30 * mebibyte) {
        return not_lowered;
    }
    ::munmap(memory, size);
    // The kernel may give a freed page back a little later.
    for (int look = 0; look < 10'000 && budget->limit() != 100 * mebibyte; ++look) {
        context.run_one();
    }
    return budget->limit() == 100 * mebibyte && budget->size() == 1 ? good : not_given_back;
}

}  // namespace

TEST_CASE("a control group of the system: a budget is lowered in it, and given back") {
    const SystemGroup group;
    if (!group.made()) {
        skip("no control group with a memory limit can be made here: it takes root, and a writable /sys/fs/cgroup");
        return;
    }
    const pid_t child = ::fork();
    if (child == 0) {
        ::_exit(under_pressure(group));
    }
    REQUIRE(child > 0);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    if (WEXITSTATUS(status) == no_entry || WEXITSTATUS(status) == not_counted) {
        skip("the system's control groups do not count what this process uses");
        return;
    }
    CHECK(WEXITSTATUS(status) == good);
}

#endif

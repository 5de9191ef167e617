#include "residency/runtime/cpu_quota.hpp"

#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

// Control groups are Linux's own.
#if defined(__linux__)

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace cpu_quota_test {

using namespace residency::runtime;
using residency::test::TemporaryFolder;
using namespace std::string_literals;
using Processors = std::optional<std::uint64_t>;

namespace {

constexpr Processors none = std::nullopt;
constexpr std::uint64_t largest = std::numeric_limits<std::uint64_t>::max();

// A folder that stands for the system's root, with the files that a system would have.
class Root {
public:
    Root& file(const std::string& path, const std::string& contents) {
        const std::filesystem::path whole = path_ + path;
        std::filesystem::create_directories(whole.parent_path());
        std::ofstream(whole) << contents;
        return *this;
    }
    // What the process's own files say.
    Root& process(const std::string& cgroup, const std::string& mountinfo) {
        return file("/proc/self/cgroup", cgroup).file("/proc/self/mountinfo", mountinfo);
    }
    // A group of version 1, with a period of 100 ms.
    Root& v1(const std::string& folder, const std::string& quota) {
        return file(folder + "/cpu.cfs_quota_us", quota + "\n").file(folder + "/cpu.cfs_period_us", "100000\n");
    }
    Root& v2(const std::string& folder, const std::string& quota) {
        return file(folder + "/cpu.max", quota + " 100000\n");
    }
    [[nodiscard]] Processors quota() const { return cpu_quota(path_); }

private:
    const TemporaryFolder folder_{};
    const std::string path_ = folder_.path().string();
};

std::string v1_mount(const std::string& root, const std::string& point) {
    return "32 31 0:29 " + root + " " + point + " rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n";
}
std::string v2_mount(const std::string& root, const std::string& point) {
    return "41 31 0:38 " + root + " " + point + " rw - cgroup2 cgroup2 rw,nsdelegate\n";
}

}  // namespace

TEST_CASE("cpu.max: the quota by the period, rounded up") {
    struct Row {
        const char* text;
        Processors processors;
    };
    const std::vector<Row> rows{
        {"max 100000\n", none},
        {"100000 100000\n", 1},
        {"100000 100000", 1},
        {"100001 100000\n", 2},
        {"150000 100000\n", 2},
        {"1000 100000\n", 1},
        {"0 100000\n", 1},
        {"400000 100000\n", 4},
        {"400000 50000\n", 8},
        {"1 1\n", 1},
        {"18446744073709551615 1\n", largest},
        {"18446744073709551615 18446744073709551615\n", 1},
        {"18446744073709551615 2\n", largest / 2 + 1},
        // What no kernel writes.
        {"", none},
        {"\n", none},
        {" ", none},
        {"max", none},
        {"100000", none},
        {"100000 ", none},
        {"100000 0\n", none},
        {"100000 -1\n", none},
        {"-1 100000\n", none},
        {"+1 100000\n", none},
        {"1.5 100000\n", none},
        {"0x10 100000\n", none},
        {"100000 max\n", none},
        {"100000 100000 100000\n", none},
        {"100000  100000\n", none},
        {" 100000 100000\n", none},
        {"100000\t100000\n", none},
        {"100000 100000\r\n", none},
        {"\n100000 100000\n", none},
        {"100000x 100000\n", none},
        {"18446744073709551616 100000\n", none},
        {"100000 18446744073709551616\n", none},
        {"99999999999999999999999999999999999999 1\n", none},
    };
    for (const Row& row : rows) {
        INFO(row.text);
        CHECK(cpu_max_processors(row.text) == row.processors);
    }
    CHECK(cpu_max_processors(std::string_view("1\0 1", 4)) == none);
}

TEST_CASE("cpu.cfs_quota_us and cpu.cfs_period_us: the quota by the period, rounded up") {
    CHECK(cfs_processors("-1\n", "100000\n") == none);
    CHECK(cfs_processors("50000\n", "100000\n") == 1);
    CHECK(cfs_processors("250000\n", "100000\n") == 3);
    CHECK(cfs_processors("250000", "50000") == 5);
    CHECK(cfs_processors("18446744073709551615\n", "100000\n") == largest / 100'000 + 1);
    CHECK(cfs_processors("", "") == none);
    CHECK(cfs_processors("50000\n", "") == none);
    CHECK(cfs_processors("", "100000\n") == none);
    CHECK(cfs_processors("50000\n", "0\n") == none);
    CHECK(cfs_processors("50000\n", "-1\n") == none);
    CHECK(cfs_processors("many\n", "100000\n") == none);
    CHECK(cfs_processors("99999999999999999999\n", "100000\n") == none);
}

TEST_CASE("/proc/self/cgroup: the group of a version") {
    struct Row {
        const char* text;
        std::optional<std::string_view> v1;
        std::optional<std::string_view> v2;
    };
    const std::vector<Row> rows{
        {"0::/user.slice/a.scope\n", {}, "/user.slice/a.scope"},
        {"0::/", {}, "/"},
        {"4:cpu,cpuacct:/docker/0f\n", "/docker/0f", {}},
        {"4:cpuacct,cpu:/docker/0f\n", "/docker/0f", {}},
        {"4:cpu:/a\n0::/b\n", "/a", "/b"},
        {"0::/b\n4:cpu:/a\n", "/a", "/b"},
        {"5:cpuset:/s\n4:cpuacct:/t\n3:name=cpu:/n\n1:cpu:/a:b: c\\d\n", "/a:b: c\\d", {}},
        {"0::/../other\n", {}, "/../other"},
        // What no kernel writes.
        {"", {}, {}},
        {"\n\n", {}, {}},
        {"0", {}, {}},
        {"0:", {}, {}},
        {"0::", {}, {}},
        {"0::a\n", {}, {}},
        {"::/a\n", {}, {}},
        {"1::/a\n", {}, {}},
        {"4:cpu", {}, {}},
        {"4:cpu:", {}, {}},
        {"4:cpu:a\n4:cpu:/b\n", "/b", {}},
        {"4:CPU:/a\n4:cpu ,cpuacct:/a\n", {}, {}},
    };
    for (const Row& row : rows) {
        INFO(row.text);
        CHECK(cgroup_path(row.text, CgroupVersion::v1, "cpu") == row.v1);
        CHECK(cgroup_path(row.text, CgroupVersion::v2, "cpu") == row.v2);
    }
}

TEST_CASE("/proc/self/mountinfo: an escape is a backslash and three octal digits") {
    CHECK(without_escapes("") == "");
    CHECK(without_escapes("/sys/fs/cgroup") == "/sys/fs/cgroup");
    CHECK(without_escapes("/a\\040b\\011c\\012d\\134e\\043") == "/a b\tc\nd\\e#");
    CHECK(without_escapes("\\134040") == "\\040");
    CHECK(without_escapes("\\303\\244") == "\xC3\xA4");
    CHECK(without_escapes("\\377") == "\xFF");
    for (const char* const plain : {"\\", "\\0", "\\04", "\\08a", "\\400", "\\777", "\\x41", "\\-01", "a\\"}) {
        CHECK(without_escapes(plain) == plain);
    }
}

TEST_CASE("/proc/self/mountinfo: the mounts of a version") {
    using Mounts = std::vector<CgroupMount>;
    struct Row {
        const char* text;
        Mounts v1;
        Mounts v2;
    };
    const std::vector<Row> rows{
        {"30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
         {},
         {{"/", "/sys/fs/cgroup"}}},
        {"30 23 0:26 / /c rw - cgroup2 none rw", {}, {{"/", "/c"}}},
        {"30 23 0:26 / /c rw shared:4 master:2 propagate_from:1 unbindable - cgroup2 x rw\n", {}, {{"/", "/c"}}},
        {"32 31 0:29 /docker/0f /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n",
         {{"/docker/0f", "/sys/fs/cgroup/cpu,cpuacct"}},
         {}},
        {"32 31 0:29 /a\\040b /c\\040d rw - cgroup cgroup rw,cpuacct,cpu\n", {{"/a b", "/c d"}}, {}},
        // The source may be empty, and then two spaces follow one another.
        {"32 31 0:29 / /c rw - cgroup  rw,cpu\n", {{"/", "/c"}}, {}},
        {"32 31 0:29 / /one rw - cgroup cgroup rw,cpu\n33 31 0:29 /a /two rw - cgroup cgroup rw,cpu\n",
         {{"/", "/one"}, {"/a", "/two"}},
         {}},
        {"1 0 0:1 /.. /c rw - cgroup2 cgroup2 rw\n", {}, {{"/..", "/c"}}},
        // Of another kind.
        {"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n", {}, {}},
        {"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,cpu\n", {}, {}},
        {"34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n", {}, {}},
        {"40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n", {}, {}},
        {"27 1 254:0 / /cgroup2 rw - ext4 cgroup2 rw\n", {}, {}},
        // What no kernel writes.
        {"", {}, {}},
        {"\n \n- - -\n", {}, {}},
        {"30 23 0:26 / /c rw cgroup2 cgroup2 rw\n", {}, {}},
        {"30 23 0:26 / /c rw -\n", {}, {}},
        {"30 23 0:26 / /c\n", {}, {}},
        {"30 23 0:26 a /c rw - cgroup2 cgroup2 rw\n", {}, {}},
        {"30 23 0:26 / c rw - cgroup2 cgroup2 rw\n", {}, {}},
        {"32 31 0:29 / /c rw - cgroup cgroup\n", {}, {}},
    };
    for (const Row& row : rows) {
        INFO(row.text);
        CHECK(cgroup_mounts(row.text, CgroupVersion::v1, "cpu") == row.v1);
        CHECK(cgroup_mounts(row.text, CgroupVersion::v2, "cpu") == row.v2);
    }
}

TEST_CASE("A group is looked for below the group that is mounted") {
    using Path = std::optional<std::string_view>;
    CHECK(path_within("/", "/") == Path(""));
    CHECK(path_within("/a", "/") == Path("/a"));
    CHECK(path_within("/a/b", "/") == Path("/a/b"));
    CHECK(path_within("/a/b", "/a") == Path("/b"));
    CHECK(path_within("/a/b/", "/a/") == Path("/b"));
    CHECK(path_within("/a", "/a") == Path(""));
    CHECK(path_within("/ab", "/a") == Path());
    CHECK(path_within("/", "/a") == Path());
    CHECK(path_within("/b", "/a") == Path());
    // Outside of the process's namespace.
    CHECK(path_within("/", "/..") == Path());
    CHECK(path_within("/..", "/") == Path());
    CHECK(path_within("/../b", "/") == Path());
    CHECK(path_within("/a/../../b", "/a") == Path());
    CHECK(path_within("/../b", "/..") == Path("/b"));
    CHECK(path_within("/..b", "/") == Path("/..b"));
}

TEST_CASE("Parsers take any text") {
    std::mt19937 random(20'250'101);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same each time
    const std::string characters("0123456789 :,/-\\.\nacgmopuxr\t\0\xFF"s);
    const std::vector<std::string> seeds{"100000 100000\n", "max 100000\n", "4:cpu,cpuacct:/a/b\n0::/c\n",
                                         v1_mount("/a\\040b", "/c\\134d"), v2_mount("/", "/sys/fs/cgroup")};
    for (int round = 0; round < 20'000; ++round) {
        std::string text = seeds[random() % seeds.size()];
        for (std::size_t changes = random() % 6; changes != 0; --changes) {
            const std::size_t place = random() % (text.size() + 1);
            switch (random() % 3) {
                case 0: text.insert(place, 1, characters[random() % characters.size()]); break;
                case 1: text.erase(place, random() % 4); break;
                default: text.resize(place); break;
            }
        }
        const std::string half = text.substr(0, text.size() / 2);
        const bool at_least_one =
            cpu_max_processors(text).value_or(1) >= 1 && cfs_processors(text, half).value_or(1) >= 1;
        bool absolute = true;
        for (const CgroupVersion version : {CgroupVersion::v1, CgroupVersion::v2}) {
            const std::optional<std::string_view> path = cgroup_path(text, version, "cpu");
            absolute = absolute && path.value_or("/").starts_with('/');
            for (const CgroupMount& mount : cgroup_mounts(text, version, "cpu")) {
                absolute =
                    absolute && mount.root.starts_with('/') && mount.point.starts_with('/') &&
                    path_within(path.value_or("/"), mount.root).value_or("").find("/../") == std::string_view::npos;
            }
        }
        if (!at_least_one || !absolute || without_escapes(text).size() > text.size()) {
            FAIL("for the text: " << text);
        }
    }
}

TEST_CASE("Version 2: the least quota of the group and of its ancestors") {
    Root root;
    root.process("0::/a/b/c\n", v2_mount("/", "/sys/fs/cgroup"));
    root.v2("/sys/fs/cgroup/a/b/c", "max");
    CHECK(root.quota() == none);
    root.v2("/sys/fs/cgroup/a", "450000");
    CHECK(root.quota() == 5);
    root.v2("/sys/fs/cgroup/a/b/c", "800000");
    CHECK(root.quota() == 5);
    root.v2("/sys/fs/cgroup/a/b", "200000");
    CHECK(root.quota() == 2);
    root.v2("/sys/fs/cgroup/a/b/c", "100000");
    CHECK(root.quota() == 1);
    // Neither a sibling's, nor what is above the mount.
    root.v2("/sys/fs/cgroup/a/b/c", "300000").v2("/sys/fs/cgroup/a/other", "100000").v2("/sys/fs", "100000");
    CHECK(root.quota() == 2);
    root.file("/sys/fs/cgroup/a/b/cpu.max", "");
    CHECK(root.quota() == 3);
    root.v2("/sys/fs/cgroup", "100000");
    CHECK(root.quota() == 1);
}

TEST_CASE("Version 1: the least quota of the group and of its ancestors") {
    Root root;
    root.process("7:memory:/m\n4:cpu,cpuacct:/a/b\n0::/\n", v1_mount("/", "/sys/fs/cgroup/cpu,cpuacct"));
    root.v1("/sys/fs/cgroup/cpu,cpuacct", "-1").v1("/sys/fs/cgroup/cpu,cpuacct/a/b", "-1");
    CHECK(root.quota() == none);
    root.v1("/sys/fs/cgroup/cpu,cpuacct/a/b", "350000");
    CHECK(root.quota() == 4);
    root.v1("/sys/fs/cgroup/cpu,cpuacct/a", "250000");
    CHECK(root.quota() == 3);
    root.file("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "0\n");
    CHECK(root.quota() == 4);
    root.v1("/sys/fs/cgroup/cpu,cpuacct/m", "100000");
    CHECK(root.quota() == 4);
}

TEST_CASE("A container that has its group mounted as the root") {
    Root root;
    SECTION("version 1") {
        root.process("4:cpu:/docker/0f/inner\n", v1_mount("/docker/0f", "/sys/fs/cgroup/cpu"));
        root.v1("/sys/fs/cgroup/cpu", "200000").v1("/sys/fs/cgroup/cpu/inner", "-1");
    }
    SECTION("version 2") {
        root.process("0::/docker/0f/inner\n", v2_mount("/docker/0f", "/sys/fs/cgroup"));
        root.v2("/sys/fs/cgroup", "200000").v2("/sys/fs/cgroup/inner", "max");
    }
    CHECK(root.quota() == 2);
}

TEST_CASE("Where no mount has the group's folder, the mount stands for the group") {
    Root root;
    root.v2("/sys/fs/cgroup", "200000");
    SECTION("the namespace began after the mount") { root.process("0::/\n", v2_mount("/docker/0f", "/sys/fs/cgroup")); }
    SECTION("the mount is seen from outside of the namespace") {
        root.process("0::/\n", v2_mount("/..", "/sys/fs/cgroup"));
    }
    SECTION("the group is outside of the namespace") {
        root.process("0::/../other\n", v2_mount("/", "/sys/fs/cgroup")).v2("/sys/fs/other", "100000");
    }
    SECTION("the path is that of another namespace") {
        root.process("0::/docker/0f\n", v2_mount("/", "/sys/fs/cgroup")).v2("/sys/fs/cgroup/docker", "100000");
    }
    SECTION("version 1") {
        root.process("4:cpu:/docker/0f\n", v1_mount("/", "/sys/fs/cgroup/cpu")).v1("/sys/fs/cgroup/cpu", "200000");
    }
    CHECK(root.quota() == 2);
}

TEST_CASE("A mount that has the group counts, and one of another group does not") {
    Root root;
    root.v2("/sys/fs/cgroup/mine", "300000").v2("/elsewhere", "100000");
    SECTION("beside it") {
        root.process("0::/mine\n", v2_mount("/other", "/elsewhere") + v2_mount("/", "/sys/fs/cgroup"));
    }
    SECTION("with a name that begins alike") {
        root.process("0::/mine\n", v2_mount("/", "/sys/fs/cgroup") + v2_mount("/min", "/elsewhere"));
    }
    CHECK(root.quota() == 3);
}

TEST_CASE("Both versions mounted: the lesser quota of the two") {
    Root root;
    root.process("4:cpu:/a\n0::/b\n", v1_mount("/", "/sys/fs/cgroup/cpu") + v2_mount("/", "/sys/fs/cgroup/unified"));
    root.v1("/sys/fs/cgroup/cpu/a", "300000");
    CHECK(root.quota() == 3);
    root.v2("/sys/fs/cgroup/unified/b", "200000");
    CHECK(root.quota() == 2);
    root.v1("/sys/fs/cgroup/cpu/a", "100000");
    CHECK(root.quota() == 1);
}

TEST_CASE("Names with spaces, colons and backslashes") {
    Root root;
    root.process("0::/a:b c\\d/e\n", v2_mount("/a:b\\040c\\134d", "/my\\040groups"));
    root.v2("/my groups/e", "200000");
    CHECK(root.quota() == 2);
}

TEST_CASE("Files that are missing, or folders, are no quota") {
    Root root;
    CHECK(root.quota() == none);
    root.file("/proc/self/mountinfo", v2_mount("/", "/sys/fs/cgroup")).v2("/sys/fs/cgroup", "200000");
    CHECK(root.quota() == none);
    root.file("/proc/self/cgroup", "0::/\n");
    CHECK(root.quota() == 2);
    Root folders;
    folders.file("/proc/self/cgroup/x", "").file("/proc/self/mountinfo/x", "");
    CHECK(folders.quota() == none);
    Root quota_is_folder;
    quota_is_folder.process("0::/\n", v2_mount("/", "/c")).file("/c/cpu.max/x", "100000 100000\n");
    CHECK(quota_is_folder.quota() == none);
}

TEST_CASE("Thousands of mounts, and a path longer than a file's may be") {
    Root root;
    std::string mountinfo;
    for (int mount = 0; mount < 5000; ++mount) {
        mountinfo += "27 1 254:0 / /containers/" + std::to_string(mount) + " rw - overlay overlay rw\n";
    }
    root.process("0::/a\n", mountinfo + v2_mount("/", "/c")).v2("/c/a", "200000");
    CHECK(root.quota() == 2);
    root.process("0::/" + std::string(10'000, 'a') + "\n", v2_mount("/", "/c")).v2("/c", "300000");
    CHECK(root.quota() == 3);
}

}  // namespace cpu_quota_test

#endif

// Mistakes that end the process: whoever makes one reads, in the last lines that it wrote, what happened.

#include "residency/model_slot.hpp"

#include "support/catch.hpp"
#include "support/slot_fixture.hpp"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <exception>
#include <functional>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace residency::test {

namespace {

// What a process that did `mistake` wrote before abort() ended it; empty if it ended in another way.
std::string last_words(const std::function<void()>& mistake) {
    std::array<int, 2> ends{};
    REQUIRE(pipe(ends.data()) == 0);
    std::cout.flush();
    const pid_t child = fork();
    REQUIRE(child != -1);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        // Neither a report of Catch2's nor a core file.
        std::signal(SIGABRT, SIG_DFL);
        std::set_terminate(std::abort);
        const rlimit none{0, 0};
        setrlimit(RLIMIT_CORE, &none);
        mistake();
        std::_Exit(0);
    }
    close(ends[1]);
    std::string words;
    std::array<char, 512> part{};
    for (ssize_t size = 0; (size = read(ends[0], part.data(), part.size())) > 0;) {
        words.append(part.data(), static_cast<std::size_t>(size));
    }
    close(ends[0]);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? words : std::string();
}

#if !defined(NDEBUG)

TEST_CASE("bad input: an empty lease that is used says so where asserts are on", "[bad_input]") {
    using EmptyLease = Lease<FakeEmbedder>;
    const std::vector<std::function<void(EmptyLease&)>> uses{
        [](EmptyLease& lease) { (*lease).embed({}); },    [](EmptyLease& lease) { lease->embed({}); },
        [](EmptyLease& lease) { (void)lease.key(); },     [](EmptyLease& lease) { (void)lease.generation(); },
        [](EmptyLease& lease) { (void)lease.revoked(); },
    };
    for (const auto& use : uses) {
        CHECK_THAT(last_words([&] {
                       EmptyLease lease;
                       use(lease);
                   }),
                   contains_text("residency: the lease is empty"));
    }
}

TEST_CASE("bad input: a row that Embeddings do not have says so where asserts are on", "[bad_input]") {
    CHECK_THAT(last_words([] { (void)Embeddings(2, 3)[2]; }), contains_text("residency: there is no such row"));
    CHECK_THAT(last_words([] {
                   const Embeddings none;
                   (void)none[0];
               }),
               contains_text("residency: there is no such row"));
}

#endif

// Its destructor throws, although C++ has made it noexcept.
struct Unstable {
    int* broken = nullptr;
    ~Unstable() {
        if (broken == nullptr) {
            close_device();
        }
    }
    static void close_device() { throw std::runtime_error("cannot close the device"); }
};

struct UnstableBackend {
    using model_type = Unstable;
    std::unique_ptr<Unstable> load(const ModelKey&) { return std::make_unique<Unstable>(); }
};

TEST_CASE("bad input: a model that throws in its destructor ends the process, after the event that names it",
          "[bad_input][H18][H19]") {
    const std::string words = last_words([] {
        std::set_terminate([] {
            try {
                std::rethrow_exception(std::current_exception());
            } catch (const std::exception& error) {
                std::cerr << "terminate: " << error.what() << std::endl;
            }
            std::abort();
        });
        ModelSlot<UnstableBackend> slot{
            UnstableBackend(), {}, {}, [](const Event& event) { std::cerr << event << std::endl; }, "devices"};
        slot.ensure_loaded("a");
        slot.unload("a");
    });
    CHECK_THAT(words, contains_text("devices: unload_started a generation 1 (unload)\n"
                                    "terminate: cannot close the device\n"));
}

}  // namespace

}  // namespace residency::test

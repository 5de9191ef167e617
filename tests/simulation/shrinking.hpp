#pragma once

#include "simulation/simulation.hpp"

#include <sys/mman.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace residency::simulation {

/// How a simulation ended.
struct Ended {
    bool failed = false;
    /// The rule that was broken.
    std::string what{};
    std::string trace{};
    std::vector<std::uint32_t> taken{};
};

/// Runs a simulation in this process.
[[nodiscard]] inline Ended run_here(Choices choices, std::FILE* stream = nullptr) {
    const std::unique_ptr<AnySimulation> simulation = make_simulation(std::move(choices), stream);
    Ended ended;
    ended.what = simulation->run();
    ended.failed = !ended.what.empty();
    ended.trace = simulation->trace();
    ended.taken = simulation->choices().taken();
    return ended;
}

/// Memory that a child process shares with this one.
class SharedNumbers {
public:
    SharedNumbers() : numbers_(map(), count) {}
    SharedNumbers(const SharedNumbers&) = delete;
    SharedNumbers& operator=(const SharedNumbers&) = delete;
    ~SharedNumbers() { munmap(numbers_.data(), numbers_.size_bytes()); }
    [[nodiscard]] std::span<std::uint32_t> get() const noexcept { return numbers_; }

private:
    static constexpr std::size_t count = 1U << 16U;
    static std::uint32_t* map() {
        void* const memory =
            mmap(nullptr, count * sizeof(std::uint32_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) {
            throw std::runtime_error("no shared memory");
        }
        return static_cast<std::uint32_t*>(memory);
    }
    std::span<std::uint32_t> numbers_;
};

/// Runs it in a process of its own, so that a crash is a way to end like others. `out`: where that process prints what
/// happens as it happens, and what it says when it crashes; none if null.
[[nodiscard]] inline Ended run_apart(Choices choices, std::FILE* out = nullptr) {
    std::fflush(nullptr);
    const SharedNumbers taken;
    taken.get()[0] = 0;
    const pid_t child = fork();
    if (child < 0) {
        throw std::runtime_error("no process");
    }
    if (child == 0) {
        if (out == nullptr && std::freopen("/dev/null", "w", stderr) == nullptr) {
            std::_Exit(3);
        }
        choices.mirror_in(taken.get());
        const Ended ended = run_here(std::move(choices), out);
        if (out != nullptr) {
            std::fprintf(out, "%s\n", ended.what.c_str());
        }
        std::fflush(nullptr);
        std::_Exit(ended.failed ? 1 : 0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    Ended ended;
    ended.failed = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    const std::span<std::uint32_t> numbers = taken.get();
    ended.taken.assign(numbers.begin() + 1, numbers.begin() + 1 + numbers[0]);
    return ended;
}

/// Looks for a simpler list of choices that fails as well: leaves out more and more of them, then makes them plainer.
class Shrinker {
public:
    /// Precondition: `failing` fails.
    explicit Shrinker(std::vector<std::uint32_t> failing) : best_(std::move(failing)) {}

    [[nodiscard]] std::vector<std::uint32_t> shrink() {
        for (bool better = true; better && attempts_ < most_attempts;) {
            better = leave_out() || make_plainer();
        }
        return best_;
    }
    [[nodiscard]] std::size_t attempts() const noexcept { return attempts_; }

private:
    static constexpr std::size_t most_attempts = 20'000;

    bool try_list(std::vector<std::uint32_t> list) {
        while (!list.empty() && list.back() == 0) {
            list.pop_back();
        }
        if (list == best_ || attempts_ >= most_attempts) {
            return false;
        }
        ++attempts_;
        if (!run_apart(Choices(list)).failed) {
            return false;
        }
        best_ = std::move(list);
        return true;
    }
    bool leave_out() {
        bool better = false;
        for (std::size_t length = std::max<std::size_t>(1, best_.size() / 2); length != 0; length /= 2) {
            for (std::size_t at = 0; at + length <= best_.size();) {
                std::vector<std::uint32_t> shorter = best_;
                shorter.erase(shorter.begin() + static_cast<std::ptrdiff_t>(at),
                              shorter.begin() + static_cast<std::ptrdiff_t>(at + length));
                if (try_list(std::move(shorter))) {
                    better = true;
                } else {
                    at += std::max<std::size_t>(1, length / 2);
                }
            }
        }
        return better;
    }
    bool make_plainer() {
        bool better = false;
        for (std::size_t at = 0; at < best_.size(); ++at) {
            for (const std::uint32_t plainer : {0U, best_[at] / 2, best_[at] - 1}) {
                if (at < best_.size() && plainer < best_[at]) {
                    std::vector<std::uint32_t> list = best_;
                    list[at] = plainer;
                    better = try_list(std::move(list)) || better;
                }
            }
        }
        return better;
    }

    std::vector<std::uint32_t> best_;
    std::size_t attempts_ = 0;
};

}  // namespace residency::simulation

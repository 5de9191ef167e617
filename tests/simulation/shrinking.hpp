#pragma once

#include "simulation/simulation.hpp"

#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace residency::simulation {

/// How a simulation ended.
struct Ended {
    bool failed = false;
    /// The rule that was broken, or that it crashed.
    std::string what{};
    std::string trace{};
    std::vector<std::uint32_t> taken{};
    std::vector<std::size_t> marks{};
};

/// Runs a simulation in this process.
[[nodiscard]] inline Ended run_here(Choices choices, std::FILE* stream = nullptr) {
    Simulation simulation(std::move(choices), stream);
    Ended ended;
    ended.what = simulation.run();
    ended.failed = !ended.what.empty();
    ended.trace = simulation.trace();
    ended.taken = simulation.choices().taken();
    ended.marks = simulation.choices().marks();
    return ended;
}

/// Runs it in a process of its own, so that a crash is a way to end like others.
[[nodiscard]] inline Ended run_apart(const Choices& choices) {
    std::fflush(nullptr);
    int ends[2];
    if (pipe(ends) != 0) {
        throw std::runtime_error("no pipe");
    }
    const pid_t child = fork();
    if (child < 0) {
        throw std::runtime_error("no process");
    }
    if (child == 0) {
        close(ends[0]);
        std::FILE* const out = fdopen(ends[1], "w");
        // What it says when it crashes is said once, at the end.
        if (std::freopen("/dev/null", "w", stderr) == nullptr) {
            std::_Exit(3);
        }
        const Ended ended = run_here(choices);
        const auto write_numbers = [out](const auto& numbers) {
            std::fprintf(out, "%zu", numbers.size());
            for (const auto number : numbers) {
                std::fprintf(out, " %zu", static_cast<std::size_t>(number));
            }
            std::fprintf(out, "\n");
        };
        write_numbers(ended.taken);
        write_numbers(ended.marks);
        std::fprintf(out, "%s\n%s", ended.what.c_str(), ended.trace.c_str());
        std::fclose(out);
        std::_Exit(0);
    }
    close(ends[1]);
    std::string text;
    char buffer[4096];
    for (ssize_t got = 0; (got = read(ends[0], buffer, sizeof buffer)) > 0;) {
        text.append(buffer, static_cast<std::size_t>(got));
    }
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    Ended ended;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        ended.failed = true;
        ended.what = "it crashed";
        return ended;
    }
    const char* at = text.c_str();
    const auto read_numbers = [&at](auto& numbers) {
        char* after = nullptr;
        for (std::size_t count = std::strtoul(at, &after, 10); count != 0; --count) {
            at = after;
            numbers.push_back(static_cast<typename std::decay_t<decltype(numbers)>::value_type>(std::strtoul(at, &after, 10)));
        }
        at = after + 1;
    };
    read_numbers(ended.taken);
    read_numbers(ended.marks);
    const std::string rest(at);
    ended.what = rest.substr(0, rest.find('\n'));
    ended.trace = rest.substr(ended.what.size() + 1);
    ended.failed = !ended.what.empty();
    return ended;
}

/// Looks for a simpler list of choices that fails as well: leaves out steps, then single choices, then makes them plainer.
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

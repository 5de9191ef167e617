#pragma once

#include "support/catch.hpp"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <functional>
#include <iostream>
#include <string>

namespace residency::test {

/// What a process that did `mistake` wrote to stderr before abort() ended it; empty if it ended in another way.
inline std::string last_words(const std::function<void()>& mistake) {
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

/// The same with a last line that names the exception because of which the process ended: `terminate: what it says`.
inline std::string last_words_of_exception(const std::function<void()>& mistake) {
    return last_words([&mistake] {
        std::set_terminate([] {
            try {
                std::rethrow_exception(std::current_exception());
            } catch (const std::exception& error) {
                std::cerr << "terminate: " << error.what() << std::endl;
            } catch (...) {
                std::cerr << "terminate: an exception that is not a std::exception" << std::endl;
            }
            std::abort();
        });
        mistake();
    });
}

}  // namespace residency::test

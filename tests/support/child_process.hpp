#pragma once

// Children of a test, and how they end. For one source file of a program.

#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <string>
#include <vector>

namespace residency::test {

/// The process of the tests.
inline const pid_t process_of_the_tests = ::getpid();

/// Waits for a child and says how it ended: "exit 0", "signal 11".
inline std::string end_of(pid_t child) {
    int status = 0;
    if (child < 0 || ::waitpid(child, &status, 0) != child) {
        return "not run";
    }
    return WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                               : "exit " + std::to_string(WEXITSTATUS(status));
}

/// Runs `run()` in a child made by fork() and says how that ended: "exit 0" if it gave true.
template <class Run>
std::string in_child(const Run& run) {
    const pid_t child = ::fork();
    if (child == 0) {
        // What hangs ends by a signal.
        ::alarm(60);
        ::_exit(run() ? 0 : 3);
    }
    return end_of(child);
}

/// Runs a program and says how it ended.
inline std::string run_program(std::vector<std::string> command) {
    std::vector<char*> arguments;
    for (std::string& word : command) {
        arguments.push_back(word.data());
    }
    arguments.push_back(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
        ::execv(arguments.front(), arguments.data());
        ::_exit(127);
    }
    return end_of(child);
}

}  // namespace residency::test

#if defined(__SANITIZE_ADDRESS__)
// LeakSanitizer asks this as a process exits. In a child nothing refers to what the parent's threads held.
// NOLINTNEXTLINE(bugprone-reserved-identifier,misc-definitions-in-headers)
extern "C" int __lsan_is_turned_off() { return ::getpid() == residency::test::process_of_the_tests ? 0 : 1; }
#endif

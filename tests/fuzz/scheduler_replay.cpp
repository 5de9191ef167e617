// Replays what the fuzzer has found, with any compiler.
//
//   scheduler_replay FILE_OR_FOLDER...            each file is a history; folders are taken with all that is in them
//   scheduler_replay --trace FILE                 prints every step of it and the state that it leads to

#include "fuzz/histories.hpp"

#include <cstdint>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

std::vector<std::uint8_t> read(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        throw std::runtime_error("cannot read " + path.string());
    }
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

bool holds(const std::filesystem::path& path, std::ostream* trace) {
    const std::vector<std::uint8_t> bytes = read(path);
    try {
        residency::test::run_history(bytes.data(), bytes.size(), trace);
        return true;
    } catch (const residency::test::Violation& violation) {
        std::cerr << path.string() << ": VIOLATED: " << violation.what() << '\n';
        return false;
    }
}

int replay(const std::vector<std::string>& arguments) {
    std::vector<std::filesystem::path> files;
    bool trace = false;
    for (const std::string& argument : arguments) {
        if (argument == "--trace") {
            trace = true;
        } else if (std::filesystem::is_directory(argument)) {
            for (const auto& entry : std::filesystem::recursive_directory_iterator(argument)) {
                if (entry.is_regular_file()) {
                    files.push_back(entry.path());
                }
            }
        } else {
            files.emplace_back(argument);
        }
    }
    if (files.empty()) {
        std::cerr << "usage: scheduler_replay [--trace] FILE_OR_FOLDER...\n";
        return 2;
    }
    std::size_t broken = 0;
    for (const std::filesystem::path& file : files) {
        broken += holds(file, trace ? &std::cout : nullptr) ? 0U : 1U;
    }
    std::cout << files.size() << " histories replayed, " << broken << " broke a promise\n";
    return broken == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return replay({argv + 1, argv + argc});
    } catch (const std::exception& error) {
        std::cerr << "scheduler_replay: " << error.what() << '\n';
        return 2;
    }
}

// Returns from main, or exits, at a moment of a load, an inference or an unload: moment STORAGE WORK STEP [MODEL]
//
//   STORAGE   global, local (static in a function) or library
//   WORK      load, inference, unload, switch; or nothing
//   STEP      after how many steps of it
//   MODEL     its name and quantization, f32 if it has none

#include "exit/managers.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using namespace residency;
using namespace residency::test;

namespace {

Manager global{make_backend(), {}, manager_options()};

Manager& local() {
    static Manager manager{make_backend(), {}, manager_options()};
    return manager;
}

Manager& manager_in(std::string_view storage) {
    return storage == "global" ? global : storage == "local" ? local() : manager_of_library();
}

/// The manager that main used; checked when all that is done before static objects are destroyed has been done.
Manager* used = nullptr;

[[noreturn]] void fail(const char* why) {
    std::fputs(why, stderr);
    std::fputs("\n", stderr);
    std::_Exit(3);
}

// Runs as the first of what std::exit calls, if nothing was registered later.
void check_that_it_is_shut_down() {
    if (!used->status().embedding.shutting_down) {
        fail("the manager was not ended");
    }
    if (!used->status().embedding.residents.empty()) {
        fail("a model was not unloaded");
    }
    try {
        static_cast<void>(used->embed({"m", "f32"}, {"a text"}));
        fail("an ended manager has answered");
    } catch (const Error& error) {
        if (error.code() != errc::shutting_down) {
            fail(error.what());
        }
    }
}

// Some steps are counted; for others a thread gives way as often.
void wait_for(int step, bool counted) {
    if (counted) {
        for (int begun = steps_begun; begun < step; begun = steps_begun) {
            steps_begun.wait(begun);
        }
        return;
    }
    for (int turn = 0; turn < 5 * step; ++turn) {
        std::this_thread::yield();
    }
}

ModelKey key_of(std::string name) {
    const std::size_t at = name.find('@');
    return at == std::string::npos ? ModelKey{std::move(name), "f32"}
                                   : ModelKey{name.substr(0, at), name.substr(at + 1)};
}

std::vector<std::string> many_texts() {
    std::string text = "endless";
#if defined(EXIT_WITH_LLAMA_CPP) || defined(EXIT_WITH_OPENVINO)
    for (int word = 0; word < 100; ++word) {
        text += " words";
    }
#endif
    return std::vector<std::string>(200, text);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 4) {
        return 2;
    }
    const std::string work = argv[2];
    const int step = std::atoi(argv[3]);
    const ModelKey key = key_of(argc > 4 ? argv[4] : "m");
    Manager& manager = manager_in(argv[1]);
    used = &manager;
    if (std::atexit(check_that_it_is_shut_down) != 0) {
        return 2;
    }
    const auto ignore = [](std::exception_ptr, const auto&...) {};
    if (work == "load") {
        manager.embedding().async_ensure_loaded(key, ignore);
        wait_for(step, true);
        return 0;
    }
    if (work == "nothing") {
        return 0;
    }
    manager.embedding().ensure_loaded(key);
    steps_begun = 0;
    if (work == "inference") {
        manager.async_embed(key, many_texts(), ignore);
        manager.async_embed(key, many_texts(), ignore);
#if defined(EXIT_WITH_LLAMA_CPP) || defined(EXIT_WITH_OPENVINO)
        wait_for(step, false);
#else
        wait_for(step, true);
#endif
    } else if (work == "unload") {
        manager.embedding().async_unload(key, ignore);
        wait_for(step, false);
    } else if (work == "switch") {
        manager.embedding().async_ensure_loaded({key.name + "2", key.quantization}, ignore);
        wait_for(step, false);
    } else {
        return 2;
    }
    std::exit(0);
}

// What happens when memory runs out where llama.cpp gives up rather than ends the process. Each case runs in a child
// process with a limited address space.

#include "residency/backends/llama_cpp.hpp"
#include "support/catch.hpp"
#include "support/folders.hpp"
#include "support/tiny_model.hpp"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

using namespace residency;
using namespace residency::test;

namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20U;

std::size_t address_space() {
    std::ifstream statm("/proc/self/statm");
    std::size_t pages = 0;
    statm >> pages;
    return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

// From here on this process may have `more` bytes of addresses.
void limit_memory(std::size_t more) {
    rlimit limit{};
    ::getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = address_space() + more;
    if (::setrlimit(RLIMIT_AS, &limit) != 0) {
        throw std::runtime_error("setrlimit");
    }
}

struct Ended {
    int status = 0;
    std::string said{};
};

// Runs `work` in a child, and gives how it ended and what it returned.
Ended in_child(const std::function<std::string()>& work) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        std::string said;
        try {
            said = work();
        } catch (const std::exception& error) {
            said = std::string("thrown: ") + error.what();
        }
        const bool written = ::write(ends[1], said.data(), said.size()) == static_cast<ssize_t>(said.size());
        ::_exit(written ? 0 : 1);
    }
    ::close(ends[1]);
    Ended ended;
    char buffer[4096];
    for (ssize_t count = ::read(ends[0], buffer, sizeof buffer); count > 0;
         count = ::read(ends[0], buffer, sizeof buffer)) {
        ended.said.append(buffer, static_cast<std::size_t>(count));
    }
    ::close(ends[0]);
    REQUIRE(::waitpid(child, &ended.status, 0) == child);
    return ended;
}

// What a call throws, as its code's name.
std::string code_of(const std::function<void()>& call) {
    try {
        call();
    } catch (const Error& error) {
        return std::string(to_string(static_cast<errc>(error.code().value()))) + ": " + error.what();
    } catch (const std::bad_alloc&) {
        return "bad_alloc";
    }
    return "nothing thrown";
}

}  // namespace

TEST_CASE("no memory for a context at load is load_failed, and the backend goes on") {
    const TemporaryFolder folder;
    write_tiny_model(folder.path() / "tiny.gguf", {.context_length = 1U << 20U});
    const Ended ended = in_child([&] {
        LoadContext context;
        const LlamaCppEmbeddingBackend small({.model = {.files = folder.path(), .contexts = 1, .threads = 1}});
        (void)small.load("tiny", context);  // What is allocated once is there.
        limit_memory(200 * mebibyte);
        const LlamaCppEmbeddingBackend large(
            {.model = {.files = folder.path(), .contexts = 1, .threads = 1, .batch_tokens = std::size_t{1} << 20U}});
        const std::string failed = code_of([&] { (void)large.load("tiny", context); });
        const std::vector<std::string> texts{"text"};
        return failed + (small.load("tiny", context)->embed(texts).size() == 1 ? " / and then it works" : "");
    });
    INFO(ended.said);
    CHECK(ended.status == 0);
    CHECK(ended.said.rfind("load_failed", 0) == 0);
    CHECK_THAT(ended.said, contains_text("and then it works"));
}

TEST_CASE("no memory for a long text is inference_failed, and the model goes on") {
    const TemporaryFolder folder;
    write_tiny_model(folder.path() / "tiny.gguf", {.context_length = 1U << 20U});
    const Ended ended = in_child([&] {
        LoadContext context;
        const LlamaCppEmbeddingBackend backend({.model = {.files = folder.path(), .contexts = 1, .threads = 1}});
        const auto model = backend.load("tiny", context);
        const std::vector<std::string> texts{"text"};
        (void)model->embed(texts);
        limit_memory(200 * mebibyte);
        const std::vector<std::string> long_text{std::string(600'000, 'x')};
        const std::string failed = code_of([&] { (void)model->embed(long_text); });
        return failed + (model->embed(texts).size() == 1 ? " / and then it works" : "");
    });
    INFO(ended.said);
    CHECK(ended.status == 0);
    CHECK(ended.said.rfind("inference_failed", 0) == 0);
    CHECK_THAT(ended.said, contains_text("and then it works"));
}

TEST_CASE("no memory for the weights is load_failed") {
    const auto models = models_or_skip();
    if (!models) {
        return;
    }
    for (const LlamaCppLoadMode mode : {LlamaCppLoadMode::mmap, LlamaCppLoadMode::read}) {
        const Ended ended = in_child([&] {
            LoadContext context;
            const LlamaCppEmbeddingBackend backend(
                {.model = {.files = *models, .contexts = 1, .threads = 1, .load_mode = mode}});
            (void)backend.load({"all-minilm-l6-v2", "q8_0"}, context);
            limit_memory(24 * mebibyte);
            return code_of([&] { (void)backend.load({"all-minilm-l6-v2", "f16"}, context); });
        });
        INFO(ended.said);
        CHECK(ended.status == 0);
        CHECK(ended.said.rfind("load_failed", 0) == 0);
        CHECK_THAT(ended.said, contains_text("all-minilm-l6-v2-f16.gguf"));
    }
}

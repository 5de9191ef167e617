// Where llama.cpp's lines go. One process each, as ctest runs them: llama.cpp has one callback, and ours is put there
// once.

#include "residency/backends/llama_cpp.hpp"
#include "support/catch.hpp"
#include "support/comparing.hpp"
#include "support/folders.hpp"
#include "support/tiny_model.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

namespace log_test {

using namespace residency;
using namespace residency::test;

namespace {

std::vector<std::string>
    of_host;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables): a C callback has nothing else.

void host_callback(ggml_log_level, const char* text, void* data) {
    if (data == &of_host) {
        of_host.emplace_back(text);
    }
}

// All that a model does in its life.
void live(const TemporaryFolder& folder) {
    const LlamaCppEmbeddingBackend backend({.model = {.files = folder.path(), .contexts = 2, .threads = 1}});
    const std::vector<std::string> texts{"text", std::string(400, 'x')};
    LoadContext context;
    const auto model = backend.load("tiny", context);
    (void)model->embed(texts);
    std::stop_source stop;
    stop.request_stop();
    CHECK_THROWS_AS(model->embed(texts, stop.get_token()), Error);
    CHECK_THROWS_AS(backend.load("missing", context), Error);
    CHECK_THROWS_AS(backend.load("broken", context), Error);
}

void write_files(const TemporaryFolder& folder) {
    write_tiny_model(folder.path() / "tiny.gguf", {});
    write_tiny_model(folder.path() / "broken.gguf", {.architecture = "nonesuch"});
}

}  // namespace

TEST_CASE("lines of threads that we set nothing for go to the callback that was there before, and ours do not") {
    const TemporaryFolder folder;
    write_files(folder);
    llama_log_set(&host_callback, &of_host);
    live(folder);
    CHECK(of_host.empty());
    ggml_log_callback ours = nullptr;
    void* data = nullptr;
    llama_log_get(&ours, &data);
    CHECK(ours != &host_callback);
    // The host's own call of llama.cpp.
    CHECK(llama_model_load_from_file((folder.path() / "host's").c_str(), llama_model_default_params()) == nullptr);
    REQUIRE_FALSE(of_host.empty());
    CHECK_THAT(of_host.front(), contains_text("host's"));
    // It was put there once.
    live(folder);
    ggml_log_callback still = nullptr;
    llama_log_get(&still, &data);
    CHECK(still == ours);
}

TEST_CASE("nothing goes to stderr") {
    const TemporaryFolder folder;
    write_files(folder);
    const std::filesystem::path caught = folder.path() / "stderr";
    const int before = ::dup(STDERR_FILENO);
    const int file = ::open(caught.c_str(), O_CREAT | O_WRONLY, 0600);
    REQUIRE(::dup2(file, STDERR_FILENO) == STDERR_FILENO);
    live(folder);
    std::thread([&] { live(folder); }).join();
    ::dup2(before, STDERR_FILENO);
    ::close(before);
    ::close(file);
    std::ifstream in(caught);
    CHECK(std::string(std::istreambuf_iterator<char>(in), {}).empty());
}

}  // namespace log_test

// What a model takes, as its file says: which files are refused, and the formula beside what llama.cpp reports. How
// near it is to what the process takes, the program `llama_cpp_sizes` shows.

#include "residency/backends/llama_cpp.hpp"
#include "residency/model_memory.hpp"
#include "support/catch.hpp"
#include "support/comparing.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_model.hpp"

#include <cstddef>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>

namespace sizes_test {

using namespace residency;
using namespace residency::test;

namespace {

const boost::system::error_code load_failed = make_error_code(errc::load_failed);

static_assert(detail::SaysMemoryNeeded<LlamaCppEmbeddingBackend> && detail::SaysMemoryNeeded<LlamaCppRerankerBackend>);
static_assert(detail::SaysMemoryUsed<LlamaCppEmbeddingModel> && detail::SaysMemoryUsed<LlamaCppRerankerModel>);

LlamaCppEmbeddingBackend backend_for(const std::filesystem::path& folder, std::size_t contexts = 1,
                                     std::size_t context_tokens = 256) {
    return LlamaCppEmbeddingBackend(
        {.model = {.files = folder, .contexts = contexts, .threads = 1, .context_tokens = context_tokens}});
}

// The sum of the buffers that llama.cpp reports while a context is made, in bytes.
double reported(const LlamaCppEmbeddingBackend& backend, const ModelKey& key) {
    double bytes = 0;
    const LoadContext context({},
                              {.progress = {}, .log = [&bytes](Severity, std::string_view line) {
                                   constexpr std::string_view mark = " buffer size =";
                                   const std::size_t at = line.find(mark);
                                   if (at != std::string_view::npos && line.find("model") == std::string_view::npos) {
                                       bytes += std::stod(std::string(line.substr(at + mark.size()))) * 1024 * 1024;
                                   }
                               }});
    LoadContext own = context;
    (void)backend.load(key, own);
    return bytes;
}

}  // namespace

TEST_CASE("the need of a model is known before its load, and is what the model says after it") {
    const TemporaryFolder folder;
    write_tiny_model(folder.path() / "tiny.gguf", {});
    const LlamaCppEmbeddingBackend backend = backend_for(folder.path());
    LoadContext context;
    const std::size_t needed = backend.memory_needed("tiny");
    CHECK(needed > std::filesystem::file_size(folder.path() / "tiny.gguf") / 2);
    CHECK(backend.load("tiny", context)->memory_used() == needed);
}

TEST_CASE("a split model needs what the whole one does") {
    const TemporaryFolder folder;
    write_tiny_model(folder.path() / "whole.gguf", {});
    write_split_model(folder.path() / "split", 3, folder.path() / "whole.gguf");
    const LlamaCppEmbeddingBackend backend = backend_for(folder.path());
    CHECK(backend.memory_needed("split") == backend.memory_needed("whole"));
    std::filesystem::remove(folder.path() / "split-00002-of-00003.gguf");
    CHECK(error_of(load_failed, [&] { (void)backend.memory_needed("split"); }).detail().find("part 2 of 3") !=
          std::string_view::npos);
}

TEST_CASE("a model needs more with more contexts, and with longer texts") {
    const TemporaryFolder folder;
    write_tiny_model(folder.path() / "tiny.gguf", {});
    const std::size_t one = backend_for(folder.path()).memory_needed("tiny");
    const std::size_t two = backend_for(folder.path(), 2).memory_needed("tiny");
    const std::size_t three = backend_for(folder.path(), 3).memory_needed("tiny");
    CHECK(two > one);
    CHECK(three - two == two - one);
    // As many tokens as it was trained for, if the option says nothing.
    CHECK(backend_for(folder.path(), 1, 0).memory_needed("tiny") > one);
    CHECK(backend_for(folder.path(), 1, 0).memory_needed("tiny") ==
          backend_for(folder.path(), 1, 512).memory_needed("tiny"));
}

TEST_CASE("a file that could not be loaded has no size, and its load says why in the same words") {
    const TemporaryFolder folder;
    write_tiny_model(folder.path() / "ranker.gguf", {.labels = {"yes", "no"}});
    const LlamaCppEmbeddingBackend backend = backend_for(folder.path());
    for (const char* const name : {"ranker", "none"}) {
        LoadContext context;
        CHECK(error_of(load_failed, [&] { (void)backend.memory_needed(name); }).detail() ==
              error_of(load_failed, [&] { (void)backend.load(name, context); }).detail());
    }
}

TEST_CASE("the formula bounds the buffers that llama.cpp reports for a decoder, and is not far from them") {
    const TemporaryFolder folder;
    write_tiny_model(folder.path() / "tiny.gguf", {});
    const LlamaCppEmbeddingBackend backend = backend_for(folder.path());
    const double buffers = reported(backend, "tiny");
    REQUIRE(buffers > 0);
    // What a second context adds.
    const auto context =
        static_cast<double>(backend_for(folder.path(), 2).memory_needed("tiny") - backend.memory_needed("tiny"));
    constexpr double kept_besides = 1.25 * 1024 * 1024;
    CHECK(context >= buffers);
    CHECK(context - kept_besides <= 1.5 * buffers);
}

TEST_CASE("sizes that no memory has are the largest size") {
    detail::llama_cpp::ModelSizes sizes;
    sizes.weights = 1e300;
    CHECK(detail::llama_cpp::to_size(detail::llama_cpp::model_memory(sizes, 1, 1, 1)) ==
          (std::numeric_limits<std::size_t>::max)());
    CHECK(detail::llama_cpp::to_size(0x1p63) == std::size_t{1} << 63U);
}

}  // namespace sizes_test

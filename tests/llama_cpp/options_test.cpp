// What the options change: threads, batches, how weights come into memory.

#include "residency/backends/llama_cpp.hpp"
#include "support/catch.hpp"
#include "support/comparing.hpp"
#include "support/folders.hpp"
#include "support/tiny_model.hpp"

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace options_test {

using namespace residency;
using namespace residency::test;

namespace {

class Tiny {
public:
    explicit Tiny(const TinyModel& tiny = {}) { write_tiny_model(folder_.path() / "tiny.gguf", tiny); }

    [[nodiscard]] std::unique_ptr<LlamaCppEmbeddingModel> load(LlamaCppModelOptions options) const {
        options.files = folder_.path();
        options.contexts = 1;
        LoadContext context;
        return LlamaCppEmbeddingBackend({.model = options}).load("tiny", context);
    }

private:
    TemporaryFolder folder_{};
};

}  // namespace

TEST_CASE("the processors are divided by the calls that run, and a tiny batch has one thread") {
    using detail::llama_cpp::threads_for;
    CHECK(threads_for(0, 1000, 1, 8) == 8);
    CHECK(threads_for(0, 1000, 2, 8) == 4);
    CHECK(threads_for(0, 1000, 3, 8) == 2);
    CHECK(threads_for(0, 1000, 8, 8) == 1);
    CHECK(threads_for(0, 1000, 20, 8) == 1);
    CHECK(threads_for(0, 1000, 0, 8) == 8);
    CHECK(threads_for(0, 1, 1, 8) == 1);
    CHECK(threads_for(0, 63, 1, 8) == 1);
    CHECK(threads_for(0, 64, 1, 8) == 2);
    CHECK(threads_for(0, 100'000, 1, 4096) == detail::llama_cpp::max_threads);
    // Set, it is as set.
    CHECK(threads_for(3, 1, 20, 1) == 3);
}

TEST_CASE("a model computes the same with any number of threads") {
    const Tiny tiny;
    const std::vector<std::string> texts{std::string(300, 'x'), "short"};
    const Embeddings expected = tiny.load({.threads = 1})->embed(texts);
    for (const std::size_t threads : {0U, 2U, 3U}) {
        const Embeddings rows = tiny.load({.threads = threads})->embed(texts);
        for (std::size_t text = 0; text < texts.size(); ++text) {
            CHECK(cosine(rows[text], expected[text]) > 0.99999);
        }
    }
}

TEST_CASE("weights are the same however they come into memory, and on however few layers of a GPU") {
    const Tiny tiny;
    const std::vector<std::string> texts{"some text"};
    const Embeddings expected = tiny.load({})->embed(texts);
    for (const LlamaCppLoadMode mode :
         {LlamaCppLoadMode::mmap_locked, LlamaCppLoadMode::read, LlamaCppLoadMode::direct_io}) {
        CHECK(tiny.load({.load_mode = mode})->embed(texts) == expected);
    }
    CHECK(cosine(tiny.load({.gpu_layers = 0})->embed(texts)[0], expected[0]) > 0.99999);
    CHECK(tiny.load({.trim_memory = false})->embed(texts) == expected);
}

TEST_CASE("more texts than llama.cpp takes sequences are embedded, each at its place") {
    const Tiny tiny;
    const auto model = tiny.load({.threads = 1, .batch_tokens = 2048});
    REQUIRE(llama_max_parallel_sequences() < 600);
    std::vector<std::string> texts;
    for (std::size_t index = 0; index < 600; ++index) {
        texts.push_back({static_cast<char>('a' + index % 26), static_cast<char>('a' + index / 26)});
    }
    const Embeddings together = model->embed(texts);
    REQUIRE(together.size() == texts.size());
    for (std::size_t index = 0; index < texts.size(); index += 7) {
        INFO(texts[index]);
        CHECK(cosine(model->embed({&texts[index], 1})[0], together[index]) > 0.99999);
    }
}

TEST_CASE("the name of a special token in a text is text") {
    const Tiny tiny;
    // A token for each of its ten characters, where the special token would be one.
    const std::vector<std::string> texts{"<|im_end|>"};
    CHECK(tiny.load({.context_tokens = 10})->embed(texts).size() == 1);
    const auto shorter = tiny.load({.context_tokens = 9});
    const Error error = error_of(make_error_code(errc::invalid_request), [&] { (void)shorter->embed(texts); });
    CHECK_THAT(error.what(), contains_text("text 0: it has 10 tokens, and the limit is 9"));
}

}  // namespace options_test

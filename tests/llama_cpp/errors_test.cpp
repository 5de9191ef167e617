// Files that cannot be loaded, keys that must not be, and options that make no sense.

#include "residency/backends/llama_cpp.hpp"
#include "residency/runtime/processors.hpp"
#include "support/catch.hpp"
#include "support/comparing.hpp"
#include "support/folders.hpp"
#include "support/one_processor.hpp"
#include "support/tiny_model.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace errors_test {

using namespace residency;
using namespace residency::test;

namespace {

const boost::system::error_code load_failed = make_error_code(errc::load_failed);
const boost::system::error_code invalid_request = make_error_code(errc::invalid_request);

// The error of loading `key` as an embedder from the folder.
Error refusal(const TemporaryFolder& folder, const ModelKey& key, const boost::system::error_code& code = load_failed) {
    const LlamaCppEmbeddingBackend backend({.model = {.files = folder.path()}});
    LoadContext context;
    return error_of(code, [&] { (void)backend.load(key, context); });
}

void write(const std::filesystem::path& file, const std::string& content) {
    std::ofstream(file, std::ios::binary) << content;
}

}  // namespace

TEST_CASE("no such file, a directory, a pipe: said with the path and the system's words, before llama.cpp sees it") {
    const TemporaryFolder folder;
    const Error missing = refusal(folder, {"missing", "f16"});
    CHECK_THAT(missing.what(), contains_text((folder.path() / "missing-f16.gguf").string()));
    CHECK_THAT(missing.what(), contains_text("No such file or directory"));
    CHECK(missing.stage() == Stage::load);
    CHECK(missing.key() == ModelKey("missing", "f16"));
    std::filesystem::create_directory(folder.path() / "folder.gguf");
    CHECK_THAT(refusal(folder, "folder").what(), contains_text("Is a directory"));
    REQUIRE(::mkfifo((folder.path() / "pipe.gguf").c_str(), 0600) == 0);
    CHECK_THAT(refusal(folder, "pipe").what(), contains_text("not a regular file"));
}

TEST_CASE("what is no GGUF file, or only the beginning of one, is load_failed with llama.cpp's errors") {
    const TemporaryFolder folder;
    write(folder.path() / "text.gguf", "once upon a time");
    CHECK_THAT(refusal(folder, "text").what(), contains_text("invalid magic"));
    write(folder.path() / "empty.gguf", "");
    CHECK_THAT(refusal(folder, "empty").what(), contains_text("failed to read magic"));
    write_tiny_model(folder.path() / "whole.gguf", {});
    const auto size = std::filesystem::file_size(folder.path() / "whole.gguf");
    // Cut in the weights, and cut in what comes before them.
    for (const std::uintmax_t rest : {size - 1, size / 2, std::uintmax_t{2000}}) {
        std::filesystem::copy_file(folder.path() / "whole.gguf", folder.path() / "cut.gguf",
                                   std::filesystem::copy_options::overwrite_existing);
        std::filesystem::resize_file(folder.path() / "cut.gguf", rest);
        const Error cut = refusal(folder, "cut");
        INFO(cut.what());
        CHECK_THAT(cut.what(), contains_text((folder.path() / "cut.gguf").string()));
        // The cause is there: more than that llama.cpp could not.
        CHECK(std::string(cut.what()).size() >
              std::string("cannot load '").size() + folder.path().string().size() + 60);
    }
}

TEST_CASE("a file that vanishes between two loads, and comes back") {
    const TemporaryFolder folder;
    write_tiny_model(folder.path() / "tiny.gguf", {});
    const LlamaCppEmbeddingBackend backend({.model = {.files = folder.path(), .contexts = 1}});
    LoadContext context;
    const std::vector<std::string> texts{"text"};
    const Embeddings before = backend.load("tiny", context)->embed(texts);
    std::filesystem::rename(folder.path() / "tiny.gguf", folder.path() / "elsewhere");
    CHECK_THAT(refusal(folder, "tiny").what(), contains_text("No such file or directory"));
    std::filesystem::rename(folder.path() / "elsewhere", folder.path() / "tiny.gguf");
    CHECK(backend.load("tiny", context)->embed(texts) == before);
}

TEST_CASE("a key that leads out of the folder is refused before any file is touched") {
    const TemporaryFolder outer;
    std::filesystem::create_directory(outer.path() / "models");
    write_tiny_model(outer.path() / "secret-f32.gguf", {});
    write_tiny_model(outer.path() / "models" / "tiny-f32.gguf", {});
    const LlamaCppEmbeddingBackend backend({.model = {.files = outer.path() / "models", .contexts = 1}});
    LoadContext context;
    const std::vector<ModelKey> leading_out{
        {"../secret", "f32"},
        {(outer.path() / "secret").string(), "f32"},
        {"tiny/../../secret", "f32"},
        {"tiny", "/../../secret-f32"},
        {std::string("tiny-f32.gguf\0", 14), "f32"},
        {"tiny", std::string("f32.gguf\0", 9)},
    };
    for (const ModelKey& key : leading_out) {
        INFO(key.name << ' ' << key.quantization);
        const Error error = error_of(invalid_request, [&] { (void)backend.load(key, context); });
        // A message ends where a NUL stands in it, and it begins with the key.
        if (to_string(key).find('\0') == std::string::npos) {
            CHECK_THAT(error.what(), contains_text("must not hold a path separator or a NUL"));
        }
    }
    // Names that only look like it.
    CHECK_THAT(error_of(load_failed, [&] { (void)backend.load("..", context); }).what(), contains_text("...gguf"));
    CHECK(backend.load({"tiny", "f32"}, context)->dimension() == 64);
}

TEST_CASE("a function may say where a key's file is; what it throws is the failure, and a NUL is refused") {
    const TemporaryFolder folder;
    write_tiny_model(folder.path() / "anywhere", {});
    LoadContext context;
    const LlamaCppEmbeddingBackend found(
        {.model = {.files = [&](const ModelKey&) { return folder.path() / "anywhere"; }, .contexts = 1}});
    CHECK(found.load("../any key/will do", context)->dimension() == 64);
    const LlamaCppEmbeddingBackend lost(
        {.model = {.files = [](const ModelKey&) -> std::filesystem::path { throw std::out_of_range("no such key"); }}});
    CHECK_THROWS_AS(lost.load("key", context), std::out_of_range);
    const LlamaCppEmbeddingBackend cut(
        {.model = {.files = [](const ModelKey&) { return std::string("/anywhere\0.gguf", 15); }}});
    (void)error_of(invalid_request, [&] { (void)cut.load("key", context); });
}

TEST_CASE("options are checked when the backend is made, and the field is named") {
    const TemporaryFolder folder;
    const auto refused = [](LlamaCppModelOptions options, const std::string& field) {
        const std::string name = "model." + field;
        CHECK_THROWS_WITH(LlamaCppEmbeddingBackend({.model = options}), contains_text(name));
        CHECK_THROWS_WITH(LlamaCppRerankerBackend({.model = options}), contains_text(name));
        CHECK_THROWS_AS(LlamaCppRerankerBackend({.model = std::move(options)}), std::invalid_argument);
    };
    refused({}, "files");
    refused({.files = ""}, "files");
    refused({.files = folder.path(), .contexts = 257}, "contexts");
    refused({.files = folder.path(), .threads = 513}, "threads");
    refused({.files = folder.path(), .batch_tokens = 15}, "batch_tokens");
    refused({.files = folder.path(), .batch_tokens = 1'048'577}, "batch_tokens");
}

TEST_CASE("a model says how many calls it takes at once") {
    const TemporaryFolder folder;
    write_tiny_model(folder.path() / "tiny.gguf", {});
    LoadContext context;
    CHECK(LlamaCppEmbeddingBackend({.model = {.files = folder.path(), .contexts = 3}})
              .load("tiny", context)
              ->max_concurrency() == 3);
    const std::size_t by_default =
        LlamaCppEmbeddingBackend({.model = {.files = folder.path()}}).load("tiny", context)->max_concurrency();
    CHECK(by_default == std::min<std::size_t>(4, usable_processors()));
}

TEST_CASE("a model has a context for each processor that may be used, and computes with a thread for each") {
    const TemporaryFolder folder;
    write_tiny_model(folder.path() / "tiny.gguf", {});
    const auto threads = [] {
        return std::distance(std::filesystem::directory_iterator("/proc/self/task"),
                             std::filesystem::directory_iterator());
    };
    std::size_t contexts = 0;
    std::ptrdiff_t workers = 0;
    const bool restricted = on_one_processor([&] {
        LoadContext context;
        const auto model = LlamaCppEmbeddingBackend({.model = {.files = folder.path()}}).load("tiny", context);
        contexts = model->max_concurrency();
        const std::ptrdiff_t before = threads();
        (void)model->embed(std::vector<std::string>{std::string(200, 'x')});
        workers = threads() - before;
    });
    if (!restricted) {
        skip("this process may run on one processor only, or cannot change that");
        return;
    }
    CHECK(contexts == 1);
    CHECK(workers == 0);
}

TEST_CASE("texts that are not UTF-8, or hold a NUL, are embedded like any other") {
    const TemporaryFolder folder;
    write_tiny_model(folder.path() / "tiny.gguf", {});
    LoadContext context;
    const auto model =
        LlamaCppEmbeddingBackend({.model = {.files = folder.path(), .contexts = 1}}).load("tiny", context);
    const std::vector<std::string> texts{"\xFF\xFE\xC3", std::string("a\0b", 3), "\xED\xA0\x80"};
    CHECK(model->embed(texts).size() == 3);
    // Past the last character that there is, and the last one itself. Two characters of GB 2312 may look like that.
    const std::vector<std::string> past{"\xF4\x90\x80\x80", "a \xF5\xA1\xB0\xA3 b", "\xF7\xBF\xBF\xBF", "\xF4",
                                        "\xF4\x8F\xBF\xBF"};
    CHECK(model->embed(past).size() == past.size());
}

}  // namespace errors_test

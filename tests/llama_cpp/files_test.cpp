// Which file in a folder a key means: whole models, split ones, and keys that mean none or two.

#include "residency/backends/llama_cpp.hpp"
#include "support/catch.hpp"
#include "support/comparing.hpp"
#include "support/folders.hpp"
#include "support/tiny_model.hpp"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace files_test {

using namespace residency;
using namespace residency::test;

namespace {

const boost::system::error_code load_failed = make_error_code(errc::load_failed);
const boost::system::error_code invalid_request = make_error_code(errc::invalid_request);

// A folder with empty files of these names.
class Names {
public:
    Names(std::initializer_list<std::string> names) {
        for (const std::string& name : names) {
            std::ofstream(folder_.path() / name).put('x');
        }
    }
    [[nodiscard]] const std::filesystem::path& path() const noexcept { return folder_.path(); }
    // The name of the key's file.
    [[nodiscard]] std::string operator()(const ModelKey& key) const {
        const std::filesystem::path path = LlamaCppFiles(folder_.path()).path_of(key);
        CHECK(path.parent_path() == folder_.path());
        return path.filename().string();
    }
    [[nodiscard]] std::string refusal(const ModelKey& key) const {
        return std::string(
            error_of(invalid_request, [&] { (void)LlamaCppFiles(folder_.path()).path_of(key); }).detail());
    }

private:
    TemporaryFolder folder_{};
};

}  // namespace

TEST_CASE("a key's file is the whole one, or else the first part of a split model") {
    const Names names{"a-f16.gguf",
                      "a-f16-00001-of-00002.gguf",
                      "b-f16-00001-of-00003.gguf",
                      "b-f16-00002-of-00003.gguf",
                      "b-f16-00003-of-00003.gguf",
                      "c-00001-of-00001.gguf",
                      "d-f16-00002-of-00002.gguf",
                      "e-00001-of-123456.gguf",
                      "f-00001-of-2.gguf",
                      "f-00001-of-000002.gguf",
                      "f-00001-of-00002.bin"};
    CHECK(names({"a", "f16"}) == "a-f16.gguf");
    CHECK(names({"b", "f16"}) == "b-f16-00001-of-00003.gguf");
    CHECK(names("b-f16") == "b-f16-00001-of-00003.gguf");
    CHECK(names("b-f16-00001-of-00003") == "b-f16-00001-of-00003.gguf");
    CHECK(names({"b", "f16-00001-of-00003"}) == "b-f16-00001-of-00003.gguf");
    CHECK(names("c") == "c-00001-of-00001.gguf");
    CHECK(names("e") == "e-00001-of-123456.gguf");
    // Only later parts, names that llama.cpp does not give, and nothing at all: the file that there would be.
    CHECK(names({"d", "f16"}) == "d-f16.gguf");
    CHECK(names("f") == "f.gguf");
    CHECK(names("none") == "none.gguf");
}

TEST_CASE("a name that ends like a file's is the file's") {
    const Names names{"a-f16.gguf", "b-00001-of-00002.gguf", "c.gguf.gguf", ".gguf.gguf"};
    CHECK(names("a-f16.gguf") == "a-f16.gguf");
    CHECK(names("b.gguf") == "b-00001-of-00002.gguf");
    CHECK(names("b-00001-of-00002.gguf") == "b-00001-of-00002.gguf");
    CHECK(names("c.gguf.gguf") == "c.gguf.gguf");
    CHECK(names(".gguf") == ".gguf.gguf");
    CHECK(names({"a.gguf", "f16"}) == "a.gguf-f16.gguf");
}

TEST_CASE("a later part is refused, and the key that finds the first is named") {
    const Names names{"b-f16-00001-of-00003.gguf", "b-f16-00002-of-00003.gguf", "b-f16-00003-of-00003.gguf"};
    for (const ModelKey& key : std::vector<ModelKey>{{"b-f16-00002-of-00003"},
                                                     {"b-f16-00002-of-00003.gguf"},
                                                     {"b", "f16-00002-of-00003"},
                                                     {"absent-f16-00002-of-00003"}}) {
        const std::string why = names.refusal(key);
        INFO(why);
        CHECK_THAT(why, contains_text("part 2 of 3"));
        CHECK_THAT(why, contains_text("-f16'"));
        CHECK_THAT(why, contains_text("-f16-00001-of-00003'"));
    }
}

TEST_CASE("a key that could mean two models is refused, and both are named") {
    const Names names{"a-f16.gguf",
                      "b-00001-of-00002.gguf",
                      "b-00001-of-00003.gguf",
                      "c-00001-of-00002.gguf",
                      "..gguf",
                      "...gguf",
                      "d.gguf",
                      "d"};
    std::filesystem::create_directory(names.path() / "a-f16");
    std::filesystem::create_directory(names.path() / "c");
    std::filesystem::create_directory(names.path() / "alone");
    const auto both = [&](const ModelKey& key, const std::string& one, const std::string& other) {
        const std::string why = names.refusal(key);
        CHECK_THAT(why, contains_text((names.path() / one).string() + "'"));
        CHECK_THAT(why, contains_text((names.path() / other).string() + "'"));
    };
    both({"a", "f16"}, "a-f16.gguf", "a-f16");
    both("a-f16.gguf", "a-f16.gguf", "a-f16");
    both("b", "b-00001-of-00002.gguf", "b-00001-of-00003.gguf");
    both("c", "c-00001-of-00002.gguf", "c");
    // A folder without a file beside it, a file in its place, and names of folders that are in every one.
    CHECK(names("alone") == "alone.gguf");
    CHECK(names("d") == "d.gguf");
    CHECK(names(".") == "..gguf");
    CHECK(names("..") == "...gguf");
}

TEST_CASE("each file's key finds it") {
    const Names names{"a-b-f16.gguf", "c.gguf", "d-q8_0-00001-of-00002.gguf", "-f16.gguf", "e-.gguf"};
    const auto key_of = [](const std::string& file) { return LlamaCppFiles::key_of(file); };
    CHECK(key_of("a-b-f16.gguf") == ModelKey("a-b", "f16"));
    CHECK(key_of("c.gguf") == ModelKey("c"));
    CHECK(key_of("d-q8_0-00001-of-00002.gguf") == ModelKey("d", "q8_0"));
    CHECK(key_of("d-q8_0-00002-of-00002.gguf") == std::nullopt);
    CHECK(key_of("readme.txt") == std::nullopt);
    CHECK(key_of("gguf") == std::nullopt);
    for (const auto& entry : std::filesystem::directory_iterator(names.path())) {
        const auto key = LlamaCppFiles::key_of(entry.path());
        REQUIRE(key);
        CHECK(names(*key) == entry.path().filename().string());
    }
}

TEST_CASE("a folder may have a key's file if it is there, or if the key is refused for what is there") {
    const Names names{"a-f16.gguf", "b-00001-of-00002.gguf", "c.gguf", "c", "d-00001-of-00001.gguf"};
    std::filesystem::create_directory(names.path() / "b");
    const LlamaCppFiles files(names.path());
    CHECK(files.may_have({"a", "f16"}));
    CHECK(files.may_have("a-f16.gguf"));
    CHECK(files.may_have("d"));
    CHECK_FALSE(files.may_have("a"));
    CHECK_FALSE(files.may_have("missing"));
    // Which of two it means, the load says.
    CHECK(files.may_have("b"));
    for (const ModelKey& key : {ModelKey("../a-f16"), ModelKey("a", "/f16"), ModelKey(std::string("a\0", 2))}) {
        CHECK_FALSE(files.may_have(key));
    }
    // A function is not called: it may take its time.
    const LlamaCppFiles named([](const ModelKey&) -> std::filesystem::path { throw std::runtime_error("called"); });
    CHECK(named.may_have("missing"));
    const LlamaCppEmbeddingBackend embedders({.model = {.files = names.path()}});
    const LlamaCppRerankerBackend rerankers({.model = {.files = names.path()}});
    CHECK((embedders.knows({"a", "f16"}) && rerankers.knows({"a", "f16"})));
    CHECK_FALSE((embedders.knows("missing") || rerankers.knows("missing")));
}

TEST_CASE("a split model computes what the whole one does, and each missing part is named") {
    const TemporaryFolder folder;
    const std::filesystem::path whole = folder.path() / "whole-f32.gguf";
    write_tiny_model(whole, {});
    write_split_model(folder.path() / "split-f32", 3, whole);
    LoadContext context;
    const LlamaCppEmbeddingBackend backend({.model = {.files = folder.path(), .contexts = 1, .threads = 1}});
    const std::vector<std::string> texts{"a text", "another"};
    CHECK(backend.load({"split", "f32"}, context)->embed(texts) ==
          backend.load({"whole", "f32"}, context)->embed(texts));

    const auto part = [&](int number) {
        return folder.path() / ("split-f32-0000" + std::to_string(number) + "-of-00003.gguf");
    };
    const auto failure = [&] {
        return std::string(error_of(load_failed, [&] { (void)backend.load({"split", "f32"}, context); }).detail());
    };
    for (const int number : {2, 3}) {
        std::filesystem::rename(part(number), folder.path() / "elsewhere");
        CHECK_THAT(failure(), contains_text("part " + std::to_string(number) + " of 3"));
        CHECK_THAT(failure(), contains_text("'" + part(number).string() + "': No such file"));
        REQUIRE(::mkfifo(part(number).c_str(), 0600) == 0);
        CHECK_THAT(failure(), contains_text("not a regular file"));
        std::filesystem::remove(part(number));
        std::filesystem::rename(folder.path() / "elsewhere", part(number));
    }
    // Its first part is what a key without a part wants.
    std::filesystem::rename(part(1), folder.path() / "elsewhere");
    CHECK_THAT(failure(), contains_text("split-f32.gguf': No such file"));
    // A function may name any file: what it holds counts.
    std::filesystem::rename(folder.path() / "elsewhere", part(1));
    const LlamaCppEmbeddingBackend named(
        {.model = {.files = [&](const ModelKey&) { return part(2); }, .contexts = 1, .threads = 1}});
    CHECK_THAT(error_of(load_failed, [&] { (void)named.load("any", context); }).what(),
               contains_text("it is part 2 of a split model: name the first part"));
}

TEST_CASE("a split reranker's head is found in the part that has it") {
    const TemporaryFolder folder;
    const std::filesystem::path whole = folder.path() / "whole.gguf";
    write_tiny_model(whole, {.pooling = 4, .labels = {"yes", "no"}, .rerank_template = "{query}|{document}"});
    write_split_model(folder.path() / "split", 4, whole);
    LoadContext context;
    const LlamaCppRerankerBackend backend({.model = {.files = folder.path(), .contexts = 1, .threads = 1}});
    const std::vector<std::string> documents{"one", "two"};
    CHECK(backend.load("split", context)->rerank("q", documents) ==
          backend.load("whole", context)->rerank("q", documents));
    const LlamaCppEmbeddingBackend embedders({.model = {.files = folder.path()}});
    CHECK_THAT(error_of(load_failed, [&] { (void)embedders.load("split", context); }).what(),
               contains_text("it is a reranker"));
}

}  // namespace files_test

// H40: children made by fork() and llama.cpp, whose threads are not in a child of a process that has used it.

#include "residency/backends/llama_cpp.hpp"
#include "residency/residency.hpp"
#include "support/catch.hpp"
#include "support/child_process.hpp"
#include "support/folders.hpp"
#include "support/tiny_model.hpp"

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace fork_test {

using namespace residency;
using namespace residency::test;

namespace {

using Manager = ModelManager<LlamaCppEmbeddingBackend, LexicalRerankerBackend>;

const ModelKey key{"tiny", "f32"};

class Tiny {
public:
    Tiny() { write_tiny_model(folder_.path() / "tiny-f32.gguf", {}); }

    [[nodiscard]] std::unique_ptr<Manager> manager() const {
        return std::make_unique<Manager>(
            LlamaCppEmbeddingBackend({.model = {.files = folder_.path(), .contexts = 2, .threads = 2}}));
    }

private:
    TemporaryFolder folder_{};
};

bool works(Manager& manager) {
    return manager.embed(key, std::vector<std::string>(8, "a text of some words")).size() == 8;
}

bool is_refused(Manager& manager, errc code) {
    try {
        static_cast<void>(manager.embed(key, {"a text"}));
    } catch (const Error& error) {
        return error.code() == code && std::string_view(error.what()).find("fork()") != std::string_view::npos;
    }
    return false;
}

}  // namespace

// Each test's process leaves llama.cpp alone, and makes one that uses it.

TEST_CASE("a child refuses to load where its parent has used llama.cpp", "[S47][H40]") {
    const Tiny tiny;
    REQUIRE(in_child([&] {
                const auto parents = tiny.manager();
                return works(*parents) &&
                       in_child([&] {
                           const auto made = tiny.manager();
                           return is_refused(*parents, errc::shutting_down) && is_refused(*made, errc::load_failed);
                       }) == "exit 0" &&
                       works(*parents);
            }) == "exit 0");
}

TEST_CASE("a child loads where its parent has a manager and has not used llama.cpp", "[S47][H40]") {
    const Tiny tiny;
    REQUIRE(in_child([&] {
                const auto parents = tiny.manager();
                return in_child([&] {
                           const auto made = tiny.manager();
                           return is_refused(*parents, errc::shutting_down) && works(*made);
                       }) == "exit 0" &&
                       works(*parents);
            }) == "exit 0");
}

TEST_CASE("a child with static managers of llama.cpp exits", "[S47][H40]") {
    const Tiny tiny;
    REQUIRE(in_child([&] {
                static const std::unique_ptr<Manager> parents = tiny.manager();
                return works(*parents) && in_child([&]() -> bool {
                                              static const std::unique_ptr<Manager> made = tiny.manager();
                                              std::exit(is_refused(*made, errc::load_failed) ? 0 : 4);
                                          }) == "exit 0";
            }) == "exit 0");
}

TEST_CASE("a model of llama.cpp in a child of its process refuses to compute and is not freed", "[S47][H40]") {
    const TemporaryFolder folder;
    write_tiny_model(folder.path() / "tiny-f32.gguf", {});
    REQUIRE(in_child([&] {
                const LlamaCppEmbeddingBackend backend({.model = {.files = folder.path()}});
                LoadContext context;
                auto model = backend.load(key, context);
                const std::vector<std::string> texts{"a text"};
                return model->embed(texts).size() == 1 && in_child([&] {
                                                              try {
                                                                  static_cast<void>(model->embed(texts));
                                                                  return false;
                                                              } catch (const Error& error) {
                                                                  model.reset();
                                                                  return error.code() == errc::inference_failed;
                                                              }
                                                          }) == "exit 0";
            }) == "exit 0");
}

}  // namespace fork_test

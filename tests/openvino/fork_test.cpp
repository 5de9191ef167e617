// H40: children made by fork() and OpenVINO, whose threads are not in a child of a process that has used it.

#include "residency/backends/openvino.hpp"
#include "residency/residency.hpp"
#include "support/catch.hpp"
#include "support/child_process.hpp"
#include "support/openvino_folders.hpp"

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

using Manager = ModelManager<OpenVinoEmbeddingBackend, LexicalRerankerBackend>;

const ModelKey key{"all-minilm-l6-v2", "f16"};

std::unique_ptr<Manager> manager_of(const std::filesystem::path& folder) {
    return std::make_unique<Manager>(OpenVinoEmbeddingBackend({.model = {.folders = folder, .streams = 2}}));
}

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

// Each test's process leaves OpenVINO alone, and makes one that uses it.

TEST_CASE("a child refuses to load where its parent has used OpenVINO", "[S47][H40]") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    REQUIRE(in_child([&] {
                const auto parents = manager_of(*folder);
                return works(*parents) &&
                       in_child([&] {
                           const auto made = manager_of(*folder);
                           return is_refused(*parents, errc::shutting_down) && is_refused(*made, errc::load_failed);
                       }) == "exit 0" &&
                       works(*parents);
            }) == "exit 0");
}

TEST_CASE("a child loads where its parent has a manager and has not used OpenVINO", "[S47][H40]") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    REQUIRE(in_child([&] {
                const auto parents = manager_of(*folder);
                return in_child([&] {
                           const auto made = manager_of(*folder);
                           return is_refused(*parents, errc::shutting_down) && works(*made);
                       }) == "exit 0" &&
                       works(*parents);
            }) == "exit 0");
}

TEST_CASE("a child with static managers of OpenVINO exits", "[S47][H40]") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    REQUIRE(in_child([&] {
                static const std::unique_ptr<Manager> parents = manager_of(*folder);
                return works(*parents) && in_child([&]() -> bool {
                                              static const std::unique_ptr<Manager> made = manager_of(*folder);
                                              std::exit(is_refused(*made, errc::load_failed) ? 0 : 4);
                                          }) == "exit 0";
            }) == "exit 0");
}

TEST_CASE("a model of OpenVINO in a child of its process refuses to compute and is not freed", "[S47][H40]") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    REQUIRE(in_child([&] {
                const OpenVinoEmbeddingBackend backend({.model = {.folders = *folder}});
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

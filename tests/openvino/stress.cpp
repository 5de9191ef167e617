// Random requests on real models from six threads, each answer compared with what the model gave when it was alone; at
// the end nothing is left. The models are those of the folder that RESIDENCY_OPENVINO_MODELS names, their texts those
// of RESIDENCY_MODELS. Beside each stands one of the same weights with other answers: the embedder takes the first
// token's vector, the reranker reads ten tokens.
//
//   stress [SECONDS [SEED]]     60 seconds, a seed that it prints

#include "support/stress.hpp"
#include "residency/backends/openvino.hpp"
#include "support/temporary_folder.hpp"

#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

namespace {

using namespace residency;
using namespace std::chrono_literals;

// A folder of models: `name`-f16 as it is in `models`, and `name`-other, in which `file` holds `text`.
void put_models(const std::filesystem::path& folder, const std::filesystem::path& models, const std::string& name,
                const std::filesystem::path& file, const std::string& text) {
    const std::filesystem::path whole = std::filesystem::absolute(models) / (name + "-f16");
    std::filesystem::create_directory_symlink(whole, folder / (name + "-f16"));
    const std::filesystem::path other = folder / (name + "-other");
    std::filesystem::create_directories((other / file).parent_path());
    for (const auto& entry : std::filesystem::directory_iterator(whole)) {
        if (entry.path().filename() != *file.begin()) {
            std::filesystem::create_symlink(entry.path(), other / entry.path().filename());
        }
    }
    std::ofstream(other / file) << text;
}

}  // namespace

int main(int argc, char** argv) try {
    const char* const models = std::getenv("RESIDENCY_OPENVINO_MODELS");
    const char* const references = std::getenv("RESIDENCY_MODELS");
    if (models == nullptr || references == nullptr) {
        std::cout << "skipped: RESIDENCY_OPENVINO_MODELS and RESIDENCY_MODELS name no folders\n";
        return 77;
    }
    const test::TemporaryFolder folder;
    put_models(folder.path(), models, "all-minilm-l6-v2", "1_Pooling/config.json",
               R"({"word_embedding_dimension": 384, "pooling_mode_cls_token": true})");
    put_models(folder.path(), models, "qa-reranker-l6", "config.json",
               R"({"model_type": "bert", "hidden_size": 384, "max_position_embeddings": 10,)"
               R"( "architectures": ["BertForSequenceClassification"]})");
    const OpenVinoModelOptions options{.folders = folder.path(), .truncate = true};
    return test::report_stress(
        {argv + 1, argv + argc},
        {.embedders = {{{"all-minilm-l6-v2", "f16"}, {"all-minilm-l6-v2", "other"}}},
         .rerankers = {{{"qa-reranker-l6", "f16"}, {"qa-reranker-l6", "other"}}},
         .cosine = {0.999, 0.999},
         .score = {0.1F, 0.1F}},
        OpenVinoEmbeddingBackend({.model = options}), OpenVinoRerankerBackend({.model = options}),
        // Loads take longer than inferences: one slot switches, the other keeps both.
        {.embedding = {.keep_alive = 300ms, .max_resident = 2, .max_leases = 6}, .reranker = {.keep_alive = 100ms}},
        references);
} catch (const std::exception& error) {
    std::cerr << "stress: " << error.what() << '\n';
    return EXIT_FAILURE;
}

#pragma once

#include "residency/backends/openvino.hpp"

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace residency::test {

/// Gives `use` a backend for the model `name`, whose name says whether it reranks, and how a model of it is called:
/// `call(model, texts)`, which gives the number of rows.
template <class Use>
auto with_either_backend(const std::string& name, OpenVinoModelOptions options, const Use& use) {
    if (name.find("rerank") != std::string::npos) {
        return use(OpenVinoRerankerBackend({.model = std::move(options)}),
                   [](OpenVinoRerankerModel& model, const std::vector<std::string>& texts) -> std::size_t {
                       return model.rerank("flow over a wing", texts).size();
                   });
    }
    return use(OpenVinoEmbeddingBackend({.model = std::move(options)}),
               [](OpenVinoEmbeddingModel& model, const std::vector<std::string>& texts) -> std::size_t {
                   return model.embed(texts).size();
               });
}

}  // namespace residency::test

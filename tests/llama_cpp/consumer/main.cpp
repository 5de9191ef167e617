// A small program of a consumer: a manager of real models, asked for one that is not there.

#include <residency/backends/llama_cpp.hpp>
#include <residency/residency.hpp>

#include <iostream>

int main() {
    residency::ModelManager<residency::LlamaCppEmbeddingBackend, residency::LlamaCppRerankerBackend> models(
        residency::LlamaCppEmbeddingBackend({.model = {.files = "no such folder"}}),
        residency::LlamaCppRerankerBackend({.model = {.files = "no such folder"}}));
    try {
        (void)models.embed({"all-minilm-l6-v2", "q8_0"}, {"text"});
    } catch (const residency::Error& error) {
        std::cout << error.what() << '\n';
        // llama.cpp is linked: it says how many sequences it takes.
        return error.code() == residency::errc::unknown_model && llama_max_parallel_sequences() > 0 ? 0 : 1;
    }
    return 1;
}

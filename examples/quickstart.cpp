// The README's first program: embeds two texts, then ranks two documents, with the built-in lexical models.
#include <residency/residency.hpp>

#include <iostream>

int main() {
    using namespace std::chrono_literals;
    const residency::ManagerOptions options{.embedding = {.keep_alive = 5min, .max_leases = 10},
                                            .reranker = {.keep_alive = 2min}};
    residency::ModelManager<residency::LexicalEmbeddingBackend, residency::LexicalRerankerBackend> models{
        {}, {}, options};  // {}, {}: the two backends
    try {
        const auto vectors = models.embed({"lexical", "f32"}, {"a cat sat", "stock prices fell"});
        std::cout << vectors.size() << " vectors of " << vectors.dimension() << " floats\n";

        const auto ranking = models.rerank({"lexical", "f32"}, "where is the cat", {"prices fell", "the cat sat"});
        for (const auto& [index, score] : ranking) {
            std::cout << "document " << index << " scores " << score << '\n';
        }
    } catch (const residency::Error& error) {
        std::cerr << error.what() << '\n';
        return error.retryable() ? 75 : 1;
    }
    std::cout << models.status();
}

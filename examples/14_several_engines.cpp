// New here: several engines behind one manager. Which engine a key has is configuration, and a key that none of them
// knows is refused before a model has to go for it.
#include <residency/backends/any.hpp>
#include <residency/residency.hpp>

#include <iostream>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

/// Another engine: rows of one float, the length of the text.
struct LengthModel {
    static residency::Embeddings embed(std::span<const std::string> texts) {
        residency::Embeddings rows(texts.size(), 1);
        for (std::size_t row = 0; row < texts.size(); ++row) {
            rows[row].front() = static_cast<float>(texts[row].size());
        }
        return rows;
    }
};

//! [knows]
struct LengthBackend {
    using model_type = LengthModel;

    static std::unique_ptr<LengthModel> load(const residency::ModelKey& /*key*/) {
        return std::make_unique<LengthModel>();
    }
    /// Optional. Quick, from any thread: a look at a table, or whether a file is there.
    static bool knows(const residency::ModelKey& key) { return key.quantization == "bytes"; }
};
//! [knows]

int main() {
    //! [route]
    // From the first line to the last: the first pattern that matches has the key.
    residency::AnyEmbeddingBackend embedding = residency::route({
        {"length@*", LengthBackend()},  // name@quantization; without an @ the name alone
        {"lexical*", residency::LexicalEmbeddingBackend()},
    });
    residency::AnyRerankerBackend reranker = residency::LexicalRerankerBackend();
    residency::ModelManager<residency::AnyEmbeddingBackend, residency::AnyRerankerBackend> models(std::move(embedding),
                                                                                                  std::move(reranker));
    //! [route]

    const std::size_t lexical = models.embed({"lexical", "f32"}, {"a cat sat"}).dimension();
    const float length = models.embed({"length", "bytes"}, {"a cat sat"})[0].front();
    std::cout << "lexical: " << lexical << " floats, length: " << length << '\n';

    // No pattern matches the first, and the engine of the second does not know it: the model that is there stays.
    int unknown = 0;
    for (const residency::ModelKey& key : {residency::ModelKey("minilm", "q8_0"), {"length", "words"}}) {
        try {
            static_cast<void>(models.embed(key, {"a cat sat"}));
        } catch (const residency::Error& error) {
            std::cout << error.what() << '\n';
            unknown += error.code() == residency::errc::unknown_model ? 1 : 0;
        }
    }
    return unknown == 2 && models.embedding().try_acquire({"length", "bytes"}) ? 0 : 1;
}

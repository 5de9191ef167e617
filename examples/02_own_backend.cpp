// New here: backends of one's own. A backend loads a model for a key, the model does the work, its destructor unloads.
#include <residency/residency.hpp>

#include <cstddef>
#include <iostream>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

//! [embedder]
/// Embeds a text as how often it has each letter. Several threads use it at once, so what they call changes nothing.
class LetterCounter {
public:
    explicit LetterCounter(std::string alphabet) : alphabet_(std::move(alphabet)) {}

    residency::Embeddings embed(std::span<const std::string> texts) const {
        residency::Embeddings rows(texts.size(), alphabet_.size());  // a row of zeros for each text
        for (std::size_t text = 0; text < texts.size(); ++text) {
            for (const char letter : texts[text]) {
                const std::size_t place = alphabet_.find(letter);
                if (place != std::string::npos) {
                    rows[text][place] += 1;
                }
            }
        }
        return rows;
    }

    //! [batch_limits]
    /// Optional: so much is computed best in one call. Requests then share calls, and large ones are cut.
    residency::BatchLimits batch_limits() const { return {.texts = 64, .bytes = 16'384}; }
    //! [batch_limits]

private:
    std::string alphabet_;
};
//! [embedder]

//! [backend]
/// Knows one alphabet. A load may block, throws to fail, and may log how it goes.
struct LetterCounterBackend {
    using model_type = LetterCounter;

    std::unique_ptr<LetterCounter> load(const residency::ModelKey& key, residency::LoadContext& context) {
        if (key.name == "latin") {
            context.log(residency::Severity::info, "26 letters");
            return std::make_unique<LetterCounter>("abcdefghijklmnopqrstuvwxyz");
        }
        if (key.name == "klingon") {
            // An Error keeps its code; invalid_request is the caller's fault and starts no cooldown.
            throw residency::Error(residency::errc::invalid_request, key, residency::Stage::load,
                                   "there is no such alphabet");
        }
        throw std::runtime_error("cannot read " + key.name + ".txt");
    }
};
// If something is missing, the compiler says so here, and not where a manager is made.
static_assert(residency::EmbeddingBackend<LetterCounterBackend>);
//! [backend]

//! [reranker]
/// Scores a document by whether it has the query in it. Greater is better.
struct Finder {
    std::vector<float> rerank(std::string_view query, std::span<const std::string> documents) const {
        std::vector<float> scores;
        for (const std::string& document : documents) {
            scores.push_back(document.find(query) == std::string::npos ? 0.0F : 1.0F);
        }
        return scores;
    }
};
struct FinderBackend {
    using model_type = Finder;
    std::unique_ptr<Finder> load(const residency::ModelKey& /*key*/) { return std::make_unique<Finder>(); }
};
//! [reranker]

int main() {
    const residency::ManagerOptions options{
        .observer = [](const residency::Event& event) { std::cout << event << '\n'; }};
    residency::ModelManager<LetterCounterBackend, FinderBackend> models{{}, {}, options};

    const residency::Embeddings vectors = models.embed("latin", {"abba", "cab"});
    std::cout << vectors.size() << " vectors, the first has " << vectors[0][0] << " a\n";
    const residency::Ranking ranking = models.rerank("any", "cat", {"prices fell", "the cat sat"});
    std::cout << "document " << ranking.front().index << " is the best\n";

    int failures = 0;
    for (const char* name : {"klingon", "missing"}) {
        try {
            std::cout << models.embed(name, {"text"}).size() << '\n';
        } catch (const residency::Error& error) {
            std::cout << error.what() << '\n';
            ++failures;
        }
    }
    return vectors[0][1] == 2 && ranking.front().index == 1 && failures == 2 ? 0 : 1;
}

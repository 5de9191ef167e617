// New here: a memory budget, in bytes, that two managers share.
#include <residency/backends/lexical.hpp>
#include <residency/residency.hpp>

#include <cstddef>
#include <iostream>
#include <memory>
#include <span>
#include <string>
#include <vector>

/// A model that holds what its key's name says: "small" or "large".
class Weights {
public:
    explicit Weights(std::size_t bytes) : weights_(bytes) {}
    residency::Embeddings embed(std::span<const std::string> texts) const {
        residency::Embeddings rows(texts.size(), 1);
        for (std::size_t row = 0; row < texts.size(); ++row) {
            rows[row].front() = static_cast<float>(texts[row].size() + weights_.size());
        }
        return rows;
    }
    //! [sizes]
    /// Optional: what the model holds now that it is loaded: from now on it counts for that.
    std::size_t memory_used() const { return weights_.capacity(); }

private:
    std::vector<char> weights_;
};

struct WeightsBackend {
    using model_type = Weights;

    /// Optional: what a model will hold at most. A model that cannot fit is refused before another goes for it.
    static std::size_t memory_needed(const residency::ModelKey& key) { return key.name == "large" ? 3'000 : 1'000; }
    static std::unique_ptr<Weights> load(const residency::ModelKey& key) {
        return std::make_unique<Weights>(memory_needed(key));
    }
};
//! [sizes]

int main() {
    //! [budget]
    const auto budget = std::make_shared<residency::MemoryBudget>(4'000);  // bytes
    residency::ManagerOptions options;
    options.memory = budget;             // of both slots
    options.embedding.max_resident = 0;  // as many as the budget allows
    using Manager = residency::ModelManager<WeightsBackend, residency::LexicalRerankerBackend>;
    Manager people({}, {}, options);
    Manager nightly({}, {}, options);
    //! [budget]

    static_cast<void>(people.embed("small", {"a cat sat"}));
    static_cast<void>(nightly.embed("large", {"a cat sat"}));
    std::cout << budget->status() << '\n';
    const bool fit_together = budget->used() == 4'000;

    // A third does not fit beside them: of all models the one goes that has been idle for the longest time.
    static_cast<void>(people.embed("other", {"a cat sat"}));
    std::cout << budget->status() << '\n';

    budget->set_limit(2'000);
    try {
        static_cast<void>(people.embed("large", {"a cat sat"}));
    } catch (const residency::Error& error) {
        std::cout << error.what() << '\n';
        return fit_together && error.code() == residency::errc::insufficient_memory ? 0 : 1;
    }
    return 1;
}

// Threads use two managers that share a memory budget, while another one changes its limit, trims it, looks at it, and
// makes and destroys a third manager. What the models hold is never more than the largest limit.

#include <residency/backends/lexical.hpp>
#include <residency/residency.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace residency;

std::atomic<std::size_t> held{0};
std::atomic<std::size_t> most{0};

std::size_t size_of(const ModelKey& key) { return 10 + 7 * static_cast<std::size_t>(key.name.front() - 'a'); }

class Model {
public:
    explicit Model(std::size_t bytes) : bytes_(bytes) {
        const std::size_t now = held.fetch_add(bytes) + bytes;
        for (std::size_t seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {}
    }
    Model(const Model&) = delete;
    Model& operator=(const Model&) = delete;
    ~Model() { held -= bytes_; }
    [[nodiscard]] Embeddings embed(std::span<const std::string> texts) const {
        return {1, std::vector<float>(texts.size(), static_cast<float>(bytes_))};
    }

private:
    const std::size_t bytes_;
};

struct Backend {
    using model_type = Model;
    static std::unique_ptr<Model> load(const ModelKey& key) { return std::make_unique<Model>(size_of(key)); }
    static std::size_t memory_needed(const ModelKey& key) { return size_of(key); }
};

using Manager = ModelManager<Backend, LexicalRerankerBackend>;

}  // namespace

int main() {
    constexpr std::size_t limit = 60;
    const auto budget = std::make_shared<MemoryBudget>(limit);
    ManagerOptions options;
    options.embedding.memory = options.reranker.memory = budget;
    options.embedding.max_resident = 0;
    std::atomic<std::size_t> answered{0};
    std::atomic<std::size_t> wrong{0};
    {
        Manager one({}, {}, options);
        Manager other({}, {}, options);
        const auto call = [&](Manager& manager, std::mt19937& random) {
            const ModelKey key(std::string(1, static_cast<char>('a' + random() % 6)));
            try {
                const Embeddings rows = manager.embed(key, {"text"}, {.timeout = std::chrono::seconds(20)});
                wrong += rows[0][0] == static_cast<float>(size_of(key)) ? 0U : 1U;
                ++answered;
            } catch (const Error& error) {
                // The limit may be too low for the key just then.
                wrong += error.code() == errc::insufficient_memory ? 0U : 1U;
            }
        };
        std::vector<std::jthread> threads;
        for (unsigned seed = 0; seed < 4; ++seed) {
            threads.emplace_back([&, seed] {
                std::mt19937 random(seed);
                for (int number = 0; number < 150; ++number) {
                    call(random() % 2 == 0 ? one : other, random);
                }
            });
        }
        threads.emplace_back([&] {
            std::mt19937 random(99);
            for (int number = 0; number < 30; ++number) {
                budget->set_limit(number % 3 == 0 ? limit / 2 : limit);
                budget->trim(random() % limit);
                static_cast<void>(budget->status());
                Manager third({}, {}, options);
                call(third, random);
            }
            budget->set_limit(limit);
        });
    }
    std::cout << answered << " answered, at most " << most << " of " << limit << " bytes held, " << budget->used()
              << " left\n";
    const bool holds = wrong == 0 && answered != 0 && most <= limit && held == 0 && budget->used() == 0;
    return holds ? EXIT_SUCCESS : EXIT_FAILURE;
}

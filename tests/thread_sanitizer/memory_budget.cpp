// Threads use two managers that share a memory budget, while another one changes its limit, trims it, looks at it, and
// makes and destroys a third manager. What the models hold is never more than the largest limit.

#include <residency/backends/lexical.hpp>
#include <residency/residency.hpp>

#include "support/held_models.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace residency;
using namespace residency::test;

using Manager = ModelManager<HeldBackend, LexicalRerankerBackend>;

}  // namespace

int main() {
    constexpr std::size_t limit = 60;
    HeldBytes held;
    const auto budget = std::make_shared<MemoryBudget>(limit);
    ManagerOptions options;
    options.memory = budget;
    options.embedding.max_resident = 0;
    std::atomic<std::size_t> answered{0};
    std::atomic<std::size_t> wrong{0};
    {
        Manager one(HeldBackend(held), {}, options);
        Manager other(HeldBackend(held), {}, options);
        const auto call = [&](Manager& manager, std::mt19937& random) {
            const ModelKey key(std::string(1, static_cast<char>('a' + random() % 6)));
            try {
                const Embeddings rows = manager.embed(key, {"text"}, {.timeout = std::chrono::seconds(20)});
                wrong += rows[0][0] == static_cast<float>(held_size(key)) ? 0U : 1U;
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
                Manager third(HeldBackend(held), {}, options);
                call(third, random);
            }
            budget->set_limit(limit);
        });
    }
    std::cout << answered << " answered, at most " << held.most() << " of " << limit << " bytes held, "
              << budget->used() << " left\n";
    const bool holds = wrong == 0 && answered != 0 && held.most() <= limit && held.now() == 0 && budget->used() == 0;
    return holds ? EXIT_SUCCESS : EXIT_FAILURE;
}

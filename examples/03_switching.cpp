// New here: two keys take turns in the one place of a slot, under load from several threads, and no request is answered
// by the wrong model.
#include <residency/model_slot.hpp>

#include <atomic>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

/// Knows which model it is, so that a wrong answer would show.
struct Model {
    residency::ModelKey key;
};

struct Backend {
    using model_type = Model;
    std::unique_ptr<Model> load(const residency::ModelKey& key) { return std::make_unique<Model>(Model{key}); }
};

int main() {
    // One model at a time: the second key is switched to, first come first served.
    residency::ModelSlot<Backend> models{{}, {.max_resident = 1, .max_leases = 4}};
    std::atomic<int> wrong = 0;
    {
        std::vector<std::jthread> threads;
        for (int index = 0; index < 4; ++index) {
            threads.emplace_back([&models, &wrong, key = residency::ModelKey(index % 2 == 0 ? "even" : "odd")] {
                for (int round = 0; round < 50; ++round) {
                    const auto lease = models.acquire(key);
                    wrong += lease->key == key ? 0 : 1;
                }
            });
        }
    }
    const residency::SlotStatus slot = models.status();
    std::cout << slot << "requests answered by the wrong model: " << wrong << '\n';
    return wrong == 0 && slot.counters.leases_granted == 200 ? 0 : 1;
}

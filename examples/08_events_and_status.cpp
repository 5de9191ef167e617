// New here: what a slot reports: events as they happen, in order, and a status at any time. Neither keeps a model
// alive.
#include <residency/residency.hpp>

#include <atomic>
#include <iostream>

int main() {
    //! [observer]
    std::atomic<int> idle_unloads = 0;
    // Called on the callbacks executor, one event at a time, with no lock held. Nothing waits for it but the events
    // behind it.
    const residency::Observer observer = [&idle_unloads](const residency::Event& event) {
        std::cout << event << '\n';
        if (event.type == residency::EventType::unloaded && event.reason == residency::Reason::idle) {
            ++idle_unloads;
            idle_unloads.notify_all();
        }
    };
    using namespace std::chrono_literals;
    residency::ModelSlot<residency::LexicalEmbeddingBackend> slot{{}, {.keep_alive = 50ms}, {}, observer, "embedding"};
    //! [observer]

    slot.ensure_loaded("lexical");

    //! [status]
    const residency::SlotStatus status = slot.status();
    for (const residency::ResidentStatus& resident : status.residents) {
        std::cout << resident << '\n';  // lexical ready, generation 1, 0 leases, idle for 0 ms, unloads in 49 ms
    }
    std::cout << status;  // all of it, for people: residents, failures, counters
    // For a metric: figures that only grow.
    const std::uint64_t refused = status.counters.overloaded + status.counters.cooling_down;
    //! [status]

    idle_unloads.wait(0);
    return refused == 0 && slot.status().residents.empty() ? 0 : 1;
}

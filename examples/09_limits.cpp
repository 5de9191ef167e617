// New here: limits, and what a service does when they are reached: how many leases, how long a queue, how long a wait.
#include "http_status.hpp"

#include <residency/residency.hpp>

#include <iostream>

int main() {
    using namespace std::chrono_literals;
    //! [limits]
    residency::SlotOptions options;
    options.max_resident = 1;   // memory: how many models fit at once
    options.max_calls = 2;      // processor: how many model calls run at once
    options.max_leases = 2;     // those calls, and the leases that the program holds itself
    options.max_queue = 8;      // patience: the last of a full queue waits for about max_queue / max_calls calls
    options.keep_alive = 2min;  // a load's length against memory that lies idle
    residency::ModelSlot<residency::LexicalEmbeddingBackend> slot{{}, options};
    //! [limits]

    const auto first = slot.acquire("lexical");
    const auto second = slot.acquire("lexical");
    //! [timeout]
    try {
        const auto third = slot.acquire("lexical", {.timeout = 20ms});
    } catch (const residency::Error& error) {
        std::cout << http_status(error) << ": " << error.what() << '\n';
        return http_status(error) == 504 && error.stage() == residency::Stage::queue ? 0 : 1;
    }
    //! [timeout]
    return 1;
}

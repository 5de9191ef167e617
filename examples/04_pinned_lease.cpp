// New here: a lease pins its model. While it lives the model stays, through idleness, unload and switch; and a
// generation shows whether two answers came from the same residency.
#include <residency/residency.hpp>

#include <boost/asio/use_future.hpp>

#include <iostream>
#include <string>
#include <vector>

int main() {
    using namespace std::chrono_literals;
    residency::ModelSlot<residency::LexicalEmbeddingBackend> slot{{}, {.keep_alive = 0ms}};

    auto lease = slot.acquire("lexical");
    const std::vector<std::string> texts{"called as often as you like", "without asking the slot again"};
    const residency::Embeddings first = lease->embed(texts);

    // The unload waits for the lease; no new one is granted meanwhile.
    std::future<void> unloaded = slot.async_unload("lexical", boost::asio::use_future);
    const residency::Embeddings second = lease->embed(texts);
    const residency::Generation before = lease.generation();
    const bool refused = !slot.try_acquire("lexical");
    lease.release();
    unloaded.get();

    const auto again = slot.acquire("lexical");
    std::cout << "same answers: " << (first == second) << ", refused while draining: " << refused << ", generation "
              << before << " then " << again.generation() << '\n';

    // A request that depends on one residency names it, and fails if that one is gone.
    try {
        const auto stale = slot.acquire("lexical", {.expected_generation = before});
    } catch (const residency::Error& error) {
        std::cout << error.what() << '\n';
        return first == second && refused && error.code() == residency::errc::model_changed ? 0 : 1;
    }
    return 1;
}

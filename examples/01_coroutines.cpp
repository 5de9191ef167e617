// New here: the asynchronous calls under co_await, and many requests at once that share one load.
#include <residency/residency.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include <iostream>
#include <string>
#include <utility>
#include <vector>

namespace asio = boost::asio;

using Models = residency::ModelManager<residency::LexicalEmbeddingBackend, residency::LexicalRerankerBackend>;

//! [coroutine]
asio::awaitable<void> one_request(Models& models, std::string text) {
    const residency::ModelKey key("lexical");
    std::vector<std::string> texts{std::move(text)};
    const residency::Embeddings vectors = co_await models.async_embed(key, std::move(texts));
    // The coroutine goes on where it was spawned, not on a thread of the manager's.
    std::cout << vectors.size() << " vector of " << vectors.dimension() << " floats\n";
}
//! [coroutine]

int main() {
    // First the context, then the manager: a handler's context outlives its requests.
    asio::io_context context;
    Models models;
    for (const char* text : {"first", "second", "third"}) {
        asio::co_spawn(context, one_request(models, text), asio::detached);
    }
    context.run();
    const residency::SlotStatus slot = models.embedding().status();
    std::cout << slot.counters.leases_granted << " leases, " << slot.counters.loads << " load\n";
    return slot.counters.loads == 1 && slot.counters.leases_granted == 3 ? 0 : 1;
}

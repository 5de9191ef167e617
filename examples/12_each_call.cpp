// New here: nothing; each asynchronous call once, as the reference shows it.
#include <residency/residency.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_future.hpp>

#include <iostream>

namespace asio = boost::asio;
using namespace std::chrono_literals;

using Models = residency::ModelManager<residency::LexicalEmbeddingBackend, residency::LexicalRerankerBackend>;

asio::awaitable<bool> each_call(Models& models) {
    const residency::ModelKey key("lexical");
    auto& slot = models.embedding();
    bool ok = true;

    //! [async_ensure_loaded]
    const residency::Generation generation = co_await slot.async_ensure_loaded(key, {.keep_alive = 10min});
    //! [async_ensure_loaded]
    ok &= generation == slot.generation();

    //! [async_embed]
    std::vector<std::string> texts{"a cat sat", "stock prices fell"};
    const residency::Embeddings vectors = co_await models.async_embed(key, std::move(texts), {.timeout = 2s});
    //! [async_embed]
    ok &= vectors.size() == 2;

    //! [async_rerank]
    std::vector<std::string> documents{"prices fell", "the cat sat"};
    const residency::Ranking ranking = co_await models.async_rerank(key, "where is the cat", std::move(documents));
    const std::size_t best = ranking.front().index;
    //! [async_rerank]
    ok &= best == 1;

    //! [async_acquire]
    auto lease = co_await slot.async_acquire(key);
    const std::vector<std::string> mine{"called", "as often as you like"};
    const residency::Embeddings own = lease->embed(mine);
    lease.release();
    //! [async_acquire]
    ok &= own.size() == 2;

    //! [async_unload]
    co_await slot.async_unload(key, residency::UnloadMode::revoke);
    //! [async_unload]
    ok &= slot.status().residents.empty();

    //! [async_shutdown]
    const residency::ShutdownReport report = co_await models.async_shutdown(30s);
    for (const residency::Leftover& leftover : report.leftovers) {
        std::cerr << leftover.slot << ": " << leftover.key << " still has " << leftover.leases << " leases\n";
    }
    //! [async_shutdown]
    co_return ok&& report.clean();
}

int main() {
    asio::io_context context;
    Models models;
    std::future<bool> ok = asio::co_spawn(context, each_call(models), asio::use_future);
    context.run();
    return ok.get() ? 0 : 1;
}

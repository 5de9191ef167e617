// New here: what a manager in Python, made of a lock, an unload task, a semaphore and an executor, becomes.
#include <residency/residency.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include <iostream>

namespace asio = boost::asio;
using namespace std::chrono_literals;

using Models = residency::ModelManager<residency::LexicalEmbeddingBackend, residency::LexicalRerankerBackend>;

//! [search]
// async def search(query, documents):
//     async with semaphore:                      # max_leases, and a queue that can be full
//         await manager.ensure_loaded("lexical")  # in Python the lock is let go here ...
//         return await loop.run_in_executor(pool, model.rank, query, documents)  # ... and another model may answer
asio::awaitable<residency::Ranking> search(Models& models, std::string query, std::vector<std::string> documents) {
    const residency::ModelKey key("lexical");
    co_return co_await models.async_rerank(key, std::move(query), std::move(documents));
}
//! [search]

int main() {
    //! [manager]
    Models models({}, {},
                  {.embedding = {.keep_alive = 5min, .max_leases = 10},  // Semaphore(10), and the unload task's delay
                   .reranker = {.keep_alive = 5min,
                                .max_leases = 4}});  // ThreadPoolExecutor(4) needs no twin: leases are what counts
    //! [manager]
    asio::io_context loop;
    residency::Ranking ranking;
    asio::co_spawn(
        loop,
        [&]() -> asio::awaitable<void> {
            std::vector<std::string> documents{"prices fell", "the cat sat"};
            ranking = co_await search(models, "where is the cat", std::move(documents));
        },
        asio::detached);
    loop.run();
    std::cout << "best: document " << ranking.at(0).index << '\n';
    return ranking.at(0).index == 1 ? 0 : 1;
}

// New here: the manager on executors of the host's: a context that the host runs, a pool for the models, a thread for
// loads; or one strand.
#include <residency/residency.hpp>

#include <boost/asio/strand.hpp>
#include <boost/asio/use_future.hpp>

#include <iostream>
#include <thread>

namespace asio = boost::asio;

using Models = residency::ModelManager<residency::LexicalEmbeddingBackend, residency::LexicalRerankerBackend>;

int main() {
    int answers = 0;

    {
        //! [three executors]
        asio::io_context context;        // the program's own: timers, handlers, events
        asio::thread_pool inference(2);  // calls of models, at most two at once
        asio::thread_pool loading(1);    // loads and unloads: a slow one delays nothing else
        Models models({}, {}, {}, {context.get_executor(), inference.get_executor(), loading.get_executor()});

        models.async_embed("lexical", {"a cat sat"},
                           [&](std::exception_ptr error, const residency::Embeddings& vectors) {
                               // On `context`, which this thread runs.
                               answers += !error && vectors.size() == 1 ? 1 : 0;
                               models.async_shutdown([](std::exception_ptr, const residency::ShutdownReport&) {});
                           });
        // Returns when the shutdown has completed: then there is no work left.
        context.run();
        //! [three executors]
        inference.join();
        loading.join();
    }

    {
        //! [one strand]
        // A strand makes all of the manager's work one sequence: no two calls of models at once, and a load delays them
        // all.
        asio::thread_pool pool(4);
        {
            Models models({}, {}, {}, residency::Executors::all(asio::make_strand(pool)));
            std::future<residency::Embeddings> vectors = models.async_embed("lexical", {"a cat sat"}, asio::use_future);
            answers += vectors.get().size() == 1 ? 1 : 0;
        }
        // The manager is gone; what it left for the pool to do, unloading the model, ends here.
        pool.join();
        //! [one strand]
    }

    std::cout << answers << " answers on executors of the host's\n";
    return answers == 2 ? 0 : 1;
}

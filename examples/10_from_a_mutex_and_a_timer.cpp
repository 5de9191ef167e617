// New here: nothing but a comparison: the holder of a model that one writes first, and the slot that takes its place.
#include <residency/residency.hpp>

#include <boost/asio/steady_timer.hpp>

#include <iostream>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

using Embedder = residency::LexicalEmbeddingBackend::model_type;

//! [before]
/// Loads on first use and unloads a while later. It looks right.
class HomeMade {
public:
    explicit HomeMade(asio::io_context& context) : timer_(context) {}

    std::shared_ptr<Embedder> get() {
        const std::lock_guard lock(mutex_);
        if (!model_) {
            model_ = residency::LexicalEmbeddingBackend().load("lexical");  // all other requests wait meanwhile
        }
        timer_.expires_after(5min);  // cancels a wait whose handler may be on its way already: it unloads all the same
        timer_.async_wait([this](const boost::system::error_code& error) {
            if (!error) {
                const std::lock_guard again(mutex_);
                // A long inference goes on, so two models are in memory as soon as the next request loads.
                model_.reset();
            }
        });
        return model_;
    }

private:
    std::mutex mutex_;
    std::shared_ptr<Embedder> model_;
    asio::steady_timer timer_;
};
//! [before]

}  // namespace

int main() {
    const std::vector<std::string> texts{"a cat sat"};

    asio::io_context context;
    HomeMade home_made(context);
    const residency::Embeddings before = home_made.get()->embed(texts);

    //! [after]
    residency::ModelSlot<residency::LexicalEmbeddingBackend> slot{{}, {.keep_alive = 5min}};
    const residency::Embeddings after = slot.acquire("lexical")->embed(texts);
    //! [after]

    std::cout << "the same answer: " << (before == after) << '\n';
    return before == after ? 0 : 1;
}

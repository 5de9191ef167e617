// New here: a model that waits rather than computes, such as one behind a socket, answers asynchronously. A hundred of
// its calls wait on one thread, and one that is not wanted any more is cancelled.
#include <residency/residency.hpp>
#include <residency/testing/fake_async_backend.hpp>
#include <residency/testing/outcome.hpp>
#include <residency/testing/virtual_clock.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>

#include <chrono>
#include <cstddef>
#include <future>
#include <iostream>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;

//! [model]
/// Its vectors are computed elsewhere, which takes `latency`. While it waits for them it occupies no thread.
class RemoteModel {
public:
    explicit RemoteModel(std::chrono::milliseconds latency) : latency_(latency) {}

    asio::awaitable<residency::Embeddings> embed(std::span<const std::string> texts) {
        // A timer in place of a socket. Both belong to the call's own strand.
        asio::steady_timer answer(co_await asio::this_coro::executor, latency_);
        // Throws operation_aborted when no request wants the call any more: that is all it takes to be cancelled.
        co_await answer.async_wait(asio::use_awaitable);
        residency::Embeddings rows(texts.size(), 1);
        for (std::size_t text = 0; text < texts.size(); ++text) {
            rows[text][0] = static_cast<float>(texts[text].size());
        }
        co_return rows;
    }

    /// Optional: how many calls the other side takes at once.
    std::size_t max_concurrency() const { return 100; }

private:
    std::chrono::milliseconds latency_;
};
//! [model]

struct RemoteBackend {
    using model_type = RemoteModel;
    std::unique_ptr<RemoteModel> load(const residency::ModelKey& key) {
        return std::make_unique<RemoteModel>(key.name == "stuck" ? std::chrono::milliseconds(1h) : 20ms);
    }
};
static_assert(residency::EmbeddingBackend<RemoteBackend>);

namespace {

std::size_t many_at_once() {
    //! [many]
    // One thread for model calls is enough, as none of them waits on it. Leases are what bounds them.
    residency::ModelManager<RemoteBackend, residency::LexicalRerankerBackend> models{
        {}, {}, {.embedding = {.max_leases = 100, .max_calls = 100}}};
    std::vector<std::future<residency::Embeddings>> answers;
    for (std::size_t request = 0; request < 100; ++request) {
        answers.push_back(models.async_embed("remote", {std::string(request, 'x')}, asio::use_future));
    }
    //! [many]
    std::size_t sound = 0;
    for (std::size_t request = 0; request < answers.size(); ++request) {
        sound += answers[request].get()[0][0] == static_cast<float>(request) ? 1 : 0;
    }
    return sound;
}

bool is_cancelled() {
    //! [cancelled]
    residency::ModelManager<RemoteBackend, residency::LexicalRerankerBackend> models;
    try {
        (void)models.embed("stuck", {"text"}, {.timeout = 50ms});
    } catch (const residency::Error& error) {
        // The destructor waits for the call, and that has been cancelled: nothing waits for an hour.
        return error.code() == residency::errc::timed_out;
    }
    //! [cancelled]
    return false;
}

bool tested() {
    //! [double]
    using residency::testing::FakeStep;
    using residency::testing::VirtualClock;
    VirtualClock::reset();
    asio::io_context context;
    const auto world = std::make_shared<residency::testing::FakeWorld>();
    // The calls of the model wait at this gate until it opens, or they are cancelled.
    const auto gate = world->block(FakeStep::inference, "remote", residency::testing::FakeStop::honour);

    using Fake = residency::testing::FakeAsyncEmbeddingBackend;
    residency::ModelManager<Fake, residency::LexicalRerankerBackend, VirtualClock> models{
        Fake(world), {}, {}, residency::Executors::all(context.get_executor())};
    residency::testing::Outcome<residency::Embeddings> late;
    residency::testing::Outcome<residency::Embeddings> sound;
    models.async_embed("remote", {"late"}, {.timeout = 1s}, late.handler());
    models.async_embed("remote", {"sound"}, sound.handler());
    residency::testing::run_ready(context);
    const std::size_t waiting = gate->held();  // 2, and no thread waits
    residency::testing::advance(context, 1s);
    const std::size_t after = gate->held();  // 1: the other one was cancelled
    gate->open();
    residency::testing::run_ready(context);
    //! [double]
    return waiting == 2 && after == 1 && late.code() == residency::errc::timed_out && sound.value().size() == 1;
}

}  // namespace

int main() {
    const std::size_t sound = many_at_once();
    const bool cancelled = is_cancelled();
    const bool sound_in_test = tested();
    std::cout << sound << " of 100 calls that waited at once were answered; the one that was stuck was "
              << (cancelled ? "cancelled" : "left alone") << '\n';
    return sound == 100 && cancelled && sound_in_test ? 0 : 1;
}

// H15 where a stop is what the library calls: what a backend or a model has registered for it runs inside the call that
// requests it.

#include "residency/model_manager.hpp"
#include "residency/testing/gate.hpp"
#include "residency/testing/outcome.hpp"

#include "support/catch.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>

#include <functional>
#include <future>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace stops_test {

using namespace residency;

namespace {

const ModelKey a("a");
const ModelKey b("b");

/// What runs when a stop is requested, and what holds a load or a call back until then.
struct Stopped {
    std::function<void()> then;
    testing::Gate gate;
    bool holds_load = false;
    bool holds_call = false;

    void hold(const std::stop_token& stop) {
        const std::stop_callback stopped(stop, [this] { then(); });
        gate.pass(stop);
    }
};

struct StoppableEmbedder {
    std::shared_ptr<Stopped> stopped;

    Embeddings embed(std::span<const std::string> texts, const std::stop_token& stop) {
        if (stopped->holds_call) {
            stopped->hold(stop);
        }
        return Embeddings(1, std::vector<float>(texts.size(), 1.0F));
    }
};

struct StoppableBackend {
    using model_type = StoppableEmbedder;
    std::shared_ptr<Stopped> stopped;

    std::unique_ptr<StoppableEmbedder> load(const ModelKey&, const std::stop_token& stop) {
        if (stopped->holds_load) {
            stopped->hold(stop);
        }
        return std::make_unique<StoppableEmbedder>(StoppableEmbedder{stopped});
    }
};

struct NoReranker {
    std::vector<float> rerank(std::string_view, std::span<const std::string> documents) {
        return std::vector<float>(documents.size());
    }
};

struct NoRerankerBackend {
    using model_type = NoReranker;
    std::unique_ptr<NoReranker> load(const ModelKey&) { return std::make_unique<NoReranker>(); }
};

using Manager = ModelManager<StoppableBackend, NoRerankerBackend>;

/// Cancels an embedding while its load or its call is held back, and gives the code that a blocking call in the stop
/// callback got.
errc code_in_stop(bool during_load) {
    const auto stopped = std::make_shared<Stopped>();
    stopped->holds_load = during_load;
    stopped->holds_call = !during_load;
    Manager models(StoppableBackend{stopped}, NoRerankerBackend{});
    errc code = errc::overloaded;
    stopped->then = [&] {
        try {
            models.embedding().unload(b);
        } catch (const Error& error) {
            code = error.code() == errc::would_deadlock ? errc::would_deadlock : errc::invalid_request;
        }
    };
    std::promise<void> done;
    asio::cancellation_signal signal;
    models.async_embed(a, {"text"},
                       asio::bind_cancellation_slot(
                           signal.slot(), [&](const std::exception_ptr&, const Embeddings&) { done.set_value(); }));
    stopped->gate.await_held();
    // On this thread, which is none of the library's: only the stop is.
    signal.emit(asio::cancellation_type::terminal);
    done.get_future().get();
    (void)models.shutdown();
    return code;
}

}  // namespace

TEST_CASE("A blocking call in what a load's stop runs is refused", "[H15]") {
    CHECK(code_in_stop(true) == errc::would_deadlock);
}

TEST_CASE("A blocking call in what an inference's stop runs is refused", "[H15]") {
    CHECK(code_in_stop(false) == errc::would_deadlock);
}

}  // namespace stops_test

#pragma once

#include "residency/embeddings.hpp"
#include "residency/model_key.hpp"
#include "residency/model_manager.hpp"
#include "residency/options.hpp"
#include "residency/runtime/asio.hpp"
#include "residency/status.hpp"
#include "residency/testing/fake_backend.hpp"
#include "residency/testing/virtual_clock.hpp"

#include "virtual_slot.hpp"

#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace residency::benchmark {

/// Callers of a manager in virtual time, who ask again as soon as they have their answer, for one text each: the whole
/// library, where a model call moves the time on. One call at once, on one thread, so that it is the same each time.
class VirtualCallers {
public:
    using Clock = testing::VirtualClock;

    /// What a model call does with its texts, before it takes its time: it may throw.
    using Hook = std::function<void(const testing::FakeCall&)>;
    /// The text that a caller asks for, and how often it asked before.
    using TextOf = std::function<std::string(std::size_t caller, std::size_t times)>;

    VirtualCallers(const Engine& engine, Hook hook, TextOf text_of) : text_of_(std::move(text_of)) {
        Clock::reset();
        world_->set_batch_limits(key_, {engine.batch});
        world_->on(testing::FakeStep::inference, [engine, hook = std::move(hook)](const testing::FakeCall& call) {
            hook(call);
            Clock::advance(engine.takes(call.rows));
        });
    }

    /// How many were answered in that time, and how many failed.
    struct Counts {
        std::size_t answered = 0;
        std::size_t failed = 0;
    };
    [[nodiscard]] Counts run(std::size_t callers, Duration time) {
        ManagerOptions options;
        options.embedding.max_calls = 1;
        asio::io_context context;
        Manager manager{testing::FakeEmbeddingBackend(world_), testing::FakeRerankerBackend(world_), options,
                        Executors::all(context.get_executor())};
        for (std::size_t caller = 0; caller < callers; ++caller) {
            ask(manager, caller, 0);
        }
        while (Clock::now().time_since_epoch() < time && context.poll_one() != 0) {}
        const Counts counts = counts_;
        asks_ = false;
        manager.async_shutdown([](const std::exception_ptr&, ShutdownReport) {});
        context.poll();
        return counts;
    }

private:
    using Manager = ModelManager<testing::FakeEmbeddingBackend, testing::FakeRerankerBackend, Clock>;

    void ask(Manager& manager, std::size_t caller, std::size_t times) {
        manager.async_embed(key_, std::vector<std::string>{text_of_(caller, times)},
                            [this, &manager, caller, times](const std::exception_ptr& error, const Embeddings&) {
                                ++(error ? counts_.failed : counts_.answered);
                                if (asks_) {
                                    ask(manager, caller, times + 1);
                                }
                            });
    }

    const ModelKey key_{"model"};
    const std::shared_ptr<testing::FakeWorld> world_ = std::make_shared<testing::FakeWorld>();
    const TextOf text_of_;
    Counts counts_{};
    bool asks_ = true;
};

}  // namespace residency::benchmark

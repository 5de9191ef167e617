// Loads and inferences that are asked to stop, and what llama.cpp writes meanwhile.

#include "residency/backends/llama_cpp.hpp"
#include "support/catch.hpp"
#include "support/comparing.hpp"
#include "support/folders.hpp"
#include "support/tiny_model.hpp"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <latch>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace stopping_test {

using namespace residency;
using namespace residency::test;

namespace {

struct Lines {
    std::vector<std::pair<Severity, std::string>> all{};

    [[nodiscard]] LoadContext::Sink sink(std::function<void(float)> progress = {}) {
        return {std::move(progress),
                [this](Severity severity, std::string_view line) { all.emplace_back(severity, std::string(line)); }};
    }
    [[nodiscard]] std::size_t count(Severity severity) const {
        return static_cast<std::size_t>(
            std::count_if(all.begin(), all.end(), [severity](const auto& line) { return line.first == severity; }));
    }
    [[nodiscard]] bool mentions(const std::string& part) const {
        return std::any_of(all.begin(), all.end(),
                           [&part](const auto& line) { return line.second.find(part) != std::string::npos; });
    }
};

class Tiny {
public:
    explicit Tiny(const TinyModel& tiny = {}) { write_tiny_model(folder_.path() / "tiny.gguf", tiny); }

    [[nodiscard]] LlamaCppEmbeddingBackend backend(std::size_t contexts = 1) const {
        return LlamaCppEmbeddingBackend({.model = {.files = folder_.path(), .contexts = contexts, .threads = 1}});
    }
    [[nodiscard]] const std::filesystem::path& folder() const { return folder_.path(); }

private:
    TemporaryFolder folder_{};
};

}  // namespace

TEST_CASE("a load that was asked to stop before it began touches no file") {
    const Tiny tiny;
    std::stop_source stop;
    stop.request_stop();
    LoadContext context(stop.get_token());
    (void)error_of(operation_aborted(), [&] { (void)tiny.backend().load("tiny", context); });
    (void)error_of(operation_aborted(), [&] { (void)tiny.backend().load("no such file", context); });
}

TEST_CASE("a load that is asked to stop while it reads stops, and shows no error of llama.cpp's") {
    const Tiny tiny;
    std::stop_source stop;
    Lines lines;
    int reports = 0;
    LoadContext context(stop.get_token(), lines.sink([&](float) {
        ++reports;
        stop.request_stop();
    }));
    (void)error_of(operation_aborted(), [&] { (void)tiny.backend().load("tiny", context); });
    CHECK(reports == 1);
    CHECK(lines.count(Severity::error) == 0);
    CHECK(lines.count(Severity::info) > 0);
}

TEST_CASE("once an abort is expected, errors of llama.cpp's are shown as debug, and are no cause of anything") {
    using detail::llama_cpp::LogScope;
    LogScope::start();
    const TemporaryFolder folder;
    const auto fail = [&folder] {
        REQUIRE(llama_model_load_from_file((folder.path() / "missing").c_str(), llama_model_default_params()) ==
                nullptr);
    };
    Lines lines;
    LogScope scope(lines.sink().log);
    fail();
    const std::string before = scope.errors();
    const std::size_t errors = lines.count(Severity::error);
    const std::size_t debugs = lines.count(Severity::debug);
    CHECK_THAT(before, contains_text("missing"));
    CHECK(errors > 0);
    scope.expect_abort();
    fail();
    CHECK(scope.errors() == before);
    CHECK(lines.count(Severity::error) == errors);
    CHECK(lines.count(Severity::debug) >= debugs + errors);
}

TEST_CASE("a load that is asked to stop between its contexts stops") {
    const Tiny tiny;
    std::stop_source stop;
    int made = 0;
    LoadContext context(stop.get_token(),
                        {{}, [&](Severity, std::string_view line) {
                             if (line.find("constructing llama_context") != std::string_view::npos && ++made == 2) {
                                 stop.request_stop();
                             }
                         }});
    (void)error_of(operation_aborted(), [&] { (void)tiny.backend(5).load("tiny", context); });
    CHECK(made == 2);
}

TEST_CASE("a load reports its progress and llama.cpp's lines, each whole") {
    const Tiny tiny;
    Lines lines;
    std::vector<float> progress;
    LoadContext context({}, lines.sink([&](float done) { progress.push_back(done); }));
    (void)tiny.backend().load("tiny", context);
    CHECK(progress.back() == 1.0F);
    CHECK(std::is_sorted(progress.begin(), progress.end()));
    CHECK(lines.mentions("general.architecture"));
    for (const auto& [severity, line] : lines.all) {
        CHECK(line.find('\n') == std::string::npos);
        CHECK_FALSE(line.empty());
        CHECK(severity != Severity::error);
    }
}

TEST_CASE("what a sink throws ends the load, or is lost, but does not fly through llama.cpp") {
    const Tiny tiny;
    LoadContext thrower({}, {[](float) { throw std::runtime_error("full"); }, {}});
    CHECK_THROWS_WITH(tiny.backend().load("tiny", thrower), "full");
    LoadContext deaf({}, {{}, [](Severity, std::string_view) { throw std::runtime_error("full"); }});
    CHECK(tiny.backend().load("tiny", deaf)->dimension() == 64);
}

TEST_CASE("lines of two loads at once are not mixed, and the first error is the cause") {
    const Tiny good;
    const Tiny bad({.architecture = "nonesuch"});
    for (int round = 0; round < 5; ++round) {
        Lines of_good;
        Lines of_bad;
        std::latch both(2);
        std::thread other([&] {
            LoadContext context({}, of_good.sink());
            both.arrive_and_wait();
            (void)good.backend().load("tiny", context);
        });
        LoadContext context({}, of_bad.sink());
        both.arrive_and_wait();
        const Error error =
            error_of(make_error_code(errc::load_failed), [&] { (void)bad.backend().load("tiny", context); });
        other.join();
        CHECK_THAT(error.what(), contains_text("nonesuch"));
        CHECK(of_bad.count(Severity::error) >= 1);
        CHECK(of_bad.mentions(bad.folder().string()));
        CHECK_FALSE(of_bad.mentions(good.folder().string()));
        CHECK(of_good.count(Severity::error) == 0);
        CHECK(of_good.mentions(good.folder().string()));
        CHECK_FALSE(of_good.mentions(bad.folder().string()));
    }
}

TEST_CASE("an inference that is asked to stop stops, and the context is as good as before") {
    const Tiny tiny({.context_length = 4096});
    LoadContext context;
    const auto model = tiny.backend().load("tiny", context);
    const std::vector<std::string> texts(8, std::string(4000, 'x'));
    const Embeddings whole = model->embed(texts);
    std::stop_source before;
    before.request_stop();
    (void)error_of(operation_aborted(), [&] { (void)model->embed(texts, before.get_token()); });
    // At whatever point it is asked: it ends as asked, or it was done.
    for (int round = 0; round < 20; ++round) {
        std::stop_source stop;
        std::latch begun(1);
        std::thread stopper([&] {
            begun.wait();
            for (int spin = 0; spin < round * 2000; ++spin) {
                std::atomic_signal_fence(std::memory_order_seq_cst);
            }
            stop.request_stop();
        });
        begun.count_down();
        try {
            const Embeddings rows = model->embed(texts, stop.get_token());
            CHECK(rows == whole);
        } catch (const Error& error) {
            CHECK(error.code() == operation_aborted());
            CHECK(error.stage() == Stage::inference);
        }
        stopper.join();
    }
    CHECK(model->embed(texts) == whole);
}

TEST_CASE("the abort callback ends a batch in the middle with code 2, and the next batch is right") {
    using namespace detail::llama_cpp;
    const Tiny tiny({.context_length = 4096});
    LoadContext context;
    LlamaCppModelOptions options{.files = tiny.folder()};
    options.contexts = 1;
    const ModelKey key("tiny");
    // A token that was set before makes the callback the first to see it, as this is below the check between batches.
    const auto model =
        Loading(options, key, context).run([](const auto&) { return Use{.pooling = LLAMA_POOLING_TYPE_LAST}; });
    LogScope silence;
    Context alone;
    llama_model* const weights = const_cast<llama_model*>(model->weights());
    REQUIRE(alone.make(*weights, {LLAMA_POOLING_TYPE_LAST, 4}, 512));
    const Tokens tokens(400, 5);
    alone.add(tokens);
    REQUIRE(alone.compute(1, {}) == Outcome::done);
    const std::vector<float> row(alone.row(0), alone.row(0) + 64);
    std::stop_source stop;
    stop.request_stop();
    CHECK(alone.compute(1, stop.get_token()) == Outcome::stopped);
    REQUIRE(alone.compute(1, {}) == Outcome::done);
    CHECK(std::vector<float>(alone.row(0), alone.row(0) + 64) == row);
}

TEST_CASE("a batch larger than its context is refused where llama.cpp would end the process") {
    using namespace detail::llama_cpp;
    const Tiny tiny;
    LoadContext context;
    LlamaCppModelOptions options{.files = tiny.folder()};
    options.contexts = 1;
    const ModelKey key("tiny");
    const auto model =
        Loading(options, key, context).run([](const auto&) { return Use{.pooling = LLAMA_POOLING_TYPE_LAST}; });
    LogScope silence;
    Context small;
    REQUIRE(small.make(*const_cast<llama_model*>(model->weights()), {LLAMA_POOLING_TYPE_LAST, 4}, 32));
    CHECK(small.capacity() == 32);
    small.add(Tokens(33, 5));
    CHECK_THROWS_AS(small.compute(1, {}), std::length_error);
    small.clear();
    small.add(Tokens(32, 5));
    CHECK(small.compute(1, {}) == Outcome::done);
}

TEST_CASE("a call that finds no free context waits for one, and its token ends the wait") {
    using detail::llama_cpp::ContextPool;
    ContextPool pool(2);
    {
        const auto first = pool.take(1, {});
        std::unique_ptr<ContextPool::Turn> second(new ContextPool::Turn(pool.take(1, {})));
        REQUIRE(first);
        REQUIRE(*second);
        CHECK(&first.context() != &second->context());
        CHECK(pool.taken() == 2);
        std::stop_source stop;
        std::jthread stopper([&stop] { stop.request_stop(); });
        CHECK_FALSE(pool.take(1, stop.get_token()));
        CHECK(pool.taken() == 2);
        // One that is given back wakes who waits.
        std::latch asked(1);
        std::jthread waiter([&] {
            asked.count_down();
            CHECK(static_cast<bool>(pool.take(1, {})));
        });
        asked.wait();
        second.reset();
    }
    CHECK(pool.taken() == 0);
}

TEST_CASE("an inference that is asked to stop stops before its next text is read") {
    const Tiny tiny;
    std::stop_source stop;
    stop.request_stop();
    LoadContext context;
    const auto embedder = tiny.backend().load("tiny", context);
    // The second is longer than the model takes, which would be said if it were read.
    const std::vector<std::string> texts{"a", std::string(10'000, 'a')};
    (void)error_of(errc::invalid_request, [&] { (void)embedder->embed(texts); });
    (void)error_of(operation_aborted(), [&] { (void)embedder->embed(texts, stop.get_token()); });
}

}  // namespace stopping_test

// Exits where not the manager alone has the models and the threads: owners CASE

#include "exit/fake_engine.hpp"
#include "exit/managers.hpp"
#include "residency/backends/any.hpp"
#include "residency/runtime/asio.hpp"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using namespace residency;
using namespace residency::test;

namespace {

const ModelKey key{"m", "f32"};
const auto ignore = [](const std::exception_ptr&, const auto&...) {};

void await_step() {
    for (int begun = steps_begun; begun == 0; begun = steps_begun) {
        steps_begun.wait(begun);
    }
}

template <class AnyManager>
void load_and_compute(AnyManager& manager) {
    manager.embedding().ensure_loaded(key);
    steps_begun = 0;
    manager.async_embed(key, {"endless"}, ignore);
    await_step();
}

// The host's threads still run, with a load, a call and an idle model.
void host_pool() {
    static asio::thread_pool pool(4);
    static Manager computes{{}, {}, {}, Executors::all(pool.executor())};
    static Manager loads{{}, {}, {}, Executors::all(pool.executor())};
    load_and_compute(computes);
    steps_begun = 0;
    loads.embedding().async_ensure_loaded({"endless", "f32"}, ignore);
    await_step();
}

// What the host's context was given is run no more.
void host_gone() {
    static asio::io_context context;
    static Manager manager{{}, {}, {}, Executors::all(context.get_executor())};
    manager.embedding().async_ensure_loaded(key, [](const std::exception_ptr&, Generation) { context.stop(); });
    context.run();
    manager.async_embed(key, {"a text"}, ignore);
    manager.embedding().async_unload(key, ignore);
    manager.embedding().async_ensure_loaded({"another", "f32"}, ignore);
}

// A thread of the host's calls the model.
void lease_in_use() {
    static Manager manager{};
    std::thread([lease = std::make_shared<Lease<FakeEngineModel>>(manager.embedding().acquire(key))] {
        steps_begun = 0;
        try {
            for (;;) {
                static_cast<void>((*lease)->embed(std::vector<std::string>{"a text"}));
            }
        } catch (const Error&) {
            lease->release();
        }
    }).detach();
    await_step();
}

void static_lease() {
    static Manager manager{};
    static Lease<FakeEngineModel> lease;
    lease = manager.embedding().acquire(key);
}

// What type the backend is of, and that it has an engine, is known at run time.
void erased() {
    static ModelManager<AnyEmbeddingBackend, AnyRerankerBackend> manager{
        route({{"m", make_backend()}, {"*", LexicalEmbeddingBackend()}}), LexicalRerankerBackend()};
    load_and_compute(manager);
}

void made_on_thread() {
    static Manager* manager = nullptr;
    std::thread([] {
        static Manager made{};
        manager = &made;
    }).join();
    load_and_compute(*manager);
}

void exit_on_thread() {
    static Manager manager{};
    load_and_compute(manager);
    std::thread([] { std::exit(0); }).join();
}

void exit_in_handler() {
    static Manager manager{};
    load_and_compute(manager);
    manager.embedding().async_ensure_loaded(key, [](const std::exception_ptr&, Generation) { std::exit(0); });
    for (;;) {
        std::this_thread::yield();
    }
}

// A thread destroys the manager while the process exits.
void ended_by_thread() {
    static auto* manager = new Manager{};
    load_and_compute(*manager);
    std::thread([] { delete manager; }).detach();
}

// All that waits completes before the manager has ended.
void handlers() {
    static std::atomic<int> completed{0};
    static Manager manager{};
    load_and_compute(manager);
    for (int request = 0; request < 10; ++request) {
        manager.async_embed({"another", "f32"}, {"a text"}, [](const std::exception_ptr& error, const Embeddings&) {
            try {
                std::rethrow_exception(error);
            } catch (const Error& caught) {
                completed += caught.code() == errc::shutting_down ? 1 : 0;
            }
        });
    }
    std::atexit([] {
        if (completed != 10) {
            std::fputs("a request was not completed\n", stderr);
            std::_Exit(3);
        }
    });
}

}  // namespace

int main(int argc, char** argv) {
    const std::map<std::string_view, void (*)()> cases{{"host_pool", host_pool},
                                                       {"host_gone", host_gone},
                                                       {"lease_in_use", lease_in_use},
                                                       {"static_lease", static_lease},
                                                       {"erased", erased},
                                                       {"made_on_thread", made_on_thread},
                                                       {"exit_on_thread", exit_on_thread},
                                                       {"exit_in_handler", exit_in_handler},
                                                       {"ended_by_thread", ended_by_thread},
                                                       {"handlers", handlers}};
    cases.at(argc > 1 ? argv[1] : "")();
}

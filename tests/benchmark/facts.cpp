// What is counted and not timed: the timer waits of a million requests, and bytes. Prints one JSON object.

#include "no_op.hpp"

#include "residency/model_manager.hpp"
#include "residency/model_slot.hpp"
#include "residency/runtime/completion.hpp"
#include "residency/testing/virtual_clock.hpp"

#include <boost/asio/bind_executor.hpp>

#include <malloc.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace residency::cost {
namespace {

using testing::VirtualClock;
using VirtualSlot = ModelSlot<NoOpBackend, VirtualClock>;

constexpr std::size_t requests = 1'000'000;
constexpr std::size_t at_once = 1'000;
constexpr auto keep_alive = std::chrono::minutes(5);
constexpr auto shortest_timeout = std::chrono::seconds(30);

// The waits that a million requests, spread over one keep-alive, start.
std::uint64_t timer_waits(bool with_timeouts) {
    VirtualClock::reset();
    asio::io_context context{1};
    SlotOptions options = roomy();
    options.keep_alive = keep_alive;
    options.max_leases = at_once;
    ModelManager<NoOpBackend, NoOpRerankerBackend, VirtualClock> models({}, {}, {.embedding = options},
                                                                        Executors::all(context.get_executor()));
    models.embedding().async_ensure_loaded(usual_key(), [](const std::exception_ptr&, Generation) {});
    context.poll();
    const std::uint64_t before = models.embedding().status().counters.timer_waits;
    std::size_t answered = 0;
    for (std::size_t index = 0; index < requests; ++index) {
        RequestOptions request;
        if (with_timeouts) {
            request.timeout = shortest_timeout + std::chrono::milliseconds(index % 10'000);
        }
        models.async_embed(
            usual_key(), std::vector<std::string>(1, "a cat sat"), request,
            [&answered](const std::exception_ptr& error, const Embeddings&) { answered += error ? 0 : 1; });
        if ((index + 1) % at_once == 0) {
            VirtualClock::advance(std::chrono::duration_cast<VirtualClock::duration>(keep_alive) /
                                  (requests / at_once));
            context.restart();
            context.poll();
        }
    }
    if (answered != requests) {
        std::cerr << "not every request was answered\n";
        std::exit(1);
    }
    return models.embedding().status().counters.timer_waits - before;
}

std::size_t bytes_in_use() {
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

// What `count` calls of `make` leave allocated, each.
std::size_t bytes_each(std::size_t count, const std::function<void(std::size_t)>& make) {
    const std::size_t before = bytes_in_use();
    for (std::size_t index = 0; index < count; ++index) {
        make(index);
    }
    return (bytes_in_use() - before) / count;
}

struct Host {
    asio::io_context context{1};
    std::optional<VirtualSlot> slot;

    explicit Host(const SlotOptions& options)
        : slot(std::in_place, NoOpBackend(), options, Executors::all(context.get_executor())) {}
    void load(const ModelKey& key) {
        slot->async_ensure_loaded(key, [](const std::exception_ptr&, Generation) {});
        context.restart();
        context.poll();
    }
};

// One lease, which is held: whatever comes waits.
struct BusyHost : Host {
    BusyHost() : Host(one_lease()) {
        load(usual_key());
        lease = slot->try_acquire(usual_key());
    }
    static SlotOptions one_lease() {
        SlotOptions options = roomy();
        options.max_leases = 1;
        return options;
    }

    VirtualSlot::lease_type lease{};
};

std::size_t bytes_per_waiter(std::size_t count) {
    BusyHost host;
    const auto handler = asio::bind_executor(host.context.get_executor(),
                                             [](const std::exception_ptr&, const VirtualSlot::lease_type&) {});
    return bytes_each(count,
                      [&](std::size_t) {
                          auto token = handler;
                          host.slot->async_acquire(usual_key(), std::move(token));
                      }) -
           sizeof(handler);
}

// Each has a key of its own, and a handler without an executor: beside that and what keeps its executor busy.
std::size_t bytes_per_waiter_with_key(std::size_t count) {
    BusyHost host;
    const auto handler = [&host](const std::exception_ptr&, const VirtualSlot::lease_type&) {
        static_cast<void>(host);
    };
    return bytes_each(count,
                      [&](std::size_t index) {
                          auto token = handler;
                          host.slot->async_acquire(ModelKey(std::to_string(index), "q8_0"), std::move(token));
                      }) -
           sizeof(handler) - sizeof(runtime::HandlerWork<std::decay_t<decltype(handler)>>);
}

std::size_t bytes_per_resident(std::size_t count) {
    SlotOptions options = roomy();
    options.max_resident = count + 1;
    Host host(options);
    host.load(usual_key());
    // Their names are what usual_key's is: too long for a small string.
    return bytes_each(
        count, [&](std::size_t index) { host.load(ModelKey("bge-small-en-v1.5 " + std::to_string(index), "q8_0")); });
}

std::size_t bytes_of_manager() {
    asio::io_context context{1};
    context.poll();
    std::vector<std::unique_ptr<ModelManager<NoOpBackend, NoOpRerankerBackend>>> managers(16);
    return bytes_each(managers.size(), [&](std::size_t index) {
        managers[index] = std::make_unique<ModelManager<NoOpBackend, NoOpRerankerBackend>>(
            NoOpBackend(), NoOpRerankerBackend(), ManagerOptions(), Executors::all(context.get_executor()));
    });
}

}  // namespace
}  // namespace residency::cost

int main() {
    using namespace residency::cost;
    std::cout << "{\"timer_waits\": " << timer_waits(false) << ", \"timer_waits_with_timeouts\": " << timer_waits(true)
              << ", \"timer_waits_with_timeouts_goal\": " << 2 + keep_alive / shortest_timeout
              << ", \"bytes_per_waiter_of_10000\": " << bytes_per_waiter(10'000)
              << ", \"bytes_per_waiter_of_100000\": " << bytes_per_waiter(100'000)
              << ", \"bytes_per_waiter_of_100000_keys\": " << bytes_per_waiter_with_key(100'000)
              << ", \"bytes_per_resident\": " << bytes_per_resident(1'000)
              << ", \"bytes_of_idle_manager\": " << bytes_of_manager() << "}\n";
}

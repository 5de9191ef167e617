// The errors of requests that waited for one load have the backend's exception in common: each is read and freed on a
// thread of its own.

#include "residency/model_slot.hpp"
#include "residency/testing/gate.hpp"

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/thread_pool.hpp>

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <string_view>

namespace {

namespace asio = boost::asio;
using residency::testing::Gate;

constexpr std::size_t rounds = 50;
constexpr std::size_t waiters = 8;
constexpr std::string_view message = "the disk that the model is on does not answer";

/// An exception that owns memory, and whose every use the sanitizer sees.
class DiskFailure : public std::exception {
public:
    [[nodiscard]] const char* what() const noexcept override { return text_.c_str(); }

private:
    std::string text_{message};
};

struct NoModel {};

/// Fails each load, once the gate is open.
struct FailingBackend {
    using model_type = NoModel;

    std::unique_ptr<NoModel> load(const residency::ModelKey&) const {
        gate->pass();
        throw DiskFailure();
    }

    std::shared_ptr<Gate> gate = std::make_shared<Gate>();
};

/// Whether the error is nested around a DiskFailure.
bool has_cause(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const residency::Error& outer) {
        try {
            std::rethrow_if_nested(outer);
        } catch (const std::exception& inner) {
            return inner.what() == message;
        }
    }
    return false;
}

}  // namespace

int main() {
    std::atomic<std::size_t> read{0};
    for (std::size_t round = 0; round < rounds; ++round) {
        const FailingBackend backend;
        asio::thread_pool pool(4);
        residency::ModelSlot<FailingBackend> slot(backend, {.max_queue = waiters});
        for (std::size_t count = 0; count < waiters; ++count) {
            slot.async_ensure_loaded(
                "m", asio::bind_executor(pool, [&read](std::exception_ptr error, residency::Generation) {
                    // Relaxed: the count must not order what the threads do.
                    read.fetch_add(has_cause(error) ? 1 : 0, std::memory_order_relaxed);
                }));
        }
        backend.gate->open();
        pool.join();
        slot.shutdown();
    }
    std::printf("%zu causes read\n", read.load());
    return read == rounds * waiters ? 0 : 1;
}

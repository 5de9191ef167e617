// New here: limits, and what a service does when they are reached: how many leases, how long a queue, how long a wait.
#include <residency/residency.hpp>

#include <iostream>

namespace {

//! [answer]
/// What an HTTP service would answer for a failure. With a `retry_after()`, that is its Retry-After.
int http_status(const residency::Error& error) {
    using residency::errc;
    const auto is = [&error](auto... codes) { return ((error.code() == codes) || ...); };
    return is(errc::invalid_request)                      ? 400
           : is(errc::model_changed)                      ? 409
           : is(errc::overloaded)                         ? 429
           : is(errc::cooling_down, errc::shutting_down)  ? 503
           : is(errc::timed_out)                          ? 504
           : is(errc::would_deadlock)                     ? 500
           : is(residency::condition::backend)            ? 502
           : error.stage() == residency::Stage::admission ? 500
                                                          : 502;  // the backend's own code
}
//! [answer]

}  // namespace

int main() {
    using namespace std::chrono_literals;
    //! [limits]
    residency::SlotOptions options;
    options.max_resident = 1;   // memory: how many models fit at once
    options.max_leases = 2;     // processor: how many requests work on models at once
    options.max_queue = 8;      // patience: the last of a full queue waits for about max_queue / max_leases calls
    options.keep_alive = 2min;  // a load's length against memory that lies idle
    residency::ModelSlot<residency::LexicalEmbeddingBackend> slot{{}, options};
    //! [limits]

    const auto first = slot.acquire("lexical");
    const auto second = slot.acquire("lexical");
    //! [timeout]
    try {
        const auto third = slot.acquire("lexical", {.timeout = 20ms});
    } catch (const residency::Error& error) {
        std::cout << http_status(error) << ": " << error.what() << '\n';
        return http_status(error) == 504 && error.stage() == residency::Stage::queue ? 0 : 1;
    }
    //! [timeout]
    return 1;
}

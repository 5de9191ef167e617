// New here: testing one's own code on a clock that stands still until the test advances it. Minutes pass in no time,
// the same way on every run.
#include <residency/residency.hpp>
#include <residency/testing/virtual_clock.hpp>

#include <boost/asio/io_context.hpp>

#include <iostream>
#include <utility>

namespace asio = boost::asio;
using namespace std::chrono_literals;

int main() {
    //! [clock]
    using residency::testing::VirtualClock;
    VirtualClock::reset();
    asio::io_context context;
    // One context for everything: nothing happens but in run_ready and advance.
    residency::ModelSlot<residency::LexicalEmbeddingBackend, VirtualClock> slot{
        {}, {.keep_alive = 5min}, residency::Executors::all(context.get_executor())};

    residency::Generation loaded;
    slot.async_ensure_loaded("lexical", [&loaded](std::exception_ptr error, residency::Generation generation) {
        loaded = error ? residency::Generation() : generation;
    });
    residency::testing::run_ready(context);
    const std::size_t resident = slot.status().residents.size();

    residency::testing::advance(context, 4min + 59s);
    const std::size_t before = slot.status().residents.size();
    residency::testing::advance(context, 1s);
    const std::size_t after = slot.status().residents.size();
    //! [clock]

    std::cout << "generation " << loaded << ", residents: " << resident << " at once, " << before << " after 4:59, "
              << after << " after 5:00\n";
    return resident == 1 && before == 1 && after == 0 ? 0 : 1;
}

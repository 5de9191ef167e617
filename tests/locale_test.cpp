// A host's locale groups digits: no text of the library does.

#include "residency/residency.hpp"

#include "support/catch.hpp"

#include <chrono>
#include <iomanip>
#include <locale>
#include <sstream>
#include <string>
#include <vector>

namespace locale_test {

using namespace residency;
using namespace std::chrono_literals;

namespace {

// 1234567 is 1.2.3.4.5.6.7, so that a number of two digits shows it, too.
struct Grouping : std::numpunct<char> {
    char do_thousands_sep() const override { return '.'; }
    char do_decimal_point() const override { return ','; }
    std::string do_grouping() const override { return "\1"; }
    std::string do_truename() const override { return "ja"; }
};

class GlobalLocale {
public:
    GlobalLocale() : before_(std::locale::global(std::locale(std::locale::classic(), new Grouping))) {}
    GlobalLocale(const GlobalLocale&) = delete;
    GlobalLocale& operator=(const GlobalLocale&) = delete;
    ~GlobalLocale() { std::locale::global(before_); }

private:
    std::locale before_;
};

Event large_event(EventType type) {
    Event event;
    event.type = type;
    event.slot = "embedding";
    event.key = {"minilm", "q8_0"};
    event.generation = Generation{12345};
    event.reason = Reason::requested;
    event.duration = 98765ms;
    event.progress = 0.75F;
    event.count = 54321;
    event.message = "1234 lines";
    return event;
}

ShutdownReport large_report() {
    ShutdownReport report;
    report.leftovers.push_back({.slot = "embedding", .key = "a", .state = ResidentState::draining, .leases = 1234});
    return report;
}

// Each text that the library prints with a number in it, a line each.
template <class Out>
void print_all(Out& out) {
    out << Generation{1234567} << '\n' << ModelKey("a1000", "q2000") << '\n';
    for (const EventType type : {EventType::load_progress, EventType::rejected, EventType::dropped, EventType::ready,
                                 EventType::timed_out, EventType::load_log}) {
        out << large_event(type) << '\n';
    }
    out << ResidentStatus{.key = "a",
                          .generation = Generation{1234567},
                          .state = ResidentState::ready,
                          .leases = 1000,
                          .idle_for = 2345ms,
                          .unloads_in = 123456s}
        << '\n';
    SlotStatus slot;
    slot.name = "embedding";
    slot.generation = Generation{9999};
    slot.leases = 1111;
    slot.waiting = slot.waiting_texts = slot.waiting_parts = 2222;
    slot.failures.push_back({.key = "b", .message = "m", .failures = 3333, .retry_after = 4444ms});
    SlotCounters& counters = slot.counters;
    counters.loads = counters.loaded = counters.load_failures = counters.loads_aborted = 5555;
    counters.batches = 1111;
    counters.texts = 1'234'567;
    counters.leases_granted = counters.most_leases = counters.most_waiting = 6666;
    counters.overloaded = counters.cooling_down = counters.timed_out = counters.cancelled = 7777;
    counters.unloads.fill(8888);
    out << ManagerStatus{.embedding = slot, .reranker = slot} << large_report() << '\n';
}

std::string print_all() {
    std::ostringstream out;
    print_all(out);
    return out.str();
}

// The texts that are strings from the start.
std::string strings() {
    std::string all = to_string(large_report()) + '\n';
    LexicalEmbeddingBackend backend;
    ModelSlot<LexicalEmbeddingBackend> slot(backend, {});
    try {
        const auto lease = slot.acquire(ModelKey(std::string(123456, 'k')));
    } catch (const Error& error) {
        all += std::string(error.what()) + '\n';
    }
    try {
        (void)Embeddings(1000, std::vector<float>(1234));
    } catch (const std::exception& error) {
        all += std::string(error.what()) + '\n';
    }
    all += Error(errc::cooling_down, "a", Stage::queue, "", 123456ms).what();
    return all + '\n' + detail::bounded(std::string(1'000'000, 'x'));
}

}  // namespace

TEST_CASE("A global locale that groups digits changes no text") {
    const std::string printed = print_all();
    const std::string before = strings();
    CHECK(before.find("123456") != std::string::npos);
    const GlobalLocale grouping;
    std::ostringstream probe;
    probe << 1234;
    REQUIRE(probe.str() == "1.2.3.4");
    CHECK(print_all() == printed);
    CHECK(strings() == before);
}

TEST_CASE("A stream with a locale or a base of its own changes no text, and keeps both") {
    const std::string printed = print_all();
    std::ostringstream out;
    out.imbue(std::locale(std::locale::classic(), new Grouping));
    out << std::hex << std::showbase << std::showpos;
    print_all(out);
    CHECK(out.str() == printed);
    out.str({});
    out << 0x1234;
    CHECK(out.str() == "0x1.2.3.4");
}

TEST_CASE("A width of the user's stream pads what is one word or one number") {
    std::ostringstream out;
    out << std::setfill('.') << std::setw(6) << Generation{12} << '|' << std::left << std::setw(8) << Reason::idle;
    CHECK(out.str() == "....12|idle....");
}

}  // namespace locale_test

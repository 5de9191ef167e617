#include "residency/core/wait_queue.hpp"

#include "support/catch.hpp"
#include "support/memory.hpp"

#include <chrono>
#include <cstddef>
#include <new>
#include <string>
#include <vector>

namespace residency::core::wait_queue_test {

using namespace std::chrono_literals;

namespace {

// A queue in which every key needs a place.
struct Line {
    RequestId join(const ModelKey& key, const RequestSpec& spec = {}, Time now = Time{0}) {
        const Index index = queue.prepare(queue.keys().share(key), spec, 1);
        const RequestId id = queue.join(index, spec, now);
        queue.stand(index, QueueState::needs_place);
        return id;
    }
    RequestId join(const ModelKey& key, Priority priority) {
        RequestSpec spec;
        spec.priority = priority;
        return join(key, spec);
    }
    bool leave(RequestId id, bool to_lease = false) {
        const Index key = queue.requests()[id.index].key;
        const bool kept = queue.leave(id.index, to_lease);
        queue.stand(key, queue.keys()[key].waiting != 0 ? QueueState::needs_place : QueueState::not_queued);
        return kept;
    }
    [[nodiscard]] Index entry(const ModelKey& key) const { return queue.keys().lookup(key); }
    // The keys in the order in which they are served.
    [[nodiscard]] std::vector<std::string> order() const {
        WaitQueue copy = queue;
        std::vector<std::string> names;
        while (!copy.standings().needs_place().empty()) {
            const Index key = copy.standings().needs_place().top();
            names.push_back(copy.keys()[key].key->name);
            copy.stand(key, QueueState::not_queued);
        }
        return names;
    }
    // The waiters of the key for a lease, or for a load, in the order in which they are served.
    [[nodiscard]] std::vector<RequestId> line(const ModelKey& key, bool leases = true) const {
        WaitQueue copy = queue;
        const Index index = entry(key);
        std::vector<RequestId> all;
        for (;;) {
            const Index next = leases ? copy.first_lease(index) : copy.first_ensure(index);
            if (next == none) {
                return all;
            }
            all.push_back(copy.requests().handle(next));
            copy.leave(next, false);
        }
    }

    WaitQueue queue;
};

RequestSpec ensure(Priority priority = Priority::normal) {
    RequestSpec spec;
    spec.wants_lease = false;
    spec.priority = priority;
    return spec;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("a list stays first in, first out, wherever waiters leave", "[H6]") {
    Line line;
    std::vector<RequestId> ids;
    for (int count = 0; count < 5; ++count) {
        ids.push_back(line.join("a"));
    }
    CHECK(line.line("a") == ids);
    line.leave(ids[2]);
    CHECK(line.line("a") == std::vector{ids[0], ids[1], ids[3], ids[4]});
    line.leave(ids[0]);
    line.leave(ids[4]);
    CHECK(line.line("a") == std::vector{ids[1], ids[3]});
    const RequestId last = line.join("a");
    CHECK(line.line("a") == std::vector{ids[1], ids[3], last});
    CHECK(line.queue.waiting() == 3);
    for (const RequestId id : {ids[3], ids[1], last}) {
        line.leave(id);
    }
    CHECK(line.line("a").empty());
    CHECK(line.queue.empty());
    CHECK(line.queue.standings().needs_place().empty());
    CHECK(line.queue.standings().needs_place_by_age().empty());
    const RequestId only = line.join("a");
    CHECK(line.line("a") == std::vector{only});
}

TEST_CASE("within a key waiters are served by priority, then arrival; those for a load apart", "[H6]") {
    Line line;
    const RequestId low = line.join("a", Priority::low);
    const RequestId normal = line.join("a", Priority::normal);
    const RequestId load = line.join("a", ensure());
    const RequestId high = line.join("a", Priority::high);
    const RequestId second = line.join("a", Priority::high);
    const RequestId urgent = line.join("a", ensure(Priority::high));
    CHECK(line.line("a") == std::vector{high, second, normal, low});
    CHECK(line.line("a", false) == std::vector{urgent, load});
    const Index a = line.entry("a");
    CHECK(line.queue.oldest(a) == low.index);
    CHECK(line.queue.oldest_unserved(a) == low.index);
    line.leave(low);
    line.leave(normal);
    CHECK(line.queue.oldest(a) == load.index);
    CHECK(line.queue.oldest_unserved(a) == high.index);
}

TEST_CASE("keys stand by their best waiters: priority, then arrival", "[H6]") {
    Line line;
    line.join("normal", Priority::normal);
    line.join("low", Priority::low);
    line.join("mixed", Priority::low);
    line.join("load", ensure(Priority::high));
    const RequestId best = line.join("mixed", Priority::high);
    line.join("high", Priority::high);
    CHECK(line.order() == Names{"load", "mixed", "high", "normal", "low"});
    line.leave(best);
    CHECK(line.order() == Names{"load", "high", "normal", "low", "mixed"});
    CHECK(line.queue.standings().needs_place().size() == 5);
    CHECK(line.queue.standings().needs_place_by_age().top() == line.entry("normal"));
}

TEST_CASE("a key that ranks last stands behind every other, by its best waiter", "[H6]") {
    Line line;
    for (const char* key : {"high", "other"}) {
        line.join(key, Priority::high);
        line.queue.keys()[line.entry(key)].ranks_last = true;
        line.queue.stand(line.entry(key), QueueState::needs_place);
    }
    line.join("low", Priority::low);
    CHECK(line.order() == Names{"low", "high", "other"});
    // By age it is left out.
    CHECK(line.queue.standings().needs_place_by_age().top() == line.entry("low"));
    CHECK(line.queue.standings().needs_place_by_age().size() == 1);
    for (const char* key : {"high", "other"}) {
        line.queue.keys()[line.entry(key)].ranks_last = false;
        line.queue.stand(line.entry(key), QueueState::needs_place);
    }
    CHECK(line.order() == Names{"high", "other", "low"});
    CHECK(line.queue.standings().needs_place_by_age().top() == line.entry("high"));
}

TEST_CASE("residents that can be granted stand by their best waiter, apart for model calls and bare leases", "[R8]") {
    Line line;
    const auto stands = [&line](const ModelKey& key, Index resident) {
        line.queue.stand(line.entry(key), QueueState::not_queued);
        line.queue.keys()[line.entry(key)].resident = resident;
        line.queue.stand(line.entry(key), QueueState::grantable);
    };
    line.queue.prepare(line.queue.keys().share("a"), {}, 2);
    const RequestId bare = line.join("a", Priority::normal);
    RequestSpec inference;
    inference.is_inference = true;
    line.join("a", inference);
    line.join("b", inference);
    line.queue.prepare(line.queue.keys().share("a"), {}, 2);
    stands("a", 1);
    stands("b", 0);
    CHECK(line.queue.standings().grantable(false).top() == 1);
    CHECK(line.queue.standings().grantable(true).top() == 0);
    CHECK(line.queue.standings().grantable_by_age().top() == 1);
    CHECK(line.queue.standings().needs_place().empty());
    line.queue.leave(bare.index, false);
    line.queue.stand(line.entry("a"), QueueState::grantable);
    CHECK(line.queue.standings().grantable(false).empty());
    CHECK(line.queue.standings().grantable(true).top() == 1);
    line.queue.stand(line.entry("a"), QueueState::not_queued);
    CHECK(line.queue.standings().grantable(true).top() == 0);
    CHECK(line.queue.standings().grantable_by_age().size() == 1);
}

TEST_CASE("deadlines are kept while they count", "[H14]") {
    Line line;
    RequestSpec spec;
    spec.deadline = 5ms;
    spec.is_inference = true;
    const RequestId goes_on = line.join("a", spec);
    spec.is_inference = false;
    spec.deadline = 3ms;
    const RequestId ends = line.join("a", spec);
    line.join("a");
    CHECK(line.queue.deadlines().size() == 2);
    CHECK(line.queue.deadlines().top_rank() == Time(3ms));

    CHECK_FALSE(line.leave(ends, true));
    CHECK(line.leave(goes_on, true));
    CHECK(line.queue.requests().size() == 2);
    CHECK(line.queue.requests()[goes_on.index].state == RequestState::leased);
    CHECK(line.queue.deadlines().top_rank() == Time(5ms));
    line.queue.drop_deadline(goes_on.index);
    CHECK(line.queue.deadlines().empty());
    CHECK(line.queue.requests().contains(goes_on));
    line.queue.erase(goes_on.index);
    CHECK_FALSE(line.queue.requests().contains(goes_on));
}

TEST_CASE("a deadline goes on only with a lease for a model call", "[H14]") {
    Line line;
    RequestSpec spec;
    spec.deadline = 5ms;
    spec.is_inference = true;
    CHECK_FALSE(line.leave(line.join("a", spec), false));
    spec.deadline = never;
    CHECK_FALSE(line.leave(line.join("a", spec), true));
    CHECK(line.queue.requests().size() == 0);
    CHECK(line.queue.deadlines().empty());

    spec.deadline = 7ms;
    const Index a = line.queue.prepare(line.queue.keys().share("a"), {}, 1);
    line.queue.prepare_deadline();
    const RequestId at_once = line.queue.keep_deadline(a, spec);
    CHECK(line.queue.waiting() == 0);
    CHECK(line.queue.requests()[at_once.index].state == RequestState::leased);
    CHECK(line.queue.deadlines().top_rank() == Time(7ms));
}

TEST_CASE("a claim keeps its key's turn and is no waiter", "[H1]") {
    Line line;
    RequestSpec spec;
    spec.deadline = 3ms;
    const RequestId first = line.join("a", spec);
    line.join("b");
    line.queue.keep_claim(first.index, Time(13ms));
    CHECK(line.queue.waiting() == 1);
    CHECK(line.queue.requests()[first.index].state == RequestState::claim);
    CHECK(line.queue.deadlines().empty());
    CHECK(line.order() == Names{"a", "b"});

    // A waiter that comes inherits the turn, and prolongs it when it times out.
    const RequestId second = line.join("a", spec);
    CHECK(line.order() == Names{"a", "b"});
    CHECK(line.queue.waiting() == 2);
    line.queue.keep_claim(second.index, Time(16ms));
    CHECK(line.queue.claims().all() == std::vector{Claim{first.index, Time(16ms)}});
    CHECK_FALSE(line.queue.requests().contains(second));
    CHECK(line.queue.waiting() == 1);

    line.queue.drop_claim(line.entry("a"));
    CHECK(line.queue.claims().empty());
    CHECK_FALSE(line.queue.requests().contains(first));
    CHECK(line.queue.keys()[line.entry("a")].waiting == 0);
    CHECK(line.queue.keys()[line.entry("a")].claim == none);
}

TEST_CASE("claims stand in the order in which they end", "[H1]") {
    Line line;
    const RequestId a = line.join("a");
    const RequestId b = line.join("b");
    line.queue.keep_claim(a.index, Time(10ms));
    line.queue.keep_claim(b.index, Time(11ms));
    line.queue.keep_claim(line.join("a").index, Time(12ms));
    CHECK(line.queue.claims().all() == std::vector{Claim{b.index, Time(11ms)}, Claim{a.index, Time(12ms)}});
}

TEST_CASE("the waiters that expect a generation are known, wherever they leave", "[H8]") {
    Line line;
    RequestSpec spec;
    spec.expects = true;
    spec.expected = Generation{3};
    std::vector<RequestId> ids;
    for (int count = 0; count < 3; ++count) {
        ids.push_back(line.join("a", spec));
        line.join("a");
    }
    const auto expecting = [&line] {
        std::vector<Index> all;
        for (Index request = line.queue.keys()[line.entry("a")].lists.expecting(); request != none;
             request = line.queue.requests()[request].older_expecting) {
            all.push_back(request);
        }
        return all;
    };
    CHECK(expecting() == std::vector{ids[2].index, ids[1].index, ids[0].index});
    line.leave(ids[1]);
    CHECK(expecting() == std::vector{ids[2].index, ids[0].index});
    line.leave(ids[2]);
    CHECK(expecting() == std::vector{ids[0].index});
    line.leave(ids[0]);
    CHECK(expecting().empty());
    CHECK(line.queue.waiting() == 3);
}

TEST_CASE("waiters of many keys take memory in small pieces and give it back", "[H18]") {
    constexpr int many = 20'000;
    std::vector<SharedKey> keys;
    for (int key = 0; key < many; ++key) {
        keys.emplace_back(ModelKey(std::to_string(key)));
    }
    std::vector<RequestId> ids(many);
    test::Memory& memory = test::Memory::here();
    WaitQueue queue;
    std::size_t kept = 0;
    for (const bool latest_first : {false, true}) {
        // Blocks are counted before each CHECK, which allocates, too.
        const std::size_t before = memory.blocks() - kept;
        memory.largest = 0;
        for (int count = 0; count < many; ++count) {
            RequestSpec spec;
            spec.deadline = Time(count);
            const Index key = queue.prepare(keys[static_cast<std::size_t>(count)], spec, 1);
            ids[static_cast<std::size_t>(count)] = queue.join(key, spec, Time(count));
            queue.stand(key, QueueState::needs_place);
        }
        const std::size_t largest = memory.largest;
        const std::size_t full = memory.blocks() - before;
        const std::size_t allocations = memory.allocations;
        for (int count = 0; count < many; ++count) {
            const RequestId id = ids[static_cast<std::size_t>(latest_first ? many - 1 - count : count)];
            const Index key = queue.requests()[id.index].key;
            queue.leave(id.index, false);
            queue.stand(key, QueueState::not_queued);
            queue.collect(key);
        }
        const std::size_t since = memory.allocations - allocations;
        kept = memory.blocks() - before;
        CHECK(largest <= 32'768);
        CHECK(full > many / 8);
        CHECK(since == 0);
        // One chunk of each small table, room for failures, claims and residents.
        CHECK(kept <= 40);
    }
}

TEST_CASE("wait queues are values") {
    Line line;
    line.join("a");
    Line copy = line;
    CHECK(copy.queue == line.queue);
    copy.join("a");
    CHECK_FALSE(copy.queue == line.queue);
}

TEST_CASE("a request that finds no memory leaves the entry of its key, which another has made", "[H18]") {
    Line line;
    line.leave(line.join("a"));
    const Index old = line.entry("a");
    REQUIRE(old != none);
    const SharedKey key = line.queue.keys().share("a");
    RequestSpec spec;
    spec.deadline = 5ms;
    std::size_t failed = 0;
    for (std::size_t nth = 1; nth < 100; ++nth) {
        const test::AllocationFaults scarce(nth, test::FaultPattern::only);
        try {
            line.queue.prepare(key, spec, 100);
        } catch (const std::bad_alloc&) {
            ++failed;
        }
        const bool is_over = scarce.failures() == 0;
        REQUIRE(line.entry("a") == old);
        if (is_over) {
            break;
        }
    }
    CHECK(failed > 0);
}

}  // namespace residency::core::wait_queue_test

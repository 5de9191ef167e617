// Which of a key's waiters is first, whichever come and leave.

#include "residency/core/waiter_lists.hpp"

#include "support/catch.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace residency::core::waiter_lists_test {

namespace {

// The waiters of one key.
struct Key {
    Index add(Priority priority = Priority::normal, WaitsFor what = WaitsFor::lease) {
        Request request;
        request.spec.priority = priority;
        request.arrival = ++arrivals;
        const Index index = requests.insert(request).index;
        lists.append(requests, index, what);
        return index;
    }
    [[nodiscard]] std::vector<Index> line(Priority priority = Priority::normal, WaitsFor what = WaitsFor::lease) const {
        std::vector<Index> all;
        for (Index each = lists.first(what, priority); each != none; each = requests[each].next) {
            all.push_back(each);
        }
        return all;
    }
    [[nodiscard]] std::vector<Index> expecting() const {
        std::vector<Index> all;
        for (Index each = lists.expecting(); each != none; each = requests[each].older_expecting) {
            all.push_back(each);
        }
        return all;
    }

    Requests requests;
    WaiterLists lists;
    std::uint64_t arrivals = 0;
};

using Line = std::vector<Index>;

}  // namespace

TEST_CASE("a key without waiters has no first, no oldest and no best") {
    const Key key;
    for (const WaitsFor what : {WaitsFor::lease, WaitsFor::load, WaitsFor::part}) {
        CHECK(key.lists.first(what) == none);
        CHECK(key.lists.first(what, Priority::low) == none);
    }
    CHECK(key.lists.oldest(key.requests) == none);
    CHECK(key.lists.best(key.requests) == none);
    CHECK(key.lists.rank(key.requests) == Rank{});
    CHECK(key.lists.expecting() == none);
    CHECK(rank_of(key.requests, none) == Rank{});
    CHECK(older_of(key.requests, none, none) == none);
}

TEST_CASE("a list of waiters is first in, first out, wherever one leaves", "[H6]") {
    for (const std::size_t leaves : {std::size_t{0}, std::size_t{1}, std::size_t{2}}) {
        Key key;
        Line line{key.add(), key.add(), key.add()};
        CHECK(key.line() == line);
        key.lists.remove(key.requests, line[leaves], WaitsFor::lease);
        line.erase(line.begin() + static_cast<Line::difference_type>(leaves));
        CHECK(key.line() == line);
        line.push_back(key.add());
        CHECK(key.line() == line);
        for (const Index each : Line(line)) {
            key.lists.remove(key.requests, each, WaitsFor::lease);
            line.erase(line.begin());
            CHECK(key.line() == line);
        }
        CHECK(key.lists == WaiterLists());
    }
}

TEST_CASE("the first of a thing that is waited for has the highest priority", "[H6]") {
    Key key;
    const Index low = key.add(Priority::low);
    const Index high = key.add(Priority::high);
    const Index load = key.add(Priority::normal, WaitsFor::load);
    const Index part = key.add(Priority::high, WaitsFor::part);
    CHECK(key.lists.first(WaitsFor::lease) == high);
    CHECK(key.lists.first(WaitsFor::lease, Priority::low) == low);
    CHECK(key.lists.first(WaitsFor::lease, Priority::normal) == none);
    CHECK(key.lists.first(WaitsFor::load) == load);
    CHECK(key.lists.first(WaitsFor::part) == part);
    CHECK(key.lists.oldest(key.requests) == low);
    CHECK(key.lists.best(key.requests) == high);
    CHECK(key.lists.rank(key.requests) == Rank::of(0, 2));
    key.lists.remove(key.requests, high, WaitsFor::lease);
    CHECK(key.lists.first(WaitsFor::lease) == low);
    CHECK(key.lists.best(key.requests) == part);
    CHECK(key.lists.rank(key.requests) == Rank::of(0, 4));
    key.lists.remove(key.requests, part, WaitsFor::part);
    CHECK(key.lists.best(key.requests) == load);
    key.lists.remove(key.requests, low, WaitsFor::lease);
    CHECK(key.lists.oldest(key.requests) == load);
    CHECK(key.lists.rank(key.requests) == Rank::of(1, 3));
}

TEST_CASE("of two waiters the older one came first, whatever its priority", "[R15]") {
    Key key;
    const Index first = key.add(Priority::low);
    const Index second = key.add(Priority::high);
    CHECK(older_of(key.requests, first, second) == first);
    CHECK(older_of(key.requests, second, first) == first);
    CHECK(older_of(key.requests, none, second) == second);
    CHECK(older_of(key.requests, second, none) == second);
    CHECK(rank_of(key.requests, second) < rank_of(key.requests, first));
}

TEST_CASE("waiters that expect a generation are known beside their list", "[R6]") {
    for (const std::size_t leaves : {std::size_t{0}, std::size_t{1}, std::size_t{2}}) {
        Key key;
        Line latest_first;
        for (int count = 0; count < 3; ++count) {
            const Index index = key.add();
            key.lists.expect(key.requests, index);
            latest_first.insert(latest_first.begin(), index);
        }
        CHECK(key.expecting() == latest_first);
        key.lists.stop_expecting(key.requests, latest_first[leaves]);
        latest_first.erase(latest_first.begin() + static_cast<Line::difference_type>(leaves));
        CHECK(key.expecting() == latest_first);
        CHECK(key.line().size() == 3);
        for (const Index each : Line(latest_first)) {
            key.lists.stop_expecting(key.requests, each);
        }
        CHECK(key.expecting().empty());
    }
}

}  // namespace residency::core::waiter_lists_test

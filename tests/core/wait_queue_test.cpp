#include "residency/core/wait_queue.hpp"

#include "support/catch.hpp"

#include <chrono>
#include <vector>

namespace residency::core {

using namespace std::chrono_literals;

namespace {

// A room in which every key wants a place.
struct Room {
    explicit Room(Duration aging = Duration::max()) : room(aging) {}

    RequestId join(const ModelKey& key, const RequestSpec& spec = {}, Time now = Time{0}) {
        const Index index = room.prepare(key, spec.deadline != never);
        const RequestId id = room.join(index, spec, now);
        room.stand(index, QueueState::needs_place);
        return id;
    }
    RequestId join(const ModelKey& key, Priority priority, Time now = Time{0}) {
        RequestSpec spec;
        spec.priority = priority;
        return join(key, spec, now);
    }
    bool leave(RequestId id, Time now = Time{0}, bool to_lease = false) {
        const Index key = room.requests()[id.index].key;
        const bool kept = room.leave(id.index, now, to_lease);
        room.stand(key, QueueState::needs_place);
        return kept;
    }
    // The keys in the order in which they are served.
    std::vector<std::string> order() {
        WaitQueue copy = room;
        std::vector<std::string> names;
        while (!copy.order(QueueState::needs_place).empty()) {
            const Index key = copy.order(QueueState::needs_place).top();
            names.push_back(copy.keys()[key].key->name);
            copy.stand(key, QueueState::not_queued);
        }
        return names;
    }

    WaitQueue room;
};

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("within a key who came first is first, wherever others leave") {
    Room room;
    std::vector<RequestId> ids;
    for (int count = 0; count < 5; ++count) {
        ids.push_back(room.join("a"));
    }
    const Index a = room.room.keys().find("a");
    const auto queue = [&] {
        std::vector<RequestId> all;
        for (Index request = room.room.keys()[a].first; request != none; request = room.room.requests()[request].next) {
            all.push_back(room.room.requests().handle(request));
        }
        return all;
    };
    CHECK(queue() == ids);
    room.leave(ids[2]);
    CHECK(queue() == std::vector{ids[0], ids[1], ids[3], ids[4]});
    room.leave(ids[0]);
    room.leave(ids[4]);
    CHECK(queue() == std::vector{ids[1], ids[3]});
    CHECK(room.room.keys()[a].last == ids[3].index);
    CHECK(room.room.waiting() == 2);
    room.leave(ids[3]);
    room.leave(ids[1]);
    CHECK(queue().empty());
    CHECK(room.room.keys()[a].last == none);
    CHECK(room.room.waiting() == 0);
    CHECK(room.room.order(QueueState::needs_place).empty());
}

TEST_CASE("keys stand by their front waiters: priority, then arrival") {
    Room room;
    room.join("normal", Priority::normal);
    room.join("low", Priority::low);
    const RequestId front = room.join("mixed", Priority::low);
    room.join("mixed", Priority::high);
    room.join("high", Priority::high);
    CHECK(room.order() == Names{"high", "normal", "low", "mixed"});
    room.leave(front);
    CHECK(room.order() == Names{"mixed", "high", "normal", "low"});
    CHECK(room.room.wanted_places() == 4);
}

TEST_CASE("who has been passed over for too long comes first") {
    Room room(Duration(10ms));
    room.join("low", Priority::low, Time(0ms));
    room.join("high", Priority::high, Time(1ms));
    room.join("normal", Priority::normal, Time(2ms));
    room.room.age(Time(9ms));
    CHECK(room.order() == Names{"high", "normal", "low"});
    room.room.age(Time(10ms));
    CHECK(room.order() == Names{"low", "high", "normal"});
    room.room.age(Time(12ms));
    CHECK(room.order() == Names{"low", "high", "normal"});
    // Among those who have aged arrival counts, not priority.
    room.join("higher", Priority::high, Time(13ms));
    CHECK(room.order() == Names{"low", "high", "normal", "higher"});
}

TEST_CASE("ageing begins anew when another becomes the front waiter") {
    Room room(Duration(10ms));
    const RequestId first = room.join("a", Priority::low, Time(0ms));
    room.join("a", Priority::low, Time(0ms));
    room.join("b", Priority::normal, Time(3ms));
    room.room.age(Time(10ms));
    CHECK(room.order() == Names{"a", "b"});
    room.leave(first, Time(11ms));
    CHECK(room.order() == Names{"b", "a"});
    room.room.age(Time(13ms));
    CHECK(room.order() == Names{"b", "a"});
    room.room.age(Time(21ms));
    CHECK(room.order() == Names{"a", "b"});
}

TEST_CASE("ageing that never ends changes nothing") {
    Room room;
    room.join("low", Priority::low);
    room.join("high", Priority::high);
    room.room.age(never - Duration(1));
    CHECK(room.order() == Names{"high", "low"});
}

TEST_CASE("deadlines are kept while they count") {
    Room room;
    RequestSpec spec;
    spec.deadline = 5ms;
    spec.deadline_covers_lease = true;
    const RequestId goes_on = room.join("a", spec);
    spec.deadline_covers_lease = false;
    spec.deadline = 3ms;
    const RequestId ends = room.join("a", spec);
    room.join("a");
    CHECK(room.room.deadlines().size() == 2);
    CHECK(room.room.deadlines().top_rank() == Time(3ms));

    CHECK_FALSE(room.leave(ends, Time{0}, true));
    CHECK(room.leave(goes_on, Time{0}, true));
    CHECK(room.room.requests().size() == 2);
    CHECK(room.room.requests().contains(goes_on));
    CHECK(room.room.requests()[goes_on.index].leased);
    CHECK(room.room.deadlines().top_rank() == Time(5ms));
    room.room.drop_deadline(goes_on.index);
    CHECK(room.room.deadlines().empty());
    CHECK(room.room.requests().contains(goes_on));
    room.room.erase(goes_on.index);
    CHECK_FALSE(room.room.requests().contains(goes_on));
}

TEST_CASE("a deadline goes on only with a lease, and only if it was to") {
    Room room;
    RequestSpec spec;
    spec.deadline = 5ms;
    spec.deadline_covers_lease = true;
    CHECK_FALSE(room.leave(room.join("a", spec), Time{0}, false));
    spec.deadline = never;
    CHECK_FALSE(room.leave(room.join("a", spec), Time{0}, true));
    CHECK(room.room.requests().size() == 0);
    CHECK(room.room.deadlines().empty());

    spec.deadline = 7ms;
    const RequestId at_once = room.room.keep_deadline(room.room.prepare("a", true), spec);
    CHECK(room.room.waiting() == 0);
    CHECK(room.room.requests()[at_once.index].leased);
    CHECK(room.room.deadlines().top_rank() == Time(7ms));
}

TEST_CASE("a key gives up its claim when its last waiter leaves") {
    Room room;
    const RequestId id = room.join("a");
    const Index a = room.room.keys().find("a");
    room.room.keys()[a].claims = true;
    room.room.stand(a, QueueState::claimed);
    CHECK(room.room.order(QueueState::claimed).contains(a));
    CHECK_FALSE(room.room.order(QueueState::needs_place).contains(a));
    room.room.leave(id.index, Time{0}, false);
    room.room.stand(a, QueueState::claimed);
    CHECK(room.room.keys()[a].standing == QueueState::not_queued);
    CHECK_FALSE(room.room.keys()[a].claims);
    CHECK(room.room.order(QueueState::claimed).empty());
}

TEST_CASE("who expects a generation is counted") {
    Room room;
    RequestSpec spec;
    spec.expected = Generation{3};
    const RequestId expects = room.join("a", spec);
    room.join("a");
    const Index a = room.room.keys().find("a");
    CHECK(room.room.keys()[a].expecting == 1);
    room.leave(expects);
    CHECK(room.room.keys()[a].expecting == 0);
}

TEST_CASE("waiting rooms are values") {
    Room room;
    room.join("a");
    Room copy = room;
    CHECK(copy.room == room.room);
    copy.join("a");
    CHECK_FALSE(copy.room == room.room);
}

}  // namespace residency::core

// Which waiters share a model call, and which are cut into parts, action by action.

#include "residency/core/slot_scheduler.hpp"
#include "residency/core/text_lengths.hpp"

#include "support/catch.hpp"
#include "support/slot_table.hpp"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace residency::test::slot_scheduler_batches_test {

namespace {

using namespace std::chrono_literals;

/// A slot with one model, which takes so many texts a call, and with so many calls.
class Line : public SlotTable {
public:
    explicit Line(std::size_t calls, const BatchLimits& limits = {4}, bool spreads = true)
        : Line(limits, with_calls(calls), spreads) {}
    Line(const BatchLimits& limits, const SlotOptions& options, bool spreads = true) : SlotTable(options) {
        wait("a", load_only());
        model = resident("a");
        loaded(model, core::ModelLimits{100, limits, true, 0, spreads});
    }

    static SlotOptions with_calls(std::size_t calls) {
        SlotOptions options;
        options.max_calls = options.max_leases = calls;
        return options;
    }
    /// Ends the call that was granted at once.
    void end(Grant grant, core::Index texts) {
        grant.texts = texts;
        release(grant);
    }
    /// Ends a part of the request.
    void end_part(RequestId request, core::Index texts) { release({model, request, true, texts, true}); }
    /// Whose requests the last call granted, joined or gave a part, and how many texts of a part.
    [[nodiscard]] std::vector<std::pair<ActionType, core::Index>> given() const {
        std::vector<std::pair<ActionType, core::Index>> all;
        for (const Action& action : actions) {
            if (action.type == ActionType::grant || action.type == ActionType::join) {
                all.emplace_back(action.type, action.subject);
            } else if (action.type == ActionType::part) {
                all.emplace_back(action.type, action.count);
            }
        }
        return all;
    }
    using Given = std::vector<std::pair<ActionType, core::Index>>;

    ResidentId model;
};

}  // namespace

TEST_CASE("waiters that fit join the first, whole and by rank", "[H25]") {
    Line line(1);
    const Grant first = line.lease("a", SlotTable::about(1));
    const RequestId two = line.wait("a", SlotTable::about(2));
    const RequestId three = line.wait("a", SlotTable::about(3));
    const RequestId one = line.wait("a", SlotTable::about(1));
    const RequestId another = line.wait("a", SlotTable::about(1));
    line.end(first, 1);
    CHECK(line.given() == Line::Given{{ActionType::grant, two.index},
                                      {ActionType::join, one.index},
                                      {ActionType::join, another.index}});
    CHECK(line.scheduler.leases() == 1);
    line.end({line.model, {}, true}, 4);
    CHECK(line.given() == Line::Given{{ActionType::grant, three.index}});
    CHECK(line.scheduler.counters().batches == 3);
    CHECK(line.scheduler.counters().texts == 8);
}

TEST_CASE("a batch looks past 64 waiters that do not fit, and no further", "[H25]") {
    const auto misfits = GENERATE(as<std::size_t>{}, 64, 65);
    Line line(1, {8});
    const Grant first = line.lease("a", SlotTable::about(1));
    RequestSpec document = SlotTable::about(1);
    document.as = EmbedAs::document;
    line.wait("a", SlotTable::about(1));
    for (std::size_t count = 0; count < misfits; ++count) {
        line.wait("a", document);
    }
    line.wait("a", SlotTable::about(1));
    line.end(first, 1);
    CHECK(line.given().size() == (misfits == 64 ? 2 : 1));
}

TEST_CASE("of requests that are cut the one with the fewest texts left goes first", "[H26]") {
    Line line(1);
    const Grant first = line.lease("a", SlotTable::about(1));
    const RequestId large = line.wait("a", SlotTable::about(20));
    const RequestId small = line.wait("a", SlotTable::about(6));
    line.end(first, 1);
    // What is cut is known when its turn comes: the large one has begun by then.
    CHECK(line.actions.at(0).subject == large.index);
    line.end_part(large, 4);
    CHECK(line.actions.at(0).subject == small.index);
    CHECK(line.given() == Line::Given{{ActionType::part, 4}});
    line.end_part(small, 4);
    CHECK(line.actions.at(0).subject == small.index);
    CHECK(line.actions.at(0).is_last);
    CHECK(line.given() == Line::Given{{ActionType::part, 2}});
    line.end_part(small, 2);
    CHECK(line.actions.at(0).subject == large.index);
}

TEST_CASE("with several calls one is left to requests that are not cut, until none has come for a while", "[H26]") {
    Line line(3);
    const Grant whole = line.lease("a", SlotTable::about(1));
    const RequestId large = line.wait("a", SlotTable::about(400));
    CHECK(line.scheduler.calls() == 3);
    line.end(whole, 1);
    CHECK(line.given() == Line::Given{});
    // Calls 2 and 3 were parts; six calls after the first the third call is theirs, too.
    for (int call = 4; call < 7; ++call) {
        line.end_part(large, 4);
        CHECK(line.given() == Line::Given{{ActionType::part, 4}});
    }
    line.end_part(large, 4);
    CHECK(line.given() == Line::Given{{ActionType::part, 4}, {ActionType::part, 4}});
}

TEST_CASE("a request that fits one call is cut evenly only if it is alone", "[H25]") {
    Line line(3, {10});
    line.enqueue("a", SlotTable::about(7));
    CHECK(line.given() == Line::Given{{ActionType::part, 3}, {ActionType::part, 3}, {ActionType::part, 1}});
    Line busy(3, {10});
    busy.lease("a", SlotTable::about(1));
    busy.lease("a", SlotTable::about(7));
    CHECK(busy.scheduler.calls() == 2);
}

TEST_CASE("a request that fits one call of a model that waits for another side is not cut", "[H25][H39]") {
    Line line(3, {10}, false);
    line.lease("a", SlotTable::about(7));
    CHECK(line.scheduler.calls() == 1);
    Line large(3, {10}, false);
    large.enqueue("a", SlotTable::about(12));
    CHECK(large.given() == Line::Given{{ActionType::part, 10}, {ActionType::part, 2}});
}

TEST_CASE("a request is not cut evenly while others come in turns", "[H25]") {
    Line line(2, {10});
    const Grant first = line.lease("a", SlotTable::about(1));
    line.lease("a", SlotTable::about(1));
    line.end(first, 1);
    line.end(first, 1);
    // Two were there at once; as many calls later as that is remembered, a request is alone again.
    for (int call = 0; call < 3; ++call) {
        const Grant whole = line.lease("a", SlotTable::about(6));
        line.end(whole, 6);
    }
    line.enqueue("a", SlotTable::about(6));
    CHECK(line.given() == Line::Given{{ActionType::part, 3}, {ActionType::part, 3}});
}

TEST_CASE("a request that is old and cut takes no more calls than one that is not", "[H26][R15]") {
    SlotOptions options = Line::with_calls(2);
    options.aging = 1s;
    Line line({4}, options);
    const Grant whole = line.lease("a", SlotTable::about(1));
    const RequestId large = line.wait("a", SlotTable::about(40));
    line.wait("a", SlotTable::about(20));
    CHECK(line.scheduler.calls() == 2);
    line.at(2s);
    // One call has a part; the other is left to those that are not cut, however old the second large one is.
    line.end(whole, 1);
    CHECK(line.given() == Line::Given{});
    line.lease("a", SlotTable::about(1));
    line.end_part(large, 4);
    CHECK(line.given() == Line::Given{{ActionType::part, 4}});
}

TEST_CASE("while higher priority is there, lower ones leave a call to it", "[H26]") {
    const auto with_priority = [](Priority priority) {
        RequestSpec spec = SlotTable::about(1);
        spec.priority = priority;
        return spec;
    };
    Line line(3, {1});
    const Grant high = line.lease("a", with_priority(Priority::high));
    line.lease("a", with_priority(Priority::normal));
    Grant low = line.lease("a", with_priority(Priority::low));
    line.end(high, 1);
    CHECK(line.scheduler.model_calls().running(Priority::high) == 0);
    // The third call is left to high priority, which has it at once.
    Grant none;
    CHECK(line.try_grant("a", none, with_priority(Priority::normal)) == Attempt::must_wait);
    const RequestId waits = line.wait("a", with_priority(Priority::low));
    const RequestId first = line.wait("a", with_priority(Priority::high));
    CHECK(line.given() == Line::Given{{ActionType::grant, first.index}});
    line.end({line.model, {}, true, 1, false, Priority::high}, 1);
    CHECK(line.given() == Line::Given{});
    line.end(low, 1);
    CHECK(line.given() == Line::Given{{ActionType::grant, waits.index}});
    // Six calls after the last of high priority nothing is left to it.
    low = {line.model, {}, true, 1, false, Priority::low};
    for (int call = 0; call < 5; ++call) {
        line.end(low, 1);
        line.lease("a", with_priority(Priority::low));
    }
    line.lease("a", with_priority(Priority::low));
    CHECK(line.scheduler.calls() == 3);
}

TEST_CASE("parts are cut by the lengths of their texts", "[H26]") {
    const std::vector<std::string> texts{"55555", "1", "22", "333", "4444"};
    const core::TextLengths lengths(texts);
    Line line(1, {10, 6});
    RequestSpec spec = SlotTable::about(5);
    spec.bytes = 15;
    line.actions.clear();
    line.scheduler.enqueue(ModelKey("a"), spec, line.now, line.actions, &lengths);
    CHECK(line.given() == Line::Given{{ActionType::part, 3}});
    CHECK(line.scheduler.queue().bytes() == 9);
}

TEST_CASE("a request that times out between two parts, before the next load, was at its inference", "[H26][H1]") {
    Line line(1);
    RequestSpec spec = SlotTable::about(10);
    spec.deadline = 5ms;
    const RequestId large = line.wait("a", spec);
    CHECK(line.given() == Line::Given{{ActionType::part, 4}});
    line.unload("a");
    line.end_part(large, 4);
    line.begins_loads = false;
    line.unloaded(line.model);
    // Its next load has not begun: the request keeps its key's turn.
    line.at(5ms).tick();
    const auto failed = std::find_if(line.actions.begin(), line.actions.end(),
                                     [](const Action& action) { return action.type == ActionType::fail; });
    REQUIRE(failed != line.actions.end());
    CHECK(failed->stage == Stage::inference);
    CHECK(line.scheduler.queue().cut() == 0);
}

TEST_CASE("all parts that a call gives have room in its actions", "[H26]") {
    SlotTable slot(Line::with_calls(64));
    slot.wait("a", SlotTable::about(200));
    const std::size_t most = slot.scheduler.most_actions();
    slot.loaded(slot.resident("a"), core::ModelLimits{100, {2}, true});
    CHECK(slot.scheduler.calls() == 64);
    CHECK(slot.actions.size() <= most);
}

TEST_CASE("who is overloaded learns how long what waits will take, once a call has ended", "[R8]") {
    SlotOptions options = Line::with_calls(1);
    options.max_queue = 2;
    SlotTable slot(options);
    slot.make_ready("a");
    const Grant first = slot.lease("a", SlotTable::about(1));
    slot.wait("a", SlotTable::about(3));
    const RequestId large = slot.wait("a", SlotTable::about(7));
    CHECK(slot.enqueue("a").retry_after == core::Duration::zero());
    // One text in 50 ms; 7 texts are left.
    slot.at(50ms).release(first);
    slot.wait("b");
    CHECK(slot.enqueue("b").retry_after == 350ms);
    // Bare leases alone: how long they last is not known.
    slot.cancel(large);
    slot.wait("b");
    CHECK(slot.at(400ms).enqueue("b").retry_after == core::Duration::zero());
}

TEST_CASE("a call that was out of memory limits those that follow, down to one text", "[H30]") {
    Line line(1);
    line.scheduler.limit_batch(line.model, 1);
    const Grant first = line.lease("a", SlotTable::about(1));
    const RequestId large = line.wait("a", SlotTable::about(3));
    line.end(first, 1);
    CHECK(line.given() == Line::Given{{ActionType::part, 1}});
    line.end_part(large, 1);
    CHECK(line.given() == Line::Given{{ActionType::part, 1}});
}

}  // namespace residency::test::slot_scheduler_batches_test

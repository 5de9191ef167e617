// Walks through every state that a SlotScheduler can get into within some bounds: copies it, lets one thing happen,
// looks whether everything that is promised still holds, and goes on from each state that it has not seen. See
// --help.

#include "proof/settings.hpp"
#include "support/canonical.hpp"
#include "support/scheduler_events.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iomanip>
#include <iostream>
#include <memory>
#include <mutex>
#include <numeric>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

using StateId = std::uint32_t;
constexpr StateId no_state = ~StateId{0};

// -- The states that were seen ----------------------------------------------------------------------------------------

std::uint64_t hash_of(const std::uint8_t* bytes, std::size_t length) {
    std::uint64_t sum = 0x9e3779b97f4a7c15ULL + length;
    const auto mix = [&](std::uint64_t word) {
        sum = (sum ^ word) * 0xd6e8feb86659fd93ULL;
        sum ^= sum >> 32U;
    };
    std::size_t at = 0;
    for (; at + 8 <= length; at += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, bytes + at, 8);
        mix(word);
    }
    std::uint64_t rest = 0;
    std::memcpy(&rest, bytes + at, length - at);
    mix(rest);
    return sum ^ (sum >> 29U);
}

// Short for small numbers and for whole milliseconds, of which states are made.
void pack(const std::vector<std::uint64_t>& words, std::vector<std::uint8_t>& bytes) {
    constexpr std::uint64_t millisecond = 1'000'000;
    constexpr std::size_t longest = 9;
    bytes.resize(words.size() * longest);
    std::uint8_t* at = bytes.data();
    for (const std::uint64_t word : words) {
        if (word < 100) {
            *at++ = static_cast<std::uint8_t>(word);
        } else if (word % millisecond == 0 && word / millisecond < 100) {
            *at++ = static_cast<std::uint8_t>(100 + word / millisecond);
        } else {
            // Eight bytes follow.
            *at++ = 0xff;
            std::memcpy(at, &word, sizeof word);
            at += sizeof word;
        }
    }
    bytes.resize(static_cast<std::size_t>(at - bytes.data()));
}

// A list that grows without moving what is in it: never more than one block is empty.
template <class Item>
class Blocks {
public:
    void push_back(const Item& item) {
        if (size_ % length == 0) {
            blocks_.push_back(std::make_unique<Item[]>(length));
        }
        blocks_.back()[size_++ % length] = item;
    }
    // Puts them beside each other, and says where they begin.
    std::uint64_t append(const Item* items, std::size_t count) {
        if (size_ % length + count > length) {
            size_ += length - size_ % length;
        }
        if (size_ % length == 0) {
            blocks_.push_back(std::make_unique<Item[]>(length));
        }
        std::copy_n(items, count, blocks_.back().get() + size_ % length);
        size_ += count;
        return size_ - count;
    }
    const Item& operator[](std::uint64_t at) const { return blocks_[at / length][at % length]; }
    [[nodiscard]] std::uint64_t size() const { return size_; }
    [[nodiscard]] std::size_t memory() const { return blocks_.size() * length * sizeof(Item); }
    void clear() {
        blocks_.clear();
        size_ = 0;
    }

private:
    static constexpr std::uint64_t length = std::uint64_t{1} << 20U;
    std::vector<std::unique_ptr<Item[]>> blocks_;
    std::uint64_t size_ = 0;
};

// Every state once, in the order in which they were found, and how each was found.
class StateTable {
public:
    StateTable() : slots_(std::size_t{1} << 16U) {}

    // The state's number, and whether it is new.
    std::pair<StateId, bool> insert(const std::vector<std::uint8_t>& bytes, StateId parent, SchedulerEvent event) {
        if (std::uint64_t{size()} * 3 >= slots_.size() * std::uint64_t{2}) {
            grow();
        }
        const std::uint64_t hash = hash_of(bytes.data(), bytes.size());
        const auto tag = static_cast<std::uint32_t>(hash >> 32U);
        std::size_t at = hash & (slots_.size() - 1);
        while (slots_[at].id != no_state) {
            if (slots_[at].tag == tag && equal(slots_[at].id, bytes)) {
                return {slots_[at].id, false};
            }
            at = (at + 1) & (slots_.size() - 1);
        }
        const StateId id = size();
        slots_[at] = {id, tag};
        const std::uint64_t begin = bytes_.append(bytes.data(), bytes.size());
        states_.push_back({begin, static_cast<std::uint32_t>(bytes.size()), parent, event});
        return {id, true};
    }

    [[nodiscard]] bool equal(StateId id, const std::vector<std::uint8_t>& bytes) const {
        const State& state = states_[id];
        return state.length == bytes.size() && std::memcmp(&bytes_[state.begin], bytes.data(), bytes.size()) == 0;
    }

    [[nodiscard]] StateId size() const { return static_cast<StateId>(states_.size()); }
    [[nodiscard]] StateId parent(StateId id) const { return states_[id].parent; }
    [[nodiscard]] SchedulerEvent event(StateId id) const { return states_[id].event; }
    [[nodiscard]] std::size_t memory() const {
        return slots_.capacity() * sizeof(Slot) + bytes_.memory() + states_.memory();
    }
    // What is needed to find a state, but not to print how it was found.
    void forget_bytes() {
        std::vector<Slot>().swap(slots_);
        bytes_.clear();
    }

private:
    struct Slot {
        StateId id = no_state;
        std::uint32_t tag = 0;
    };
    struct State {
        std::uint64_t begin = 0;
        std::uint32_t length = 0;
        StateId parent = no_state;
        SchedulerEvent event{};
    };

    void grow() {
        std::vector<Slot> old(slots_.size() * 2);
        old.swap(slots_);
        for (const Slot& slot : old) {
            if (slot.id != no_state) {
                const State& state = states_[slot.id];
                std::size_t at = hash_of(&bytes_[state.begin], state.length) & (slots_.size() - 1);
                while (slots_[at].id != no_state) {
                    at = (at + 1) & (slots_.size() - 1);
                }
                slots_[at] = slot;
            }
        }
    }

    std::vector<Slot> slots_;
    Blocks<std::uint8_t> bytes_;
    Blocks<State> states_;
};

// -- One setting ------------------------------------------------------------------------------------------------------

struct Report {
    std::string name;
    std::uint64_t states = 0;
    std::uint64_t transitions = 0;
    std::uint64_t compared = 0;
    std::size_t depth = 0;
    std::size_t longest_end = 0;
    std::size_t megabytes = 0;
    double seconds = 0;
    bool complete = true;
    std::string violation;
    std::array<std::uint64_t, happening_names.size()> happenings{};
    ActionCounts counts;
};

// What the backend and the holders of leases do in the end.
bool is_progress(Happening what) {
    return what == Happening::release || what == Happening::load_begins || what == Happening::loaded ||
           what == Happening::load_failed || what == Happening::unloaded;
}

class Explorer {
public:
    Explorer(const Setting& setting, StateId most_states, std::uint64_t compare_one_in)
        : setting_(setting),
          most_states_(most_states),
          compare_one_in_(compare_one_in),
          start_(setting.options, setting.keys, setting.begins_loads),
          writers_(1) {
        // Where every key is asked for in the same ways, states that differ in the names of keys alone are one.
        std::vector<ModelKey> names = setting.keys;
        while (setting.is_symmetric() && std::next_permutation(names.begin(), names.end())) {
            permutations_.push_back(std::make_unique<std::vector<ModelKey>>(names));
            writers_.emplace_back().rename(setting.keys, *permutations_.back());
        }
        for (CanonicalWriter& writer : writers_) {
            writer.distinguish_leases(leases_);
        }
    }

    Report run() {
        const auto begin = std::chrono::steady_clock::now();
        report_.name = setting_.name;
        try {
            explore();
            if (report_.complete) {
                check_liveness();
            }
        } catch (const Found& found) {
            report_.violation = story_of(found);
        }
        report_.states = states_.size();
        report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        return std::move(report_);
    }

private:
    // A violation: what happened in which state.
    struct Found {
        std::string promise;
        StateId state;
        bool has_event;
        SchedulerEvent event;
    };

    void explore() {
        encode(start_);
        states_.insert(bytes_, no_state, {});
        edges_begin_.push_back(0);
        path_.assign(1, start_);
        path_ids_.assign(1, 0);
        CheckedScheduler next = start_;
        std::vector<SchedulerEvent> events;
        for (StateId id = 0; id < states_.size(); ++id) {
            if (states_.size() > most_states_) {
                report_.complete = false;
                break;
            }
            const CheckedScheduler& state = rebuild(id);
            encode(state);
            if (!states_.equal(id, bytes_)) {
                throw Found{"what happened in the same order leads to the same state", id, false, {}};
            }
            events.clear();
            for_each_event(state, setting_, [&](const SchedulerEvent& event) { events.push_back(event); });
            bool may_progress = false;
            for (const SchedulerEvent& event : events) {
                next = state;
                next.count_into(&report_.counts);
                happen(next, id, event);
                ++report_.transitions;
                ++report_.happenings[static_cast<std::size_t>(event.what)];
                encode(next);
                const auto [found, is_new] = states_.insert(bytes_, id, event);
                if (is_progress(event.what)) {
                    may_progress = true;
                    edges_.push_back(found);
                }
                if (!is_new && compare_one_in_ != 0 && report_.transitions % compare_one_in_ == 0) {
                    compare(found, next, id, event);
                }
            }
            edges_begin_.push_back(edges_.size());
            if (!may_progress) {
                try {
                    CheckedScheduler end = state;
                    end.settle();
                    end.check_end();
                } catch (const Violation& violation) {
                    throw Found{violation.what(), id, false, {}};
                }
            }
        }
        report_.megabytes = (states_.memory() + edges_.memory() + edges_begin_.memory()) >> 20U;
    }

    void happen(CheckedScheduler& world, StateId id, const SchedulerEvent& event) const {
        try {
            carry_out(world, setting_, event);
        } catch (const Violation& violation) {
            throw Found{violation.what(), id, true, event};
        }
    }

    // The request that a part is of: its place among the waiters, or when it times out if all its texts were given.
    // Without a deadline nothing is known of it then.
    static std::uint64_t place_of(const CheckedScheduler& world, core::RequestId request) {
        for (std::size_t place = 0; place < world.waiters().size(); ++place) {
            if (world.waiters()[place].id == request) {
                return place + 1;
            }
        }
        for (const KnownSharer& sharer : world.kept()) {
            if (sharer.id == request) {
                const core::Duration left = std::max(core::Duration::zero(), sharer.deadline - world.now());
                return sharer.expired ? 100 : 101 + static_cast<std::uint64_t>(left.count());
            }
        }
        return 0;
    }

    // What distinguishes a lease from others on its resident: that it is for a model call, how many texts that is
    // about, and when those who share it time out. Sums of these numbers are the same only for the same leases, as good
    // as surely: what is mixed has 64 bits.
    static std::uint64_t number_of(const CheckedScheduler& world, const KnownLease& lease) {
        const core::Time now = world.now();
        const auto priority = static_cast<std::uint64_t>(lease.grant.priority);
        if (lease.grant.texts == 0) {
            return lease.grant.is_inference ? std::uint64_t{1} << (8 * priority) : 0U;
        }
        std::vector<std::uint64_t> facts{priority};
        for (const KnownSharer& sharer : lease.sharers) {
            const core::Duration left = std::max(core::Duration::zero(), sharer.deadline - now);
            facts.push_back(sharer.expired ? 0 : static_cast<std::uint64_t>(left.count()) + 1);
        }
        std::sort(facts.begin(), facts.end());
        if (lease.grant.is_part) {
            facts.push_back(place_of(world, lease.grant.request));
        }
        facts.push_back(lease.grant.texts);
        std::uint64_t mixed = 0x9e3779b97f4a7c15ULL;
        for (const std::uint64_t fact : facts) {
            mixed = (mixed ^ fact) * 0xff51afd7ed558ccdULL;
            mixed ^= mixed >> 32U;
        }
        return mixed;
    }

    void encode(const CheckedScheduler& world) {
        leases_.assign(world.scheduler().residents().end_index(), 0);
        for (const KnownLease& lease : world.leases()) {
            leases_[lease.grant.resident.index] += number_of(world, lease);
        }
        for (CanonicalWriter& writer : writers_) {
            words_.clear();
            writer.write(world.scheduler(), world.now(), false, words_);
            if (&writer == writers_.data()) {
                pack(words_, bytes_);
                continue;
            }
            pack(words_, renamed_);
            if (renamed_ < bytes_) {
                bytes_.swap(renamed_);
            }
        }
    }

    // The state as it was when it was found. Neighbours in the table share most of their way from the start, so that
    // this costs little more than one step, and no state has to be kept.
    const CheckedScheduler& rebuild(StateId id) {
        way_.clear();
        for (StateId at = id; at != no_state; at = states_.parent(at)) {
            way_.push_back(at);
        }
        std::reverse(way_.begin(), way_.end());
        report_.depth = std::max(report_.depth, way_.size() - 1);
        std::size_t same = 0;
        while (same < way_.size() && same < path_ids_.size() && way_[same] == path_ids_[same]) {
            ++same;
        }
        path_ids_ = way_;
        if (path_.size() < way_.size()) {
            path_.resize(way_.size(), start_);
        }
        for (; same < way_.size(); ++same) {
            path_[same] = path_[same - 1];
            happen(path_[same], way_[same - 1], states_.event(way_[same]));
        }
        return path_[way_.size() - 1];
    }

    // Two ways to the same canonical state must have the same future: if not, something that counts is missing in it.
    void compare(StateId known, const CheckedScheduler& other, StateId id, const SchedulerEvent& event) {
        CheckedScheduler first = start_;
        std::vector<StateId> way;
        for (StateId at = known; at != 0; at = states_.parent(at)) {
            way.push_back(at);
        }
        for (auto at = way.rbegin(); at != way.rend(); ++at) {
            happen(first, states_.parent(*at), states_.event(*at));
        }
        if (futures(first) != futures(other)) {
            std::ostringstream text;
            text << "the same canonical state has one future; state " << known << ", found otherwise like this:\n"
                 << story_of(Found{"", known, false, {}});
            throw Found{text.str(), id, true, event};
        }
        ++report_.compared;
    }

    std::vector<std::uint64_t> futures(const CheckedScheduler& world) {
        std::vector<std::uint64_t> all;
        CheckedScheduler next = world;
        for_each_event(world, setting_, [&](const SchedulerEvent& event) {
            next = world;
            next.count_into(nullptr);
            carry_out(next, setting_, event);
            encode(next);
            // What was done counts, in whichever order, but not about which places and numbers.
            std::uint64_t sum = hash_of(bytes_.data(), bytes_.size()) + static_cast<std::uint64_t>(event.what);
            for (const core::Action& action : next.actions()) {
                const bool is_event = action.type == core::ActionType::event;
                sum += (static_cast<std::uint64_t>(action.type) * 31 +
                        (is_event ? static_cast<std::uint64_t>(action.event) : 0)) *
                           31 +
                       (is_event ? static_cast<std::uint64_t>(action.reason) : 0) +
                       static_cast<std::uint64_t>(action.code) * 7919;
            }
            all.push_back(sum);
        });
        // Leases for parts of requests that are gone end alike, also if these were not the same.
        std::sort(all.begin(), all.end());
        all.erase(std::unique(all.begin(), all.end()), all.end());
        return all;
    }

    // If loads finish and leases end, in whichever order, there is an end: no circle of nothing but that. Where there
    // is no way on, check_end() has looked already.
    void check_liveness() {
        states_.forget_bytes();
        enum Colour : std::uint8_t { unseen, open, done };
        std::vector<std::uint8_t> colour(states_.size(), unseen);
        std::vector<std::uint8_t> height(states_.size(), 0);
        std::vector<std::pair<StateId, std::uint64_t>> stack;
        for (StateId root = 0; root < states_.size(); ++root) {
            if (colour[root] != unseen) {
                continue;
            }
            stack.assign(1, {root, edges_begin_[root]});
            colour[root] = open;
            while (!stack.empty()) {
                auto& [id, edge] = stack.back();
                if (edge == edges_begin_[id + 1]) {
                    colour[id] = done;
                    const std::uint8_t own = height[id];
                    report_.longest_end = std::max<std::size_t>(report_.longest_end, own);
                    stack.pop_back();
                    if (!stack.empty()) {
                        std::uint8_t& above = height[stack.back().first];
                        above = std::max(above, static_cast<std::uint8_t>(own + 1));
                    }
                    continue;
                }
                const StateId next = edges_[edge++];
                if (colour[next] == open) {
                    throw Found{"if loads finish and leases end, that comes to an end", next, false, {}};
                }
                if (colour[next] == unseen) {
                    colour[next] = open;
                    stack.emplace_back(next, edges_begin_[next]);
                } else {
                    height[id] = std::max(height[id], static_cast<std::uint8_t>(height[next] + 1));
                }
            }
        }
    }

    // The way to a violation. It is a shortest one: states are found in the order of their distance.
    std::string story_of(const Found& found) const {
        std::ostringstream out;
        if (!found.promise.empty()) {
            out << "VIOLATED: " << found.promise << "\n  setting " << setting_.name << "\n";
        }
        std::vector<SchedulerEvent> events;
        for (StateId at = found.state; states_.parent(at) != no_state; at = states_.parent(at)) {
            events.push_back(states_.event(at));
        }
        std::reverse(events.begin(), events.end());
        if (found.has_event) {
            events.push_back(found.event);
        }
        CheckedScheduler world = start_;
        out << "  " << events.size() << " steps:\n";
        for (const SchedulerEvent& event : events) {
            out << "  ";
            print(out, world, setting_, event);
            out << '\n';
            try {
                carry_out(world, setting_, event);
            } catch (const Violation&) {
                out << "    (here)\n";
            }
            out << world;
        }
        return out.str();
    }

    const Setting& setting_;
    StateId most_states_;
    std::uint64_t compare_one_in_;
    CheckedScheduler start_;
    StateTable states_;
    // From each state the states to which the end of a load, an unload or a lease leads.
    Blocks<StateId> edges_;
    Blocks<std::uint64_t> edges_begin_;
    std::vector<CanonicalWriter> writers_;
    std::vector<std::unique_ptr<std::vector<ModelKey>>> permutations_;
    std::vector<std::uint64_t> leases_;
    std::vector<std::uint64_t> words_;
    std::vector<std::uint8_t> bytes_;
    std::vector<std::uint8_t> renamed_;
    std::vector<StateId> way_;
    std::vector<StateId> path_ids_;
    std::vector<CheckedScheduler> path_;
    Report report_;
};

// -- The whole --------------------------------------------------------------------------------------------------------

struct Arguments {
    Dose dose = Dose::small;
    std::string only;
    std::size_t jobs = 2;
    StateId most_states = 400'000'000;
    std::uint64_t compare_one_in = 10'000;
    bool list = false;
};

constexpr std::string_view help =
    R"(explorer: walks through every state that residency's scheduler can get into within some bounds

usage: explorer [--dose small|full] [--only TEXT] [--jobs N] [--compare N] [--most-states N] [--list]

From the empty slot on it copies the production SlotScheduler, lets one thing happen, checks all invariants of
tests/support/scheduler_invariants.hpp, and goes on from each state that is new. States are compared by canonical(now), which
holds what can influence the future and nothing else; states that differ in the names of keys alone count as one. What can
happen: a request of each kind, a release, a cancellation, a load that gives a model or fails, an unload that ends, time that
passes without anybody looking, a look at any time (early, due, late, again), unload of one key or all in both modes, an unload
that is not waited for any more, close, and shutdown with a deadline.

When all states are known it checks that from each of them, if loads finish and leases end, in whichever order, everything
comes to an end (that part of the graph has no circle), and that in each end no request waits and no operation is open, and after a
shutdown nothing is left.

  --dose small    fewer waiters and combinations: half a minute on two cores (default)
  --dose full     3 and more waiters, every combination: under 30 minutes and 8 GiB on two cores
  --only TEXT     only settings whose name contains TEXT; then what never happened is no fault
  --jobs N        settings at once (default 2)
  --compare N     every N-th time a state is found again, compares the futures of both ways to it: they differ if canonical()
                  lacks something (default 10000, 0 for never)
  --most-states N gives up a setting beyond that, which is a failure
  --list          prints the families and settings of the dose
  --help          prints this

A violation is printed with a shortest way to it. Exit code: 0 if all holds and everything has happened, 1 if not, 2 for wrong
arguments.
)";

struct Seen {
    std::string what;
    std::uint64_t count;
};

// Everything that can happen and be answered, with how often it did.
std::vector<Seen> everything(const std::vector<Report>& reports) {
    std::vector<Seen> all;
    const auto sum = [&](const std::string& what, auto get) {
        std::uint64_t count = 0;
        for (const Report& report : reports) {
            count += get(report);
        }
        all.push_back({what, count});
    };
    for (std::size_t index = 0; index < happening_names.size(); ++index) {
        sum("event " + std::string(happening_names[index]),
            [=](const Report& report) { return report.happenings[index]; });
    }
    sum("answer granted at once", [](const Report& report) { return report.counts.at_once; });
    for (const errc code :
         {errc::overloaded, errc::cooling_down, errc::unknown_model, errc::model_changed, errc::shutting_down}) {
        sum("answer refused at once, " + std::string(to_string(code)),
            [=](const Report& report) { return report.counts.refusals[static_cast<std::size_t>(code)]; });
    }
    const std::vector<std::pair<core::ActionType, const char*>> actions{
        {core::ActionType::grant, "grant"},         {core::ActionType::fail, "fail"},
        {core::ActionType::expire, "expire"},       {core::ActionType::load, "load"},
        {core::ActionType::join, "join"},           {core::ActionType::part, "part"},
        {core::ActionType::stop_load, "stop_load"}, {core::ActionType::revoke, "revoke"},
        {core::ActionType::unload, "unload"},       {core::ActionType::complete, "complete"},
        {core::ActionType::event, "event"}};
    for (const auto& [type, name] : actions) {
        sum("action " + std::string(name),
            [type = type](const Report& report) { return report.counts.types[static_cast<std::size_t>(type)]; });
    }
    for (const errc code :
         {errc::timed_out, errc::load_failed, errc::invalid_request, errc::model_changed, errc::shutting_down}) {
        sum("action fail, " + std::string(to_string(code)),
            [=](const Report& report) { return report.counts.codes[static_cast<std::size_t>(code)]; });
    }
    sum("action complete, late", [](const Report& report) { return report.counts.late; });
    for (const EventType type :
         {EventType::load_started, EventType::ready, EventType::load_failed, EventType::load_aborted,
          EventType::drain_started, EventType::drain_ended, EventType::unload_started, EventType::unloaded,
          EventType::shutdown_started, EventType::timed_out, EventType::rejected}) {
        sum("action event, " + std::string(to_string(type)),
            [=](const Report& report) { return report.counts.events[static_cast<std::size_t>(type)]; });
    }
    for (const Reason reason : {Reason::idle, Reason::switched, Reason::unload, Reason::revoked, Reason::shutdown}) {
        sum("action event, unload_started, " + std::string(to_string(reason)),
            [=](const Report& report) { return report.counts.unload_reasons[static_cast<std::size_t>(reason)]; });
    }
    sum("lease or place by age", [](const Report& report) { return report.counts.by_age; });
    sum("batch as large as may be", [](const Report& report) { return report.counts.full_batches; });
    sum("part that is the last", [](const Report& report) { return report.counts.last_parts; });
    sum("part of an even cut", [](const Report& report) { return report.counts.even_parts; });
    sum("batch that leaves a waiter", [](const Report& report) { return report.counts.passed_by; });
    sum("resident that stays", [](const Report& report) { return report.counts.stays; });
    sum("resident that serves what ranks before", [](const Report& report) { return report.counts.serves; });
    sum("claim", [](const Report& report) { return report.counts.claims; });
    sum("load that does not begin", [](const Report& report) { return report.counts.dropped_loads; });
    return all;
}

void print(const Report& report) {
    std::cout << std::left << std::setw(64) << report.name << std::right << std::setw(10) << report.states << " states"
              << std::setw(12) << report.transitions << " transitions, depth " << std::setw(2) << report.depth
              << ", ends within " << std::setw(2) << report.longest_end << ", " << report.compared << " compared, "
              << std::fixed << std::setprecision(1) << std::setw(6) << report.seconds << " s, " << report.megabytes
              << " MiB" << (report.complete ? "" : "  NOT ALL") << '\n'
              << report.violation << std::flush;
}

int explore(const Arguments& arguments) {
    std::vector<Setting> settings;
    for (const Family& family : families(arguments.dose)) {
        if (arguments.list) {
            std::cout << family.name << ": " << family.about << '\n';
        }
        for (Setting& setting : settings_of(family)) {
            if (setting.name.find(arguments.only) != std::string::npos) {
                if (arguments.list) {
                    std::cout << "  " << setting.name << '\n';
                }
                settings.push_back(std::move(setting));
            }
        }
    }
    if (arguments.list) {
        return EXIT_SUCCESS;
    }
    if (settings.empty()) {
        std::cerr << "explorer: no setting is called like `" << arguments.only << "`\n";
        return 2;
    }

    const auto begin = std::chrono::steady_clock::now();
    std::vector<Report> reports(settings.size());
    std::atomic<std::size_t> next{0};
    std::mutex printing;
    const auto work = [&] {
        for (std::size_t mine = next++; mine < settings.size(); mine = next++) {
            reports[mine] = Explorer(settings[mine], arguments.most_states, arguments.compare_one_in).run();
            const std::lock_guard lock(printing);
            print(reports[mine]);
        }
    };
    std::vector<std::thread> threads;
    for (std::size_t job = 1; job < arguments.jobs; ++job) {
        threads.emplace_back(work);
    }
    work();
    for (std::thread& thread : threads) {
        thread.join();
    }

    bool holds = true;
    std::uint64_t states = 0;
    std::uint64_t transitions = 0;
    std::uint64_t compared = 0;
    std::uint64_t megabytes = 0;
    for (const Report& report : reports) {
        states += report.states;
        transitions += report.transitions;
        compared += report.compared;
        megabytes = std::max<std::uint64_t>(megabytes, report.megabytes);
        holds = holds && report.complete && report.violation.empty();
    }
    std::cout << '\n';
    for (const Seen& seen : everything(reports)) {
        std::cout << std::left << std::setw(48) << seen.what << std::right << std::setw(14) << seen.count << '\n';
        if (seen.count == 0 && arguments.only.empty()) {
            std::cout << "NEVER HAPPENED: " << seen.what << '\n';
            holds = false;
        }
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    std::cout << '\n'
              << settings.size() << " settings, " << states << " states, " << transitions << " transitions, "
              << compared << " pairs of ways to a state compared, " << std::fixed << std::setprecision(1)
              << took.count() << " s, at most " << megabytes
              << " MiB for a setting: " << (holds ? "all holds" : "FAILED") << std::endl;
    return holds ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace

int main(int argc, char** argv) {
    Arguments arguments;
    const std::vector<std::string> given(argv + 1, argv + argc);
    try {
        for (std::size_t index = 0; index < given.size(); ++index) {
            const std::string& option = given[index];
            const auto value = [&]() -> const std::string& {
                if (index + 1 == given.size()) {
                    throw std::invalid_argument(option + " needs a value");
                }
                return given[++index];
            };
            if (option == "--help") {
                std::cout << help;
                return EXIT_SUCCESS;
            }
            if (option == "--list") {
                arguments.list = true;
            } else if (option == "--dose") {
                const std::string& dose = value();
                if (dose != "small" && dose != "full") {
                    throw std::invalid_argument("--dose is small or full, not `" + dose + "`");
                }
                arguments.dose = dose == "full" ? Dose::full : Dose::small;
            } else if (option == "--only") {
                arguments.only = value();
            } else if (option == "--jobs") {
                arguments.jobs = std::max<std::size_t>(1, std::stoul(value()));
            } else if (option == "--compare") {
                arguments.compare_one_in = std::stoull(value());
            } else if (option == "--most-states") {
                arguments.most_states =
                    static_cast<StateId>(std::min<std::uint64_t>(std::stoull(value()), no_state - 1));
            } else {
                throw std::invalid_argument("unknown option `" + option + "`, see --help");
            }
        }
    } catch (const std::logic_error& error) {
        std::cerr << "explorer: " << error.what() << '\n';
        return 2;
    }
    return explore(arguments);
}

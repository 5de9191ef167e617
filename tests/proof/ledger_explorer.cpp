// Walks through every state that a MemoryLedger can get into with a few keys, against slots that do anything that they
// may: each key asks, gives up, loads, is used, is pinned, is leased, goes, in every order. After each message it is
// looked at whether what the ledger promises holds; and at the end, whether from each state everything is served or
// refused once loads finish and leases end, in whichever order.

#include "residency/core/memory_ledger.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <initializer_list>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

using namespace residency::core;

constexpr std::size_t most_keys = 4;
constexpr Time aged_at{50};
constexpr Time later_time{100};

// What a key does.
enum class Doing : std::uint8_t { nothing, waits, loads, idle, stays, in_use, leased, pinned, draining, leaving };

// What a resident in use is there for: a waiter that had no lease since the load, nothing but the leases that it has,
// or a waiter that came later.
enum class Use : std::uint8_t { unused, used, awaited };

using Sizes = std::array<std::size_t, most_keys>;
using Levels = std::array<unsigned, most_keys>;

struct Setting {
    std::size_t limit;
    Sizes need;
    // What each turns out to need once it is loaded.
    Sizes used;
    Levels level;
    bool changes_limit = false;
    std::size_t keys = most_keys;
    // Whether residents have waiters, which keep them from keys that rank behind those.
    bool awaits = false;
};

struct Key {
    Doing doing = Doing::nothing;
    MemoryId id{};
    // Whether its best waiter is of the highest priority although its setting says otherwise.
    bool is_raised = false;
    // Whether it waits until what leaves is gone.
    bool follows = false;
    Use use = Use::used;
    // Whether it was loaded: what its model used is what it needs from then on, if that is more.
    bool was_loaded = false;
    // Its turn among all that came, and among all that were used.
    std::uint64_t came = 0;
    std::uint64_t used = 0;
};

struct State {
    explicit State(const Setting& setting) : ledger(setting.limit) {}
    MemoryLedger ledger;
    std::array<Key, most_keys> key{};
    std::uint64_t clock = 0;
    bool is_late = false;
    // Whether the latest message had all idle residents go.
    bool clears = false;
    bool was_lowered = false;

    [[nodiscard]] Time now() const { return is_late ? later_time : Time{0}; }
};

// There is nothing of the key any more but what is known of its model.
void forget(Key& key) {
    Key next;
    next.was_loaded = key.was_loaded;
    key = next;
}

[[noreturn]] void violated(const std::string& what) { throw std::logic_error(what); }
void demand(bool holds, const char* what) {
    if (!holds) {
        violated(what);
    }
}

MemoryHold hold_of(Doing doing) {
    switch (doing) {
        case Doing::idle: return MemoryHold::idle;
        case Doing::stays:
        case Doing::in_use: return MemoryHold::in_use;
        case Doing::leased: return MemoryHold::leased;
        case Doing::pinned: return MemoryHold::pinned;
        case Doing::draining: return MemoryHold::draining;
        case Doing::leaving: return MemoryHold::leaving;
        default: return MemoryHold::loading;
    }
}

bool holds_memory(Doing doing) { return doing != Doing::nothing && doing != Doing::waits; }

// Where the key's waiter stands; what has none comes last.
MemoryRank rank_of(const State& state, const Setting& setting, Index number) {
    const Key& key = state.key[number];
    if (holds_memory(key.doing) && key.use == Use::used) {
        return {};
    }
    return {key.is_raised ? 0 : setting.level[number], Time(static_cast<Time::rep>(key.came))};
}

std::vector<MemoryUse> uses_of(const State& state, const Setting& setting) {
    std::vector<MemoryUse> uses;
    for (Index number = 0; number < setting.keys; ++number) {
        const Key& key = state.key[number];
        if (holds_memory(key.doing)) {
            MemoryUse use;
            use.id = key.id;
            use.hold = hold_of(key.doing);
            use.idle_since = Time(key.doing == Doing::idle ? static_cast<Time::rep>(key.used) : 0);
            use.granted = key.used;
            use.rank = rank_of(state, setting, number);
            use.unused = key.use == Use::unused;
            use.keeps_until = key.doing == Doing::stays ? later_time : Time::min();
            uses.push_back(use);
        }
    }
    return uses;
}

std::size_t sum_of(const State& state, std::initializer_list<Doing> doings) {
    std::size_t sum = 0;
    for (const Key& key : state.key) {
        for (const Doing doing : doings) {
            sum += key.doing == doing ? state.ledger.bytes_of(key.id) : 0;
        }
    }
    return sum;
}

// The keys that wait, the first to be served first.
std::vector<Index> waiting(const State& state, const Setting& setting) {
    std::vector<Index> all;
    for (Index number = 0; number < setting.keys; ++number) {
        if (state.key[number].doing == Doing::waits) {
            all.push_back(number);
        }
    }
    const auto rank = [&](Index number) { return rank_of(state, setting, number); };
    std::sort(all.begin(), all.end(), [&](Index one, Index other) { return rank(one) < rank(other); });
    return all;
}

// Whether a key could be served if all went that can.
bool could_be(const State& state, Index number) {
    return sum_of(state, {Doing::pinned, Doing::leased}) + state.ledger.bytes_of(state.key[number].id) <=
           state.ledger.limit();
}

// Whether a resident in use makes room for a key that waits (H32): never by age if it was not used since its load.
bool yields(const State& state, const Setting& setting, Index holder, Index to, bool goes_by_age) {
    const MemoryRank key = rank_of(state, setting, to);
    const MemoryRank its = rank_of(state, setting, holder);
    const bool by_age = goes_by_age && state.is_late && key.since < its.since;
    return (state.is_late || state.key[holder].doing != Doing::stays) &&
           (key < its || (by_age && state.key[holder].use != Use::unused));
}

// The first of these keys that could be served if all went that can, in the order of their rank; none if there is none.
Index first_by_rank(const State& state, const Setting& setting, std::vector<Index> keys) {
    std::sort(keys.begin(), keys.end(),
              [&](Index one, Index other) { return rank_of(state, setting, one) < rank_of(state, setting, other); });
    const auto first = std::find_if(keys.begin(), keys.end(), [&](Index each) { return could_be(state, each); });
    return first == keys.end() ? none : *first;
}

// Whether what is in use for others that rank before it, pinned or leased keeps the key from its memory, whatever ends
// (R15). `open` wait, or had not been served then.
bool is_stuck(const State& state, const Setting& setting, Index number, const std::vector<Index>& open) {
    std::size_t stays = state.ledger.bytes_of(state.key[number].id);
    for (Index other = 0; other < setting.keys; ++other) {
        const Doing doing = state.key[other].doing;
        const bool is_used = doing == Doing::in_use || doing == Doing::stays || doing == Doing::draining;
        const bool keeps = doing == Doing::pinned || doing == Doing::leased ||
                           (is_used && !(rank_of(state, setting, number) < rank_of(state, setting, other)));
        stays += keeps && std::find(open.begin(), open.end(), other) == open.end()
                     ? state.ledger.bytes_of(state.key[other].id)
                     : 0;
    }
    return stays > state.ledger.limit();
}

// Whether the key would have its memory if it went by age.
bool has_room_by_age(const State& state, const Setting& setting, Index number) {
    std::size_t room = sum_of(state, {Doing::leaving, Doing::idle});
    for (Index other = 0; other < setting.keys; ++other) {
        const Doing doing = state.key[other].doing;
        const bool is_used = doing == Doing::in_use || doing == Doing::stays || doing == Doing::draining;
        room += is_used && yields(state, setting, other, number, true) ? state.ledger.bytes_of(state.key[other].id) : 0;
    }
    return state.ledger.reserved() + state.ledger.bytes_of(state.key[number].id) <= state.ledger.limit() + room;
}

// R15 and H35: who was served, and who was not.
void look_at_order(const MemoryLedger& before, const State& state, const Setting& setting,
                   const MemoryAnswers& answers) {
    const std::vector<Index> wait = waiting(state, setting);
    demand(wait.size() == state.ledger.waiting(), "the ledger and the slots differ about who waits");
    // Those that waited, until they are served.
    std::vector<Index> open = wait;
    for (const MemoryAnswer& answer : answers) {
        if (answer.verdict == MemoryVerdict::reserved) {
            open.push_back(answer.owner.key);
        }
    }
    const auto rank = [&](Index number) {
        return std::pair(state.key[number].is_raised ? 0 : setting.level[number], state.key[number].came);
    };
    bool by_age = before.by_age();
    for (const MemoryAnswer& answer : answers) {
        if (answer.verdict != MemoryVerdict::reserved) {
            continue;
        }
        const Index served = answer.owner.key;
        const Index oldest = *std::min_element(open.begin(), open.end(), [&](Index one, Index other) {
            return state.key[one].came < state.key[other].came;
        });
        const bool is_oldest = state.is_late && served == oldest;
        const auto first = std::find_if(wait.begin(), wait.end(), [&](Index other) { return could_be(state, other); });
        // If the key that is first by rank can have nothing, the oldest takes the turn.
        const Index by_rank = first_by_rank(state, setting, open);
        by_age = by_age || (is_oldest && by_rank != none && is_stuck(state, setting, by_rank, open));
        const bool goes_by_age = state.is_late && by_age;
        const Index leader = goes_by_age && could_be(state, oldest) ? oldest : first == wait.end() ? none : *first;
        const bool is_first = (goes_by_age && is_oldest) ||
                              (leader != none && !(goes_by_age && leader == oldest) && rank(served) < rank(leader));
        demand(leader == none || is_first ||
                   state.ledger.reserved() + state.ledger.bytes_of(state.key[leader].id) <=
                       state.ledger.limit() + sum_of(state, {Doing::leaving}),
               "serves a key with what is kept for another");
        demand(!state.is_late || is_oldest || !by_age || state.key[oldest].follows ||
                   before.reserved() + state.ledger.bytes_of(state.key[oldest].id) > state.ledger.limit(),
               "the oldest is passed by although it fits");
        // What is served beside a key that memory is kept for takes no turn.
        const bool passes = std::any_of(wait.begin(), wait.end(), [&](Index other) {
            const bool is_before = goes_by_age && served == oldest  ? false
                                   : goes_by_age && other == oldest ? true
                                                                    : rank(other) < rank(served);
            return is_before && could_be(state, other);
        });
        by_age = passes ? by_age : !by_age || !is_oldest;
        open.erase(std::find(open.begin(), open.end(), served));
    }
    const Index by_rank = first_by_rank(state, setting, wait);
    if (!by_age && state.is_late && by_rank != none && is_stuck(state, setting, by_rank, wait)) {
        const Index oldest = *std::min_element(wait.begin(), wait.end(), [&](Index one, Index other) {
            return state.key[one].came < state.key[other].came;
        });
        by_age = could_be(state, oldest) && has_room_by_age(state, setting, oldest);
    }
    demand(by_age == state.ledger.by_age(), "whose turn it is, is not what it should be");
    for (const Index number : wait) {
        const bool follows = state.key[number].follows && sum_of(state, {Doing::leaving}) != 0;
        if (!follows && state.ledger.reserved() + state.ledger.bytes_of(state.key[number].id) <= state.ledger.limit()) {
            demand(std::any_of(wait.begin(), wait.end(),
                               [&](Index other) { return other != number && could_be(state, other); }),
                   "a key fits that nothing is kept from, and is not served");
        }
    }
}

// H36: what goes, and that all of it is needed. `evicted` are those in use that do.
void look_at_room(const State& state, const Setting& setting, const MemoryAnswers& answers,
                  const std::vector<Index>& evicted) {
    std::vector<Index> wait = waiting(state, setting);
    if (state.ledger.by_age() && state.is_late) {
        std::stable_partition(wait.begin(), wait.end(), [&](Index number) {
            return std::all_of(wait.begin(), wait.end(),
                               [&](Index other) { return state.key[number].came <= state.key[other].came; });
        });
    }
    const auto leader = std::find_if(wait.begin(), wait.end(), [&](Index number) { return could_be(state, number); });
    const std::size_t need = leader == wait.end() ? 0 : state.ledger.bytes_of(state.key[*leader].id);
    const std::size_t wanted = state.ledger.reserved() + need;
    const std::size_t lacking = wanted - std::min(wanted, state.ledger.limit());
    const std::size_t going = sum_of(state, {Doing::leaving, Doing::draining});
    const std::size_t draining = sum_of(state, {Doing::draining});
    demand(evicted.empty() || leader != wait.end(), "evicts what is in use, and for no key");
    std::size_t yielding = 0;
    for (Index number = 0; leader != wait.end() && number < setting.keys; ++number) {
        const Key& key = state.key[number];
        const bool goes = std::find(evicted.begin(), evicted.end(), number) != evicted.end();
        const bool would_go = yields(state, setting, number, *leader, state.ledger.by_age());
        demand(would_go || (!goes && key.doing != Doing::draining), "evicts what does not yield");
        const bool is_used = key.doing == Doing::in_use || key.doing == Doing::stays;
        yielding += is_used && would_go ? state.ledger.bytes_of(key.id) : 0;
    }
    // The least recently used go first: of several not each is needed, but one is.
    demand(draining == 0 || (leader != wait.end() && going >= lacking), "drains what is not enough for anything");
    // Where an unused one leaves at once, what drains beside it is kept by the next look.
    const bool looks_again = std::any_of(evicted.begin(), evicted.end(),
                                         [&](Index each) { return state.key[each].doing == Doing::leaving; });
    // What is more than the limit goes as soon as it is idle, whatever drains beside it.
    const bool is_over = state.ledger.reserved() > state.ledger.limit();
    demand(draining == 0 || is_over || looks_again ||
               std::any_of(state.key.begin(), state.key.end(),
                           [&](const Key& key) {
                               return key.doing == Doing::draining && going - state.ledger.bytes_of(key.id) < lacking;
                           }),
           "drains more than is needed");
    const auto last = std::find_if(answers.rbegin(), answers.rend(),
                                   [](const MemoryAnswer& answer) { return answer.verdict == MemoryVerdict::evict; });
    if (last != answers.rend() && !state.clears) {
        demand(is_over || going >= lacking, "evicts, and it is not enough for any key");
        demand(is_over || going - state.ledger.bytes_of(last->id) < lacking, "evicts more than is needed");
    }
    // What waits does so for a reason.
    if (leader != wait.end() && going < lacking) {
        demand(going + sum_of(state, {Doing::idle}) < lacking, "idle residents would be enough, and stay");
        demand(going + sum_of(state, {Doing::idle}) + yielding < lacking, "what yields would be enough, and stays");
        demand(draining == 0, "drains although that is not enough");
    }
}

// Settles, delivers the answers as a slot does, and looks whether they were right.
void settle(State& state, const Setting& setting) {
    const MemoryLedger before = state.ledger;
    MemoryAnswers answers;
    const std::size_t room = state.ledger.most_answers();
    const bool lacked = state.ledger.lacks();
    state.ledger.settle(state.now(), lacked ? uses_of(state, setting) : std::vector<MemoryUse>(), answers);
    demand(answers.size() <= room, "more answers than there was room for");
    std::vector<Index> evicted;
    for (const MemoryAnswer& answer : answers) {
        Key& key = state.key[answer.owner.key];
        demand(key.id == answer.id, "an answer about another key");
        switch (answer.verdict) {
            case MemoryVerdict::reserved:
                demand(key.doing == Doing::waits, "reserved for a key that does not wait");
                key.doing = Doing::loads;
                key.follows = false;
                key.use = setting.awaits ? Use::unused : Use::used;
                break;
            case MemoryVerdict::lacking:
                demand(key.doing == Doing::waits, "a key that does not wait is to wait");
                break;
            case MemoryVerdict::impossible: {
                demand(key.doing == Doing::waits, "refused a key that does not wait");
                std::size_t pinned = 0;
                for (const Key& each : state.key) {
                    pinned += each.doing == Doing::pinned ? before.bytes_of(each.id) : 0;
                }
                demand(before.bytes_of(key.id) + pinned > state.ledger.limit(), "refused a key that could be served");
                forget(key);
                break;
            }
            case MemoryVerdict::evict:
                demand(key.doing == Doing::idle || key.doing == Doing::in_use || key.doing == Doing::stays,
                       "evicts what cannot go");
                demand(key.doing != Doing::stays || state.is_late, "evicts what keeps its place");
                if (key.doing != Doing::idle) {
                    evicted.push_back(answer.owner.key);
                }
                // What is unused has no lease to wait for.
                key.doing = key.doing == Doing::idle || key.use == Use::unused ? Doing::leaving : Doing::draining;
                break;
            case MemoryVerdict::keep:
                demand(key.doing == Doing::draining, "keeps what does not drain");
                key.doing = Doing::in_use;
                break;
        }
    }
    const bool overruns = setting.need != setting.used || state.was_lowered;
    demand(overruns || state.ledger.reserved() <= state.ledger.limit(), "more is reserved than the limit");
    for (const Key& key : state.key) {
        demand((key.doing == Doing::nothing) == (state.ledger.bytes_of(key.id) == 0), "the ledger and a slot differ");
        demand(key.doing == Doing::nothing || state.ledger.is_reserved(key.id) == holds_memory(key.doing),
               "the ledger and a slot differ about what is reserved");
    }
    look_at_order(before, state, setting, answers);
    look_at_room(state, setting, answers, evicted);
    state.clears = false;
    // What decides nothing any more is the same for all.
    for (Key& key : state.key) {
        const bool is_awaited = key.doing == Doing::waits || key.use != Use::used;
        key.came = is_awaited ? key.came : 0;
        key.is_raised = is_awaited && key.is_raised;
        const bool may_yield = key.doing == Doing::idle || key.doing == Doing::stays || key.doing == Doing::in_use ||
                               key.doing == Doing::draining;
        key.used = may_yield ? key.used : 0;
    }
    // A slot that unloads at once while memory is lacking has the ledger look again.
    const bool looks_again = std::any_of(evicted.begin(), evicted.end(),
                                         [&](Index each) { return state.key[each].doing == Doing::leaving; });
    if (looks_again) {
        settle(state, setting);
    }
}

// A name of the state that is the same for states that behave alike.
std::string name_of(const State& state) {
    const auto place = [&](std::uint64_t Key::*member, const Key& of) {
        return std::count_if(state.key.begin(), state.key.end(),
                             [&](const Key& each) { return each.*member < of.*member; });
    };
    std::ostringstream out;
    for (const Key& key : state.key) {
        out << static_cast<int>(key.doing) << static_cast<int>(key.use) << key.was_loaded << key.is_raised
            << key.follows << ',' << place(&Key::came, key) << ',' << place(&Key::used, key) << ','
            << state.ledger.bytes_of(key.id) << ';';
    }
    out << state.ledger.by_age() << state.ledger.lacks() << state.is_late << state.ledger.limit();
    return out.str();
}

void become(State& state, Key& key, Doing doing, Use use) {
    key.doing = doing;
    key.use = use;
    key.used = ++state.clock;
}

void ask(State& state, const Setting& setting, Index number, bool clears = false) {
    Key& key = state.key[number];
    const std::size_t used = key.was_loaded ? setting.used[number] : 0;
    key.doing = Doing::waits;
    key.id = state.ledger.reserve({number / 2, number}, std::max(setting.need[number], used),
                                  rank_of(state, setting, number), aged_at, clears);
}

// Its memory is given back. Who still waits for it asks again.
void go(State& state, const Setting& setting, Index number) {
    Key& key = state.key[number];
    state.ledger.give_back(key.id);
    const Key old = key;
    forget(key);
    if (old.doing == Doing::leaving && old.use != Use::used) {
        key.came = old.came;
        key.is_raised = old.is_raised;
        ask(state, setting, number);
    }
}

constexpr unsigned events_of_key = 10;

unsigned events_of(const Setting& setting) { return static_cast<unsigned>(setting.keys) * events_of_key + 3; }

// Whether the event brings what there is nearer to its end: a load or an unload ends, or a lease, or it gets later.
bool is_progress(const State& state, const Setting& setting, unsigned event) {
    if (event >= setting.keys * events_of_key) {
        return event == setting.keys * events_of_key;
    }
    const Doing doing = state.key[event / events_of_key].doing;
    const unsigned what = event % events_of_key;
    return what == 2 || what == 3 || (what == 1 && (doing == Doing::leaving || doing == Doing::loads));
}

// Lets event number `event` happen; false if it cannot.
bool happen(State& state, const Setting& setting, unsigned event) {
    const unsigned of_keys = static_cast<unsigned>(setting.keys) * events_of_key;
    if (event == of_keys) {
        return !std::exchange(state.is_late, true);
    }
    if (event > of_keys) {
        const std::size_t limit = event == of_keys + 1 ? setting.limit - 1 : setting.limit;
        if (!setting.changes_limit || state.ledger.limit() == limit) {
            return false;
        }
        state.was_lowered = true;
        state.ledger.set_limit(limit);
        for (Key& each : state.key) {
            each.was_loaded = false;
        }
        return true;
    }
    const auto number = static_cast<Index>(event / events_of_key);
    Key& key = state.key[number];
    const bool is_used = key.doing == Doing::in_use || key.doing == Doing::stays;
    switch (event % events_of_key) {
        case 0:
            if (key.doing != Doing::nothing) {
                return false;
            }
            key.came = ++state.clock;
            ask(state, setting, number);
            return true;
        case 1:
            // Its waiters leave, or its load fails, or it goes for another reason.
            if (key.doing == Doing::nothing) {
                return false;
            }
            if (key.doing == Doing::waits || key.doing == Doing::loads || key.doing == Doing::leaving) {
                go(state, setting, number);
            } else {
                key.doing = Doing::leaving;
            }
            return true;
        case 2:
            if (key.doing != Doing::loads) {
                return false;
            }
            state.ledger.use(key.id, setting.used[number]);
            key.was_loaded = setting.used[number] > setting.need[number];
            become(state, key, state.is_late ? Doing::in_use : Doing::stays, key.use);
            return true;
        case 3:
            // Its leases end, and its waiter gets one.
            if (key.doing == Doing::draining) {
                key.doing = Doing::leaving;
                return true;
            }
            if (!is_used && key.doing != Doing::leased) {
                return false;
            }
            become(state, key, key.use == Use::used ? Doing::idle : key.doing, Use::used);
            return true;
        case 4:
            if (key.doing != Doing::idle && key.doing != Doing::pinned && key.doing != Doing::leased) {
                return false;
            }
            become(state, key, Doing::in_use, Use::used);
            return true;
        case 5:
            if (key.doing != Doing::idle && key.doing != Doing::in_use) {
                return false;
            }
            become(state, key, Doing::leased, Use::used);
            return true;
        case 6:
            if (key.doing != Doing::idle && key.doing != Doing::in_use) {
                return false;
            }
            become(state, key, Doing::pinned, Use::used);
            return true;
        case 7:
            // Its load ran out of memory, and is to be tried again once idle residents are gone.
            if (key.doing != Doing::loads) {
                return false;
            }
            state.ledger.give_back(key.id);
            forget(key);
            key.came = ++state.clock;
            ask(state, setting, number, true);
            key.follows = state.clears = true;
            return true;
        case 8:
            if (key.doing != Doing::waits || setting.level[number] == 0 || key.is_raised) {
                return false;
            }
            // A waiter of higher priority has come.
            key.is_raised = true;
            state.ledger.move(key.id, rank_of(state, setting, number), aged_at);
            return true;
        default:
            // A waiter comes to what is in use; or the one of an unused resident leaves.
            if (!setting.awaits || (!is_used && key.doing != Doing::draining) || key.use == Use::awaited) {
                return false;
            }
            if (key.use == Use::unused) {
                become(state, key, Doing::idle, Use::used);
            } else {
                key.use = Use::awaited;
                key.came = ++state.clock;
            }
            return true;
    }
}

// Where loads have finished and leases have ended, and nothing new comes.
void look_at_end(State state, const Setting& setting) {
    demand(state.ledger.waiting() == 0, "a key waits, and nothing happens any more");
    for (Index number = 0; number < setting.keys; ++number) {
        if (state.key[number].doing != Doing::nothing) {
            go(state, setting, number);
        }
    }
    demand(state.ledger.reserved() == 0, "memory stays reserved for nothing");
}

using StateId = std::uint32_t;

// From each state that comes to an end in any case those before it are taken away: what is left goes in a circle, or
// leads there only.
void look_at_circles(const std::vector<std::pair<StateId, StateId>>& steps, const std::vector<std::string>& names) {
    std::vector<StateId> ways(names.size());
    std::vector<std::size_t> first(names.size() + 1);
    for (const auto& [from, to] : steps) {
        ++ways[from];
        ++first[to + 1];
    }
    for (std::size_t id = 1; id < first.size(); ++id) {
        first[id] += first[id - 1];
    }
    std::vector<StateId> before(steps.size());
    std::vector<std::size_t> next(first.begin(), first.end() - 1);
    for (const auto& [from, to] : steps) {
        before[next[to]++] = from;
    }
    std::vector<StateId> ended;
    for (StateId id = 0; id < names.size(); ++id) {
        if (ways[id] == 0) {
            ended.push_back(id);
        }
    }
    for (std::size_t done = 0; done < ended.size(); ++done) {
        const StateId id = ended[done];
        for (std::size_t place = first[id]; place < first[id + 1]; ++place) {
            if (--ways[before[place]] == 0) {
                ended.push_back(before[place]);
            }
        }
    }
    if (ended.size() != names.size()) {
        const auto open = std::find_if(ways.begin(), ways.end(), [](StateId count) { return count != 0; });
        violated("it never ends; from " + names[static_cast<std::size_t>(open - ways.begin())]);
    }
}

std::size_t explore(const Setting& setting) {
    std::unordered_map<std::string, StateId> seen;
    std::vector<std::string> names;
    std::vector<std::pair<StateId, StateId>> steps;
    std::deque<State> open;
    const auto number_of = [&](const State& state) {
        const auto [found, is_new] = seen.emplace(name_of(state), static_cast<StateId>(names.size()));
        if (is_new) {
            names.push_back(found->first);
            open.push_back(state);
        }
        return found->second;
    };
    number_of(State(setting));
    for (StateId id = 0; !open.empty(); ++id) {
        const State state = std::move(open.front());
        open.pop_front();
        bool may_progress = false;
        for (unsigned event = 0; event < events_of(setting); ++event) {
            State next = state;
            try {
                if (!happen(next, setting, event)) {
                    continue;
                }
                settle(next, setting);
            } catch (const std::exception& error) {
                violated(std::string(error.what()) + "; state " + names[id] + ", event " + std::to_string(event));
            }
            const StateId found = number_of(next);
            if (is_progress(state, setting, event)) {
                may_progress = true;
                steps.emplace_back(id, found);
            }
        }
        if (!may_progress) {
            try {
                look_at_end(state, setting);
            } catch (const std::exception& error) {
                violated(std::string(error.what()) + "; at the end of " + names[id]);
            }
        }
    }
    look_at_circles(steps, names);
    return names.size();
}

constexpr Sizes ones{1, 1, 1, 1};
constexpr Sizes mixed{1, 2, 1, 2};
constexpr Sizes large{1, 3, 2, 2};
constexpr Sizes more{1, 2, 2, 2};
constexpr Levels equal{1, 1, 1, 1};
constexpr Levels ranked{1, 2, 0, 1};

// The first three are the small dose.
constexpr std::array settings{
    Setting{.limit = 2, .need = mixed, .used = mixed, .level = ranked},
    Setting{.limit = 2, .need = large, .used = large, .level = equal},
    Setting{.limit = 3, .need = more, .used = more, .level = ranked, .keys = 3, .awaits = true},
    Setting{.limit = 2, .need = ones, .used = ones, .level = equal},
    Setting{.limit = 2, .need = mixed, .used = mixed, .level = equal},
    Setting{.limit = 3, .need = mixed, .used = mixed, .level = equal},
    Setting{.limit = 3, .need = large, .used = large, .level = ranked},
    Setting{.limit = 3, .need = mixed, .used = more, .level = equal},
    Setting{.limit = 3, .need = mixed, .used = mixed, .level = equal, .changes_limit = true},
    Setting{.limit = 3, .need = mixed, .used = more, .level = ranked, .keys = 3, .awaits = true},
    Setting{.limit = 3, .need = more, .used = more, .level = ranked, .awaits = true},
    Setting{.limit = 2, .need = mixed, .used = mixed, .level = ranked, .awaits = true},
};
constexpr std::size_t small_dose = 3;

}  // namespace

int main(int argc, char** argv) {
    const bool is_small = argc == 2 && std::string_view(argv[1]) == "--small";
    if (argc > 1 && !is_small) {
        std::cerr << "Usage: ledger_explorer [--small]\n\nGoes through every state of a memory budget with up to "
                  << most_keys << " keys, in " << settings.size() << " settings; --small: in the first " << small_dose
                  << ".\n";
        return 2;
    }
    try {
        std::size_t number = 0;
        for (const Setting& setting : settings) {
            if (is_small && number == small_dose) {
                break;
            }
            std::cout << "setting " << ++number << ": " << explore(setting) << " states" << std::endl;
        }
    } catch (const std::exception& error) {
        std::cerr << "violated: " << error.what() << '\n';
        return 1;
    }
    std::cout << "every promise held\n";
    return 0;
}

// Walks through every state that a MemoryLedger can get into with a few keys, against slots that do anything that they
// may: each key asks, gives up, loads, is used, is pinned, is leased, goes, in every order. After each message it is
// looked at whether what the ledger promises holds, and from each state whether everything is served or refused once
// loads finish and leases end.

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

constexpr std::size_t keys = 4;
constexpr Time aged_at{50};
constexpr Time later_time{100};

// What a key does.
enum class Doing : std::uint8_t { nothing, waits, loads, idle, stays, in_use, leased, pinned, draining, leaving };

struct Setting {
    std::size_t limit;
    std::array<std::size_t, keys> need;
    // What each turns out to need once it is loaded.
    std::array<std::size_t, keys> used;
    std::array<unsigned, keys> level;
    bool changes_limit;
};

struct Key {
    Doing doing = Doing::nothing;
    MemoryId id{};
    // Whether its best waiter is of the highest priority although its setting says otherwise.
    bool is_raised = false;
    // Whether it waits until what leaves is gone.
    bool follows = false;
    // Its turn among all that came, and among all that were used.
    std::uint64_t came = 0;
    std::uint64_t used = 0;
};

struct State {
    explicit State(const Setting& setting) : ledger(setting.limit) {}
    MemoryLedger ledger;
    std::array<Key, keys> key{};
    std::uint64_t clock = 0;
    bool is_late = false;
    // Whether the latest message had all idle residents go.
    bool clears = false;
    bool was_lowered = false;

    [[nodiscard]] Time now() const { return is_late ? later_time : Time{0}; }
};

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

std::vector<MemoryUse> uses_of(const State& state) {
    std::vector<MemoryUse> uses;
    for (const Key& key : state.key) {
        if (holds_memory(key.doing)) {
            MemoryUse use;
            use.id = key.id;
            use.hold = hold_of(key.doing);
            use.idle_since = Time(key.doing == Doing::idle ? static_cast<Time::rep>(key.used) : 0);
            use.granted = key.used;
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
    for (Index number = 0; number < keys; ++number) {
        if (state.key[number].doing == Doing::waits) {
            all.push_back(number);
        }
    }
    const auto rank = [&](Index number) {
        const Key& key = state.key[number];
        return std::pair(key.is_raised ? 0 : setting.level[number], key.came);
    };
    std::sort(all.begin(), all.end(), [&](Index one, Index other) { return rank(one) < rank(other); });
    return all;
}

// Whether a key could be served if all went that can.
bool could_be(const State& state, Index number) {
    return sum_of(state, {Doing::pinned, Doing::leased}) + state.ledger.bytes_of(state.key[number].id) <=
           state.ledger.limit();
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
        by_age = !by_age || !is_oldest;
        open.erase(std::find(open.begin(), open.end(), served));
    }
    demand(answers.empty() || by_age == state.ledger.by_age(), "whose turn it is, is not what it should be");
    for (const Index number : wait) {
        const bool follows = state.key[number].follows && sum_of(state, {Doing::leaving}) != 0;
        if (!follows && state.ledger.reserved() + state.ledger.bytes_of(state.key[number].id) <= state.ledger.limit()) {
            demand(std::any_of(wait.begin(), wait.end(),
                               [&](Index other) { return other != number && could_be(state, other); }),
                   "a key fits that nothing is kept from, and is not served");
        }
    }
}

// H36: what goes, and that all of it is needed.
void look_at_room(const State& state, const Setting& setting, const MemoryAnswers& answers) {
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
    // The least recently used go first: of several not each is needed, but one is.
    demand(draining == 0 || (leader != wait.end() && going >= lacking), "drains what is not enough for anything");
    // What is more than the limit goes as soon as it is idle, whatever drains beside it.
    const bool is_over = state.ledger.reserved() > state.ledger.limit();
    demand(draining == 0 || is_over ||
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
        demand(draining == 0, "drains although that is not enough");
    }
}

// Settles, delivers the answers as a slot does, and looks whether they were right.
void settle(State& state, const Setting& setting) {
    const MemoryLedger before = state.ledger;
    MemoryAnswers answers;
    const std::size_t room = state.ledger.most_answers();
    const bool lacked = state.ledger.lacks();
    state.ledger.settle(state.now(), lacked ? uses_of(state) : std::vector<MemoryUse>(), answers);
    demand(answers.size() <= room, "more answers than there was room for");
    std::size_t evicted = 0;
    for (const MemoryAnswer& answer : answers) {
        Key& key = state.key[answer.owner.key];
        demand(key.id == answer.id, "an answer about another key");
        switch (answer.verdict) {
            case MemoryVerdict::reserved:
                demand(key.doing == Doing::waits, "reserved for a key that does not wait");
                key.doing = Doing::loads;
                key.follows = false;
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
                key = {};
                break;
            }
            case MemoryVerdict::evict:
                ++evicted;
                demand(key.doing == Doing::idle || key.doing == Doing::in_use || key.doing == Doing::stays,
                       "evicts what cannot go");
                demand(key.doing != Doing::stays || state.is_late, "evicts what keeps its place");
                key.doing = key.doing == Doing::idle ? Doing::leaving : Doing::draining;
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
    look_at_room(state, setting, answers);
    state.clears = false;
}

// A name of the state that is the same for states that behave alike.
std::string name_of(const State& state) {
    const auto place = [&](std::uint64_t Key::*member, const Key& of) {
        return std::count_if(state.key.begin(), state.key.end(),
                             [&](const Key& each) { return each.*member < of.*member; });
    };
    std::ostringstream out;
    for (const Key& key : state.key) {
        out << static_cast<int>(key.doing) << key.is_raised << key.follows << ',' << place(&Key::came, key) << ','
            << place(&Key::used, key) << ',' << state.ledger.bytes_of(key.id) << ';';
    }
    out << state.ledger.by_age() << state.ledger.lacks() << state.is_late << state.ledger.limit();
    return out.str();
}

void become(State& state, Key& key, Doing doing) {
    key.doing = doing;
    key.used = ++state.clock;
}

void go(State& state, Key& key) {
    state.ledger.give_back(key.id);
    key = {};
}

constexpr unsigned events_of_key = 9;
constexpr unsigned all_events = events_of_key * keys + 3;

// Lets event number `event` happen; false if it cannot.
bool happen(State& state, const Setting& setting, unsigned event) {
    if (event == events_of_key * keys) {
        return !std::exchange(state.is_late, true);
    }
    if (event > events_of_key * keys) {
        const std::size_t limit = event == events_of_key * keys + 1 ? setting.limit - 1 : setting.limit;
        if (!setting.changes_limit || state.ledger.limit() == limit) {
            return false;
        }
        state.was_lowered = true;
        state.ledger.set_limit(limit);
        return true;
    }
    const auto number = static_cast<Index>(event / events_of_key);
    Key& key = state.key[number];
    switch (event % events_of_key) {
        case 0:
            if (key.doing != Doing::nothing) {
                return false;
            }
            key.came = ++state.clock;
            key.id = state.ledger.reserve({number / 2, number}, setting.need[number],
                                          {setting.level[number], Time(static_cast<Time::rep>(key.came))}, aged_at);
            key.doing = Doing::waits;
            return true;
        case 1:
            // Its waiters leave, or its load fails, or it goes for another reason.
            if (key.doing == Doing::nothing) {
                return false;
            }
            if (key.doing == Doing::waits || key.doing == Doing::loads || key.doing == Doing::leaving) {
                go(state, key);
            } else {
                key.doing = Doing::leaving;
            }
            return true;
        case 2:
            if (key.doing != Doing::loads) {
                return false;
            }
            state.ledger.use(key.id, setting.used[number]);
            become(state, key, state.is_late ? Doing::in_use : Doing::stays);
            return true;
        case 3:
            if (key.doing == Doing::draining) {
                key.doing = Doing::leaving;
                return true;
            }
            if (key.doing != Doing::in_use && key.doing != Doing::stays && key.doing != Doing::leased) {
                return false;
            }
            become(state, key, Doing::idle);
            return true;
        case 4:
            if (key.doing != Doing::idle && key.doing != Doing::pinned && key.doing != Doing::leased) {
                return false;
            }
            become(state, key, Doing::in_use);
            return true;
        case 5:
            if (key.doing != Doing::idle && key.doing != Doing::in_use) {
                return false;
            }
            become(state, key, Doing::leased);
            return true;
        case 6:
            if (key.doing != Doing::idle && key.doing != Doing::in_use) {
                return false;
            }
            become(state, key, Doing::pinned);
            return true;
        case 7:
            // Its load ran out of memory, and is to be tried again once idle residents are gone.
            if (key.doing != Doing::loads) {
                return false;
            }
            state.ledger.give_back(key.id);
            key = {};
            key.came = ++state.clock;
            key.id =
                state.ledger.reserve({number / 2, number}, setting.need[number],
                                     {setting.level[number], Time(static_cast<Time::rep>(key.came))}, aged_at, true);
            key.doing = Doing::waits;
            key.follows = state.clears = true;
            return true;
        default:
            if (key.doing != Doing::waits || setting.level[number] == 0 || key.is_raised) {
                return false;
            }
            // A waiter of higher priority has come.
            key.is_raised = true;
            state.ledger.move(key.id, {0, Time(static_cast<Time::rep>(key.came))}, aged_at);
            return true;
    }
}

// From here on loads finish and leases end, and nothing new comes.
void finish(State state, const Setting& setting) {
    state.is_late = true;
    for (int round = 0; round < 100; ++round) {
        bool is_quiet = true;
        settle(state, setting);
        for (std::size_t number = 0; number < keys; ++number) {
            Key& key = state.key[number];
            if (key.doing == Doing::leaving) {
                go(state, key);
            } else if (key.doing == Doing::loads) {
                state.ledger.use(key.id, setting.used[number]);
                become(state, key, Doing::in_use);
            } else if (key.doing == Doing::draining) {
                key.doing = Doing::leaving;
            } else if (key.doing == Doing::in_use || key.doing == Doing::stays || key.doing == Doing::leased) {
                become(state, key, Doing::idle);
            } else {
                continue;
            }
            is_quiet = false;
            settle(state, setting);
        }
        if (is_quiet) {
            demand(state.ledger.waiting() == 0, "a key waits, and nothing happens any more");
            for (Key& key : state.key) {
                if (key.doing != Doing::nothing) {
                    go(state, key);
                }
            }
            demand(state.ledger.reserved() == 0, "memory stays reserved for nothing");
            return;
        }
    }
    violated("it never ends");
}

std::size_t explore(const Setting& setting) {
    std::unordered_map<std::string, bool> seen;
    std::deque<State> open;
    const State first(setting);
    seen.emplace(name_of(first), true);
    open.push_back(first);
    while (!open.empty()) {
        const State state = std::move(open.front());
        open.pop_front();
        try {
            finish(state, setting);
        } catch (const std::exception& error) {
            violated(std::string(error.what()) + "; at the end of " + name_of(state));
        }
        for (unsigned event = 0; event < all_events; ++event) {
            State next = state;
            try {
                if (!happen(next, setting, event)) {
                    continue;
                }
                settle(next, setting);
            } catch (const std::exception& error) {
                violated(std::string(error.what()) + "; state " + name_of(state) + ", event " + std::to_string(event));
            }
            if (seen.emplace(name_of(next), true).second) {
                open.push_back(std::move(next));
            }
        }
    }
    return seen.size();
}

constexpr std::array<std::size_t, keys> ones{1, 1, 1, 1};
constexpr std::array<std::size_t, keys> mixed{1, 2, 1, 2};
constexpr std::array<std::size_t, keys> large{1, 3, 2, 2};
constexpr std::array<std::size_t, keys> more{1, 2, 2, 2};
constexpr std::array<unsigned, keys> equal{1, 1, 1, 1};
constexpr std::array<unsigned, keys> ranked{1, 2, 0, 1};

// The first two are the small dose.
constexpr std::array settings{
    Setting{2, mixed, mixed, ranked, false}, Setting{2, large, large, equal, false},
    Setting{2, ones, ones, equal, false},    Setting{2, mixed, mixed, equal, false},
    Setting{3, mixed, mixed, equal, false},  Setting{3, large, large, ranked, false},
    Setting{3, mixed, more, equal, false},   Setting{3, mixed, mixed, equal, true},
};

}  // namespace

int main(int argc, char** argv) {
    const bool is_small = argc == 2 && std::string_view(argv[1]) == "--small";
    if (argc > 1 && !is_small) {
        std::cerr << "Usage: ledger_explorer [--small]\n\nGoes through every state of a memory budget with " << keys
                  << " keys, in " << settings.size() << " settings; --small: in the first two.\n";
        return 2;
    }
    try {
        std::size_t number = 0;
        for (const Setting& setting : settings) {
            if (is_small && number == 2) {
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

// Walks through every state that a SlotScheduler with a memory budget can get into within some bounds, against a budget
// that answers anything that the messages between the two allow (H33), in every order: memory that is there at once,
// later or never, residents that are wanted back and left again, limits. After each step
// support/memory_invariants.hpp looks whether what the slot promises holds, and at the end whether each state comes to
// an end once loads finish, leases end, and the budget gives what was asked for, in whichever order.

#include "support/canonical.hpp"
#include "support/memory_invariants.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

using StateId = std::uint32_t;
constexpr StateId no_state = ~StateId{0};

struct Kind {
    bool wants_lease = true;
    bool is_call = true;
    Priority priority = Priority::normal;
};

struct Bounds {
    std::string_view name;
    std::vector<Kind> kinds;
    std::size_t keys = 2;
    std::size_t max_resident = 2;
    std::size_t max_leases = 1;
    std::size_t max_loads = 2;
    std::size_t max_queue = 2;
    bool backend_sizes = true;
    std::vector<std::size_t> sizes{1, 2};
    // What a model may say that it uses; zero: nothing.
    std::vector<std::size_t> used{0};
    // The limit at first is the last of them.
    std::vector<std::size_t> limits{2};
    bool loads_fail = false;
    bool watches = false;
    bool unloads = false;
    bool closes = false;
};

const Kind call{};
const Kind high{.priority = Priority::high};
const Kind bare{.is_call = false};
const Kind load{.wants_lease = false, .is_call = false};

// The first two are the small dose.
const std::vector<Bounds> all_bounds{
    {.name = "one key",
     .kinds = {call, bare},
     .keys = 1,
     .max_queue = 1,
     .used = {0, 3},
     .limits = {1, 2},
     .loads_fail = true,
     .unloads = true,
     .closes = true},
    {.name = "two keys, one place", .kinds = {call}, .max_resident = 1, .watches = true, .closes = true},
    {.name = "one key, two waiters",
     .kinds = {call, bare, load},
     .keys = 1,
     .used = {0, 1, 3},
     .limits = {1, 2},
     .loads_fail = true,
     .watches = true,
     .unloads = true,
     .closes = true},
    {.name = "two keys, one place, bare leases", .kinds = {call, bare}, .max_resident = 1, .watches = true},
    {.name = "two keys, two places, limits", .kinds = {call}, .limits = {1, 2}},
    {.name = "failures, one load at a time", .kinds = {call}, .max_loads = 1, .sizes = {1}, .loads_fail = true},
    {.name = "two leases", .kinds = {call, bare}, .max_leases = 2, .sizes = {1}},
    {.name = "models that use more", .kinds = {call}, .max_resident = 1, .used = {0, 2}, .limits = {1, 2}},
    {.name = "priorities", .kinds = {call, high}, .sizes = {1}, .unloads = true},
    {.name = "sizes of the slot's own", .kinds = {call, load}, .backend_sizes = false, .limits = {0, 1}},
    {.name = "three keys, two places", .kinds = {call}, .keys = 3, .sizes = {1}},
};
constexpr std::size_t small_dose = 2;

enum class What : std::uint8_t {
    request,
    release,
    cancel,
    sized,
    load_begins,
    loaded,
    load_failed,
    unloaded,
    reserved,
    lacking,
    impossible,
    evict,
    keep,
    available,
    set_limit,
    watch,
    unload,
    close,
};
constexpr std::array<std::string_view, 18> names_of_events{"request",
                                                           "release",
                                                           "cancel",
                                                           "sized",
                                                           "load begins",
                                                           "loaded",
                                                           "load failed",
                                                           "unloaded",
                                                           "memory reserved",
                                                           "memory lacking",
                                                           "memory impossible",
                                                           "evict",
                                                           "keep",
                                                           "memory available",
                                                           "set limit",
                                                           "watch",
                                                           "unload",
                                                           "close"};

struct Event {
    What what = What::close;
    std::size_t subject = 0;
    std::size_t how = 0;
};

class Explorer {
public:
    explicit Explorer(const Bounds& bounds) : bounds_(bounds) {
        for (std::size_t key = 0; key < bounds.keys; ++key) {
            names_.emplace_back(std::string(1, static_cast<char>('a' + key)));
        }
        // Every key is asked for in the same ways: states that differ in the names of keys alone are one.
        std::vector<ModelKey> names = names_;
        writers_.emplace_back();
        while (std::next_permutation(names.begin(), names.end())) {
            permutations_.push_back(names);
            writers_.emplace_back().rename(names_, permutations_.back());
        }
    }

    std::size_t run() {
        SlotOptions options;
        options.max_resident = bounds_.max_resident;
        options.max_leases = bounds_.max_leases;
        options.max_loads = bounds_.max_loads;
        options.max_queue = bounds_.max_queue;
        options.max_calls = 1;
        options.keep_alive = keep_alive_longest;
        options.cooldown = options.max_cooldown = 0ms;
        options.aging = options.min_stay.emplace(0ms);
        options.abandon_after = 0ms;
        options.model_memory = 1;
        add(CheckedBudget(options, bounds_.limits.back(), bounds_.backend_sizes, names_), no_state, {});
        for (StateId id = 0; !open_.empty(); ++id) {
            const CheckedBudget state = std::move(open_.front());
            open_.pop_front();
            look(state, id);
            look_at_late_answers(state, id);
        }
        look_at_circles();
        compare_ways();
        return ways_.size();
    }

    // How a state was found, for a person.
    [[nodiscard]] std::string story_of(StateId id) const {
        std::string story;
        for (; ways_[id].first != no_state; id = ways_[id].first) {
            const Event& event = ways_[id].second;
            story = "  " + std::string(names_of_events[static_cast<std::size_t>(event.what)]) + ' ' +
                    std::to_string(event.subject) + ' ' + std::to_string(event.how) + '\n' + story;
        }
        return story;
    }

    [[nodiscard]] std::size_t happened(What what) const { return happened_[static_cast<std::size_t>(what)]; }

private:
    static constexpr std::size_t compare_one_in = 1'000;
    // Not for ever: what is kept for ever is pinned.
    static constexpr std::chrono::milliseconds keep_alive_longest{std::chrono::hours(1)};

    [[noreturn]] void violated(const std::string& promise, StateId id) const {
        throw std::logic_error(promise + "; in the end of\n" + story_of(id));
    }

    // Most words are small.
    [[nodiscard]] std::string packed() const {
        std::string name;
        for (const std::uint64_t word : words_) {
            if (word < 0xff) {
                name.push_back(static_cast<char>(word));
            } else {
                name.push_back(static_cast<char>(0xff));
                name.append(reinterpret_cast<const char*>(&word), sizeof word);
            }
        }
        return name;
    }

    [[nodiscard]] std::string name_of(const CheckedBudget& world) {
        std::string name;
        for (CanonicalWriter& writer : writers_) {
            words_.clear();
            writer.write(world.scheduler(), world.now(), false, words_);
            std::string other = packed();
            if (name.empty() || other < name) {
                name.swap(other);
            }
        }
        // With one key it is known what an answer is about that is still on its way.
        if (bounds_.keys == 1 && !world.stale().empty() && world.stale().back().by_key) {
            name.push_back('+');
        }
        return name;
    }

    StateId add(CheckedBudget&& world, StateId from, const Event& event) {
        const auto [found, is_new] = seen_.emplace(name_of(world), static_cast<StateId>(ways_.size()));
        if (is_new) {
            ways_.emplace_back(from, event);
            open_.push_back(std::move(world));
        } else if (++found_again_ % compare_one_in == 0) {
            others_.emplace_back(found->second, futures_of(world));
        }
        return found->second;
    }

    // The states that come next. Two ways to what counts as one state must have the same: if not, something that counts
    // is missing in its name.
    [[nodiscard]] std::vector<std::string> futures_of(const CheckedBudget& world) {
        std::vector<std::string> all;
        for_each_event(world, [&](const Event& event) {
            CheckedBudget next = world;
            carry_out(next, event);
            all.push_back(name_of(next));
        });
        std::sort(all.begin(), all.end());
        all.erase(std::unique(all.begin(), all.end()), all.end());
        return all;
    }

    void compare_ways() {
        std::unordered_map<StateId, std::vector<StateId>> next;
        for (const auto& [from, to] : all_steps_) {
            next[from].push_back(to);
        }
        for (const auto& [id, futures] : others_) {
            std::vector<StateId> found;
            for (const std::string& each : futures) {
                found.push_back(seen_.at(each));
            }
            std::sort(found.begin(), found.end());
            std::vector<StateId>& known = next[id];
            std::sort(known.begin(), known.end());
            known.erase(std::unique(known.begin(), known.end()), known.end());
            if (found != known) {
                violated("the same canonical state has one future", id);
            }
        }
    }

    void look(const CheckedBudget& state, StateId id) {
        bool may_progress = false;
        for_each_event(state, [&](const Event& event) {
            CheckedBudget next = state;
            StateId found = no_state;
            try {
                carry_out(next, event);
                ++happened_[static_cast<std::size_t>(event.what)];
                found = add(std::move(next), id, event);
            } catch (const Violation& violation) {
                violated(violation.what() + std::string("; at ") +
                             std::string(names_of_events[static_cast<std::size_t>(event.what)]) + ' ' +
                             std::to_string(event.subject) + ' ' + std::to_string(event.how),
                         id);
            }
            all_steps_.emplace_back(id, found);
            if (is_progress(event)) {
                may_progress = true;
                steps_.emplace_back(id, found);
            }
        });
        if (!may_progress) {
            try {
                look_at_end(state);
            } catch (const Violation& violation) {
                violated(violation.what(), id);
            }
        }
    }

    // Nothing ends any more: nothing waits, and after a shutdown nothing is left.
    void look_at_end(CheckedBudget state) const {
        if (!state.waiters().empty()) {
            throw Violation("R9 if loads finish and leases end, every waiter completes");
        }
        state.close();
        for (std::size_t step = 0; !state.unloading().empty(); ++step) {
            state.unloaded(0);
        }
        state.check_end();
    }

    // An answer about memory that was given back changes nothing, whatever it says.
    void look_at_late_answers(const CheckedBudget& state, StateId id) {
        for (std::size_t index = 0; index < state.stale().size(); ++index) {
            for (const bool is_good : {false, true}) {
                CheckedBudget next = state;
                try {
                    next.answer_late(index, is_good);
                } catch (const Violation& violation) {
                    violated(violation.what(), id);
                }
                if (add(std::move(next), id, {}) != id) {
                    violated("H33 an answer about memory that was given back is ignored", id);
                }
            }
        }
    }

    // From each state that comes to an end in any case those before it are taken away: what is left goes in a circle,
    // or leads there only.
    void look_at_circles() const {
        std::vector<StateId> open(ways_.size());
        std::vector<std::vector<StateId>> before(ways_.size());
        for (const auto& [from, to] : steps_) {
            ++open[from];
            before[to].push_back(from);
        }
        std::vector<StateId> ended;
        for (StateId id = 0; id < ways_.size(); ++id) {
            if (open[id] == 0) {
                ended.push_back(id);
            }
        }
        for (std::size_t done = 0; done < ended.size(); ++done) {
            for (const StateId each : before[ended[done]]) {
                if (--open[each] == 0) {
                    ended.push_back(each);
                }
            }
        }
        const auto left = std::find_if(open.begin(), open.end(), [](StateId count) { return count != 0; });
        if (left != open.end()) {
            violated("if loads finish and leases end, that comes to an end", static_cast<StateId>(left - open.begin()));
        }
    }

    // What brings it nearer to its end.
    static bool is_progress(const Event& event) {
        switch (event.what) {
            case What::release:
            case What::load_begins:
            case What::loaded:
            case What::load_failed:
            case What::unloaded:
            case What::reserved:
            case What::impossible:
            case What::available: return true;
            // One that is zero is a failure.
            case What::sized: return true;
            default: return false;
        }
    }

    template <class Visit>
    void for_each_event(const CheckedBudget& world, Visit visit) const {
        const auto each = [&](What what, std::size_t count, std::size_t ways = 1) {
            for (std::size_t subject = 0; subject < count; ++subject) {
                for (std::size_t how = 0; how < ways; ++how) {
                    visit(Event{what, subject, how});
                }
            }
        };
        if (world.waiters().size() < bounds_.max_queue && !world.scheduler().closed()) {
            each(What::request, bounds_.keys, bounds_.kinds.size());
        }
        each(What::release, world.leases().size());
        each(What::cancel, world.waiters().size());
        each(What::sized, world.sizing().size(), bounds_.sizes.size() + (bounds_.loads_fail ? 1 : 0));
        each(What::load_begins, world.loads().size());
        each(What::loaded, world.loading().size(), bounds_.used.size());
        each(What::load_failed, world.loading().size(), bounds_.loads_fail ? 2 : 0);
        each(What::unloaded, world.unloading().size());
        const std::size_t asked = world.held(HoldingState::asked).size();
        const std::size_t lacking = world.held(HoldingState::lacking).size();
        const std::size_t reserved = world.held(HoldingState::reserved).size();
        each(What::reserved, asked + lacking);
        each(What::impossible, asked + lacking);
        each(What::lacking, asked);
        each(What::evict, reserved);
        each(What::keep, reserved);
        each(What::available, world.asks_for_available() ? 1 : 0, bounds_.limits.back() + 1);
        if (bounds_.limits.size() > 1) {
            each(What::set_limit, 1, bounds_.limits.size());
        }
        if (bounds_.watches) {
            each(What::watch, 1, 2);
        }
        if (bounds_.unloads && world.scheduler().teardowns().size() == 0) {
            each(What::unload, bounds_.keys);
        }
        if (bounds_.closes && !world.scheduler().closed()) {
            each(What::close, 1);
        }
    }

    void carry_out(CheckedBudget& world, const Event& event) const {
        switch (event.what) {
            case What::request: {
                const Kind& kind = bounds_.kinds[event.how];
                core::RequestSpec spec;
                spec.wants_lease = kind.wants_lease;
                spec.is_inference = kind.is_call;
                spec.texts = kind.is_call ? 1 : 0;
                spec.priority = kind.priority;
                world.request(event.subject, spec);
                break;
            }
            case What::release: world.release(event.subject); break;
            case What::cancel: world.cancel(event.subject); break;
            case What::sized:
                world.sized(event.subject, event.how < bounds_.sizes.size() ? bounds_.sizes[event.how] : 0);
                break;
            case What::load_begins: world.load_begins(event.subject); break;
            case What::loaded: world.loaded(event.subject, bounds_.max_leases, bounds_.used[event.how]); break;
            case What::load_failed: world.load_failed(event.subject, event.how != 0); break;
            case What::unloaded: world.unloaded(event.subject); break;
            case What::reserved: answer(world, event.subject, core::MemoryVerdict::reserved); break;
            case What::impossible: answer(world, event.subject, core::MemoryVerdict::impossible); break;
            case What::lacking: answer(world, event.subject, core::MemoryVerdict::lacking); break;
            case What::evict:
                world.answer(world.held(HoldingState::reserved)[event.subject], core::MemoryVerdict::evict);
                break;
            case What::keep:
                world.answer(world.held(HoldingState::reserved)[event.subject], core::MemoryVerdict::keep);
                break;
            case What::available: world.available(event.how); break;
            case What::set_limit: world.set_limit(bounds_.limits[event.how]); break;
            case What::watch: world.watch(event.how != 0); break;
            case What::unload: world.unload(&names_[event.subject], UnloadMode::drain); break;
            case What::close: world.close(); break;
        }
        if (world.scheduler().unfinished()) {
            world.tick();
        }
        world.read();
    }

    // Those that were asked come first.
    static void answer(CheckedBudget& world, std::size_t subject, core::MemoryVerdict verdict) {
        std::vector<core::MemoryId> all = world.held(HoldingState::asked);
        const std::vector<core::MemoryId> lacking = world.held(HoldingState::lacking);
        all.insert(all.end(), lacking.begin(), lacking.end());
        world.answer(all[subject], verdict);
    }

    const Bounds bounds_;
    std::vector<ModelKey> names_{};
    std::deque<std::vector<ModelKey>> permutations_{};
    std::vector<CanonicalWriter> writers_{};
    std::vector<std::uint64_t> words_{};
    std::unordered_map<std::string, StateId> seen_{};
    // From which state, by what each was found.
    std::vector<std::pair<StateId, Event>> ways_{};
    std::vector<std::pair<StateId, StateId>> steps_{};
    std::vector<std::pair<StateId, StateId>> all_steps_{};
    // Of some states that were found again: what came next there.
    std::vector<std::pair<StateId, std::vector<std::string>>> others_{};
    std::size_t found_again_ = 0;
    std::deque<CheckedBudget> open_{};
    std::array<std::size_t, names_of_events.size()> happened_{};
};

}  // namespace

int main(int argc, char** argv) {
    const bool is_small = argc == 2 && std::string_view(argv[1]) == "--small";
    if (argc > 1 && !is_small) {
        std::cerr << "Usage: budget_explorer [--small]\n\nGoes through every state of a slot with a memory budget that "
                     "answers anything, within\n"
                  << all_bounds.size() << " bounds; --small: the first " << small_dose << ".\n";
        return 2;
    }
    std::array<std::size_t, names_of_events.size()> happened{};
    try {
        for (std::size_t number = 0; number < (is_small ? small_dose : all_bounds.size()); ++number) {
            Explorer explorer(all_bounds[number]);
            const std::size_t states = explorer.run();
            std::cout << all_bounds[number].name << ": " << states << " states" << std::endl;
            for (std::size_t event = 0; event < happened.size(); ++event) {
                happened[event] += explorer.happened(static_cast<What>(event));
            }
        }
    } catch (const std::exception& error) {
        std::cerr << "violated: " << error.what() << '\n';
        return 1;
    }
    if (const auto never = std::find(happened.begin(), happened.end(), 0U); never != happened.end()) {
        std::cerr << "never happened: " << names_of_events[static_cast<std::size_t>(never - happened.begin())] << '\n';
        return 1;
    }
    std::cout << "every promise held\n";
    return 0;
}

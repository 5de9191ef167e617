#pragma once

#include "stress/black_box.hpp"
#include "stress/calls.hpp"
#include "stress/facts.hpp"
#include "stress/held.hpp"
#include "stress/judge.hpp"
#include "stress/random.hpp"
#include "stress/settings.hpp"
#include "stress/tally.hpp"
#include "stress/witness.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace residency::stress {

class World;

/// Stands for a request's handler: tells when it is destroyed uncalled.
class Ticket {
public:
    Ticket(World& world, RequestFacts& request) : world_(&world), request_(&request) {}
    Ticket(Ticket&& other) noexcept : world_(other.world_), request_(std::exchange(other.request_, nullptr)) {}
    Ticket& operator=(Ticket&&) = delete;
    ~Ticket();

    /// The request, which is now complete; null if it was before.
    [[nodiscard]] RequestFacts* complete() noexcept { return std::exchange(request_, nullptr); }

private:
    World* world_;
    RequestFacts* request_;
};

/// What all who use one manager share.
class World {
public:
    World(BlackBox& box, Tally& all, const Settings& chosen, std::size_t most_requests)
        : settings(chosen),
          tally(all),
          witness(box, most_requests * 2),
          judge(witness, all),
          parked(all),
          requests(most_requests) {
        for (std::size_t index = 0; index < 2; ++index) {
            witness.slots[index].options = settings.slots[index];
            witness.slots[index].least_keep_alive = settings.overrides[index]
                                                        ? std::min(settings.slots[index].keep_alive, least_override)
                                                        : settings.slots[index].keep_alive;
        }
        witness.waits_for_stop = settings.home == Home::owned_threads ||
                                 (settings.home == Home::separate_contexts && settings.end != End::after_context);
        witness.call_back = [this] { call_back(); };
    }

    // -- Requests -----------------------------------------------------------------------------------------------------------------------

    /// A request that is about to be made; null if there were enough. `patient`: it may take as long as it likes.
    RequestFacts* begin(Kind kind, Way way, std::uint32_t slot, bool patient) {
        Random& random = dice();
        const std::uint32_t id = next_.count() - 1;
        if (id >= requests.size()) {
            return nullptr;
        }
        RequestFacts& request = requests[id];
        request.id = id;
        request.kind = kind;
        request.way = way;
        request.slot = slot;
        request.key = random.below(most_keys);
        request.after_shutdown = witness.shut_down.get();
        if (request.wants_model()) {
            ask(request, patient);
        } else if (kind == Kind::unload) {
            request.of_key = !random.once_in(4);
            request.mode = random.coin() ? UnloadMode::drain : UnloadMode::revoke;
            ModelFacts* const resident = witness.slots[slot].keys[request.key].latest.get();
            request.before = request.of_key ? resident : nullptr;
            if (request.mode == UnloadMode::revoke) {
                witness.slots[slot].revokes.count();
            }
        } else {
            if (random.coin()) {
                request.deadline = std::chrono::milliseconds(random.below(4));
            }
            witness.box.note(Note::shutdown_begun, 0, most_keys, id);
            witness.closing.set(true);
        }
        witness.box.note(Note::begun, slot, request.key, id);
        tally.requests[static_cast<std::size_t>(kind)][static_cast<std::size_t>(way)].count();
        request.begun = Clock::now();
        return &request;
    }
    /// The call that made it has returned, or is about to be told.
    void has_begun(const RequestFacts& request) {
        if (request.kind == Kind::shutdown) {
            witness.shut_down.set(true);
        }
    }
    /// It was given this. A lease is held on.
    template <class... Results>
    auto conclude(RequestFacts& request, const std::exception_ptr& error, Results... results) {
        witness.require(request.ends.count() == 1, "R9: a request completed twice");
        using Outcome = decltype(judge.succeeded(request, std::move(results)...));
        if constexpr (std::is_void_v<Outcome>) {
            if (error) {
                judge.failed(request, error);
            } else {
                judge.succeeded(request, std::move(results)...);
            }
            finish(request);
        } else {
            Outcome held;
            if (error) {
                judge.failed(request, error);
            } else {
                held = judge.succeeded(request, std::move(results)...);
            }
            finish(request);
            return held;
        }
    }
    /// Makes a request whose handler runs on the manager's control executor, from whichever thread.
    template <class Call>
    void echo() {
        if (RequestFacts* const request = begin(Call::kind, Way::handler, Call::slot, true)) {
            Call::start(*manager, *request, Echo{Ticket(*this, *request), this});
        }
    }
    void dropped(RequestFacts& request) {
        witness.require(settings.end == End::after_context && witness.ending.get(),
                        "R9: a handler was destroyed uncalled");
        witness.require(request.ends.count() == 1, "R9: a handler was destroyed after its request completed");
        witness.box.note(Note::dropped, request.slot, request.key, request.id);
        tally.did(Deed::handler_dropped);
        ended_.count();
    }
    /// Every request that began has ended.
    [[nodiscard]] bool all_ended() const noexcept { return ended_.get() == begun(); }
    [[nodiscard]] std::uint32_t begun() const noexcept {
        return std::min(next_.get(), static_cast<std::uint32_t>(requests.size()));
    }

    /// Uses a lease for a while, here or elsewhere.
    template <std::uint32_t Slot>
    void spend(Held<Slot> held) {
        if (dice().coin()) {
            parked.put(std::move(held));
        } else {
            dawdle(3);
        }
    }

    // -- The manager --------------------------------------------------------------------------------------------------------------------

    /// From now on what the library calls does not call back: the manager is about to go.
    void close_gate() {
        const std::unique_lock lock(gate_);
        open_ = false;
    }
    /// The manager goes.
    void destroy_manager() {
        witness.closing.set(true);
        witness.ending.set(true);
        close_gate();
        witness.box.note(Note::manager_ends, 0, most_keys, 0);
        manager.reset();
        witness.box.note(Note::manager_ended, 0, most_keys, 0);
    }

    const Settings settings;
    Tally& tally;
    Witness witness;
    Judge judge;
    Parked parked;
    Requests requests;
    std::unique_ptr<Manager> manager{};

private:
    // A handler on the manager's control executor.
    struct Echo {
        Ticket ticket;
        World* world;
        template <class... Results>
        void operator()(const std::exception_ptr& error, Results... results) {
            if (RequestFacts* const request = ticket.complete()) {
                world->conclude(*request, error, std::move(results)...);
            } else {
                world->witness.require(false, "R9: a handler was called twice");
            }
        }
    };

    static constexpr std::chrono::milliseconds least_override{1};

    void ask(RequestFacts& request, bool patient) {
        using std::chrono::milliseconds;
        Random& random = dice();
        RequestOptions& options = request.options;
        request.rows = request.is_call() ? random.below(4) : 1;
        if (!patient || random.once_in(3)) {
            options.timeout = milliseconds(static_cast<int>(random.below(7)) - 1);
        }
        if (settings.overrides[request.slot] && random.once_in(4)) {
            tally.did(Deed::keep_alive_override);
            options.keep_alive = least_override + milliseconds(random.below(4));
        }
        options.priority = std::array{Priority::normal, Priority::high, Priority::low}[random.below(3)];
        if (random.once_in(10)) {
            tally.did(Deed::expected_generation);
            const std::uint64_t known = witness.slots[request.slot].last_known.get();
            options.expected_generation = Generation(known == 0 || random.once_in(4) ? 1 + random.below(20) : known);
        }
        if (random.once_in(60) && (request.kind == Kind::embed || request.kind == Kind::rerank)) {
            tally.did(Deed::invalid_request);
            request.invalid = true;
        }
    }
    void finish(const RequestFacts& request) {
        witness.box.note(Note::completed, request.slot, request.key, request.id);
        ended_.count();
    }

    // From within a backend, a model, an observer or a handler, on whichever thread: all of the library is there for them but what blocks.
    void call_back() {
        thread_local bool inside = false;
        if (!settings.calls_back || inside || !dice().once_in(6)) {
            return;
        }
        const std::shared_lock lock(gate_, std::try_to_lock);
        if (!lock || !open_) {
            return;
        }
        inside = true;
        tally.did(Deed::called_back);
        const std::uint32_t key = dice().below(most_keys);
        switch (dice().below(5)) {
            case 0: (void)manager->status(); break;
            case 1:
                if (auto lease = manager->reranker().try_acquire(key_of(key))) {
                    const Held<1> held(witness, std::move(lease));
                }
                break;
            case 2:
                try {
                    (void)manager->embed(key_of(key), {"a"});
                    witness.require(false, "H15: a blocking call within what the library calls");
                } catch (const Error& error) {
                    witness.require(error.code() == errc::would_deadlock, "H15: another error than would_deadlock");
                    tally.did(Deed::would_deadlock);
                }
                break;
            case 3: echo<EnsureLoaded<0>>(); break;
            case 4: echo<Unload<1>>(); break;
        }
        inside = false;
    }

    Relaxed<std::uint32_t> next_{0};
    Relaxed<std::uint32_t> ended_{0};
    std::shared_mutex gate_{};
    bool open_ = true;
};

inline Ticket::~Ticket() {
    if (request_ != nullptr) {
        world_->dropped(*request_);
    }
}

}  // namespace residency::stress

#pragma once

#include "stress/access.hpp"
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
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace residency::stress {

class World;

/// Stands for a request's handler, which must not be destroyed uncalled.
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
          witness(box, most_requests * 2, chosen.memory_limit),
          judge(witness, all, requests),
          parked(all),
          requests(most_requests),
          access(box, chosen.destructor_joins(), chosen.comes_to_rest()) {
        for (std::size_t index = 0; index < 2; ++index) {
            witness.slots[index].options = settings.slots[index];
            witness.slots[index].limits = settings.limits[index];
            witness.slots[index].least_keep_alive = settings.overrides[index]
                                                        ? std::min(settings.slots[index].keep_alive, least_override)
                                                        : settings.slots[index].keep_alive;
        }
        witness.tally = &tally;
        witness.asynchronous = settings.asynchronous;
        witness.waits_for_stop = settings.home == Home::owned_threads || settings.home == Home::separate_contexts;
        witness.call_back = [this] { call_back(); };
        witness.call_back_in_stop = [this] {
            tally.did(Deed::stop_callback_ran);
            call_back();
            access.open_within_destructor();
        };
    }

    // -- Requests -----------------------------------------------------------------------------------------------------

    /// A request that is about to be made; null if there were enough. `patient`: it may take as long as it likes.
    /// `like`: one that it may share a call with, if there is one.
    RequestFacts* begin(Kind kind, Way way, std::uint32_t slot, bool patient, const RequestFacts* like = nullptr) {
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
        request.key = like != nullptr ? like->key : random.below(most_keys);
        request.after_shutdown = witness.shut_down.get() || witness.slots[slot].refused.get();
        if (request.wants_model()) {
            ask(request, patient);
            if (like != nullptr) {
                request.options.timeout = like->options.timeout;
                request.options.priority = like->options.priority;
                request.options.as = like->options.as;
            }
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
            request.started = positions_.count();
        }
        witness.box.note(Note::begun, slot, request.key, id);
        tally.requests[static_cast<std::size_t>(kind)][static_cast<std::size_t>(way)].count();
        request.begun = Clock::now();
        return &request;
    }
    /// The call that started it has returned.
    void has_begun(RequestFacts& request) {
        if (request.kind == Kind::shutdown) {
            witness.shut_down.set(true);
        } else if (request.wants_model()) {
            request.position.set(positions_.count());
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
    /// Makes a request whose handler has no executor, from any thread. The handler makes another like it, `more` times.
    template <class Call>
    void chain(Manager& in, std::uint32_t more);
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

    // -- The manager --------------------------------------------------------------------------------------------------

    /// Destroys the manager.
    void destroy_manager() {
        witness.closing.set(true);
        witness.ending.set(true);
        witness.box.note(Note::manager_ends, 0, most_keys, 0);
        access.destroy([this] { manager.reset(); });
        witness.box.note(Note::manager_ended, 0, most_keys, 0);
    }

    const Settings settings;
    Tally& tally;
    Witness witness;
    Judge judge;
    Parked parked;
    Requests requests;
    ManagerAccess access;
    /// Null as soon as its destructor begins: what may run then has the manager from `access`.
    std::unique_ptr<Manager> manager{};

private:
    static constexpr std::chrono::milliseconds least_override{1};

    void ask(RequestFacts& request, bool patient) {
        using std::chrono::milliseconds;
        Random& random = dice();
        RequestOptions& options = request.options;
        // Some are larger than a call, and some are alone with several calls: these are cut into parts.
        request.rows =
            request.is_call() ? std::array<std::uint32_t, 8>{0, 1, 1, 1, 2, 3, 7, most_rows}[random.below(8)] : 1;
        if (!patient || random.once_in(3)) {
            options.timeout = milliseconds(static_cast<int>(random.below(7)) - 1);
        }
        if (settings.overrides[request.slot] && random.once_in(4)) {
            tally.did(Deed::keep_alive_override);
            options.keep_alive = least_override + milliseconds(random.below(4));
        }
        options.priority = std::array{Priority::normal, Priority::high, Priority::low}[random.below(3)];
        if (request.kind == Kind::embed && random.once_in(4)) {
            options.as = random.coin() ? EmbedAs::query : EmbedAs::document;
        }
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

    // In a backend, a model, an observer, a handler or a stop callback, on any thread. They may call all of the library
    // that does not block.
    void call_back() {
        thread_local bool inside = false;
        const bool ending = witness.ending.get();
        if (!settings.calls_back || inside || !dice().once_in(ending ? 2 : 6)) {
            return;
        }
        const auto use = access.use();
        if (!use) {
            return;
        }
        inside = true;
        tally.did(Deed::called_back);
        if (ending) {
            tally.did(Deed::called_back_in_destructor);
        }
        call(*use, ending);
        inside = false;
    }
    void call(Manager& in, bool ending) {
        const std::uint32_t key = dice().below(most_keys);
        switch (dice().below(6)) {
            case 0: (void)in.status(); break;
            case 1:
                if (auto lease = in.reranker().try_acquire(key_of(key))) {
                    const Held<1> held(witness, std::move(lease));
                }
                break;
            case 2:
                // On a thread of the host's it is allowed to block, and would wait for what this thread holds.
                if (!on_host_thread()) {
                    block(in, key, ending);
                }
                break;
            case 3: chain<EnsureLoaded<0>>(in, 0); break;
            case 4: chain<Unload<1>>(in, 0); break;
            case 5: chain<Rerank>(in, dice().below(4)); break;
        }
    }
    void block(Manager& in, std::uint32_t key, bool ending) {
        try {
            (void)in.embed(key_of(key), {"a"});
            witness.require(false, "H15: a blocking call within what the library calls");
        } catch (const Error& error) {
            witness.require(error.code() == errc::would_deadlock || (ending && error.code() == errc::shutting_down),
                            "H15: another error than would_deadlock");
            tally.did(Deed::would_deadlock);
        }
    }

    Relaxed<std::uint32_t> next_{0};
    Relaxed<std::uint32_t> ended_{0};
    Relaxed<std::uint64_t> positions_{0};
};

inline Ticket::~Ticket() {
    if (request_ != nullptr) {
        world_->witness.require(false, "R9: a handler was destroyed uncalled");
    }
}

}  // namespace residency::stress

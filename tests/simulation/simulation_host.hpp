#pragma once

#include "simulation/simulation.hpp"

#include <sstream>

// What the host does.

namespace residency::simulation {

inline void Simulation::act() {
    const InFrame frame(*this, nullptr);
    if (oracle_.requests.size() >= most_requests) {
        return;
    }
    switch (choices_.weighted({10, 8, 3, 4, 8, 7, 4, 2, 1, 1})) {
        case 0: start(ask(Kind::call)); break;
        case 1: start(ask(Kind::acquire)); break;
        case 2: attempt(); break;
        case 3: start(ask(Kind::ensure)); break;
        case 4: cancel(); break;
        case 5: use_lease(); break;
        case 6: unload(); break;
        case 7: look(); break;
        case 8: shut_down(); break;
        case 9:
            if (manager_calls_ == 0 && choices_.once_in(2)) {
                destroy();
            }
            break;
    }
}

// Makes up a request, and notes what the host can know of the slot when it asks.
inline RequestFacts& Simulation::ask(Kind kind) {
    using std::chrono::milliseconds;
    RequestFacts& request = oracle_.requests.emplace_back();
    signals_.emplace_back();
    request.id = static_cast<int>(oracle_.requests.size()) - 1;
    request.kind = kind;
    request.slot = settings_.both ? static_cast<int>(choices_.below(2)) : 0;
    request.key = static_cast<int>(choices_.below(static_cast<std::uint32_t>(settings_.keys)));
    request.begun = now();
    if (request.wants_model()) {
        request.rows = kind == Kind::call ? static_cast<int>(choices_.weighted({1, 4, 1})) : 0;
        switch (choices_.weighted({6, 2, 2, 1})) {
            case 1: request.options.timeout = milliseconds(20); break;
            case 2: request.options.timeout = milliseconds(100); break;
            case 3: request.options.timeout = milliseconds(0); break;
            default: break;
        }
        switch (choices_.weighted({6, 1, 1, 1})) {
            case 1: request.options.keep_alive = milliseconds(0); break;
            case 2: request.options.keep_alive = milliseconds(50); break;
            case 3: request.options.keep_alive = keep_alive_forever; break;
            default: break;
        }
        constexpr std::array priorities{Priority::normal, Priority::high, Priority::low};
        request.options.priority = priorities[choices_.below(3)];
        if (choices_.once_in(8) && manager_) {
            const std::uint64_t counter =
                (request.slot == 0 ? manager_->embedding().generation() : manager_->reranker().generation()).value();
            request.options.expected_generation =
                Generation{std::max<std::uint64_t>(2, counter + choices_.below(2)) - 1};
        }
        request.invalid = choices_.once_in(40);
    }
    return request;
}

template <class Result, class Start>
void Simulation::with_handler(RequestFacts& request, const Start& start) {
    if (settings_.bound) {
        start(asio::bind_executor(QueueExecutor(client_), Result(*this, request)));
    } else {
        start(Result(*this, request));
    }
}

template <class Slot>
void Simulation::start_in(Slot& slot, RequestFacts& request) {
    const SlotFacts& facts = oracle_.slots[static_cast<std::size_t>(request.slot)];
    const SlotStatus status = slot.status();
    request.closing_at_call = facts.closing;
    request.closed_at_call = facts.closed;
    request.full_at_call = status.waiting >= facts.options.max_queue;
    request.resident_at_call =
        std::any_of(status.residents.begin(), status.residents.end(),
                    [&](const ResidentStatus& resident) { return resident.key == key_of(request.key); });
    request.cooling_at_call = now() < facts.keys[static_cast<std::size_t>(request.key)].cooling_until;
    const ModelKey key = request.invalid ? ModelKey() : key_of(request.key);
    if (request.kind == Kind::acquire) {
        using LeaseType = typename Slot::lease_type;
        with_handler<Handler<LeaseType>>(
            request, [&](auto handler) { slot.async_acquire(key, request.options, std::move(handler)); });
    } else if (request.kind == Kind::ensure) {
        with_handler<Handler<Generation>>(
            request, [&](auto handler) { slot.async_ensure_loaded(key, request.options, std::move(handler)); });
    } else if constexpr (std::is_same_v<typename Slot::model_type, SimulatedEmbedder>) {
        const std::vector<std::string> texts(static_cast<std::size_t>(request.rows), std::to_string(request.id));
        with_handler<Handler<Embeddings>>(
            request, [&](auto handler) { manager_->async_embed(key, texts, request.options, std::move(handler)); });
    } else {
        const std::vector<std::string> documents(static_cast<std::size_t>(request.rows), std::to_string(request.id));
        with_handler<Handler<Ranking>>(request, [&](auto handler) {
            manager_->async_rerank(key, "query", documents, request.options, std::move(handler));
        });
    }
}

inline void Simulation::start(RequestFacts& request) {
    if (!manager_) {
        request.completions = 1;
        return;
    }
    constexpr std::array names{"call", "acquire", "attempt", "ensure"};
    note(names[static_cast<std::size_t>(request.kind)], ' ', request.id, ": slot ", request.slot, " key ", request.key,
         " rows ", request.rows, " timeout ", request.options.timeout ? request.options.timeout->count() : -1,
         " keep_alive ", request.options.keep_alive ? request.options.keep_alive->count() : -1, " priority ",
         static_cast<int>(request.options.priority), " expects ",
         request.options.expected_generation ? request.options.expected_generation->value() : 0,
         request.invalid ? " invalid" : "");
    ++manager_calls_;
    request.sequence = ++oracle_.sequence;
    if (request.slot == 0) {
        start_in(manager_->embedding(), request);
    } else {
        start_in(manager_->reranker(), request);
    }
    request.starting = false;
    --manager_calls_;
}

inline void Simulation::attempt() {
    if (!manager_) {
        return;
    }
    RequestFacts& request = ask(Kind::attempt);
    request.completions = 1;
    request.options = {};
    request.sequence = ++oracle_.sequence;
    const auto try_in = [&](auto& slot) {
        const SlotStatus status = slot.status();
        auto lease = slot.try_acquire(key_of(request.key));
        note("try ", request.id, ": slot ", request.slot, " key ", request.key, lease ? " leased" : " none");
        const auto found =
            std::find_if(status.residents.begin(), status.residents.end(), [&](const ResidentStatus& resident) {
                return resident.key == key_of(request.key) && resident.state == ResidentState::ready;
            });
        if (lease) {
            oracle_.require(found != status.residents.end() && found->generation == lease.generation(),
                            "H4: try_acquire gave a lease on what was not ready, request ", request.id);
            oracle_.require(!oracle_.slots[static_cast<std::size_t>(request.slot)].closed,
                            "R12: a lease after shutdown, request ", request.id);
            keep(request, std::move(lease));
        } else if (found != status.residents.end() && status.waiting == 0 && !status.shutting_down) {
            const bool full =
                status.leases >= oracle_.slots[static_cast<std::size_t>(request.slot)].options.max_leases ||
                (found->leases != 0 && settings_.keys > 0);
            oracle_.require(full, "try_acquire gave nothing though the model is free, request ", request.id);
        }
    };
    if (request.slot == 0) {
        try_in(manager_->embedding());
    } else {
        try_in(manager_->reranker());
    }
}

inline void Simulation::unload() {
    if (!manager_) {
        return;
    }
    RequestFacts& request = ask(Kind::unload);
    const bool all = choices_.once_in(3);
    const bool revoke = choices_.once_in(3);
    const int only = request.key;
    request.key = all ? no_key : only;
    request.mode = revoke ? UnloadMode::revoke : UnloadMode::drain;
    note("unload ", request.id, ": slot ", request.slot, " key ", request.key, revoke ? " revoke" : " drain");
    request.sequence = ++oracle_.sequence;
    SlotFacts& facts = oracle_.slots[static_cast<std::size_t>(request.slot)];
    for (int key = 0; key < settings_.keys; ++key) {
        if (all || key == only) {
            KeyFacts& of_key = facts.keys[static_cast<std::size_t>(key)];
            of_key.unload = request.sequence;
            of_key.revoke = revoke ? request.sequence : of_key.revoke;
        }
    }
    ++manager_calls_;
    const auto unload_in = [&](auto& slot) {
        with_handler<Handler<>>(request, [&](auto handler) {
            if (all) {
                slot.async_unload(request.mode, std::move(handler));
            } else {
                slot.async_unload(key_of(only), request.mode, std::move(handler));
            }
        });
    };
    if (request.slot == 0) {
        unload_in(manager_->embedding());
    } else {
        unload_in(manager_->reranker());
    }
    request.starting = false;
    --manager_calls_;
}

inline void Simulation::shut_down() {
    if (!manager_) {
        return;
    }
    RequestFacts& request = ask(Kind::shutdown);
    request.both_slots = !choices_.once_in(3);
    if (choices_.once_in(2)) {
        request.options.timeout = std::chrono::milliseconds(30 * choices_.below(3));
    }
    request.slot = request.both_slots ? 0 : request.slot;
    note("shutdown ", request.id, ": ", request.both_slots ? "both slots" : "slot ", request.slot, " deadline ",
         request.options.timeout ? request.options.timeout->count() : -1);
    request.sequence = ++oracle_.sequence;
    for (int slot = 0; slot < 2; ++slot) {
        oracle_.slots[static_cast<std::size_t>(slot)].closing |= request.both_slots || slot == request.slot;
    }
    ++manager_calls_;
    with_handler<Handler<ShutdownReport>>(request, [&](auto handler) {
        const auto start = [&](auto& whom) {
            if (request.options.timeout) {
                whom.async_shutdown(*request.options.timeout, std::move(handler));
            } else {
                whom.async_shutdown(std::move(handler));
            }
        };
        if (request.both_slots) {
            start(*manager_);
        } else if (request.slot == 0) {
            start(manager_->embedding());
        } else {
            start(manager_->reranker());
        }
    });
    request.starting = false;
    request.started = now();
    --manager_calls_;
    for (int slot = 0; slot < 2; ++slot) {
        oracle_.slots[static_cast<std::size_t>(slot)].closed |= request.both_slots || slot == request.slot;
    }
}

inline void Simulation::cancel() {
    std::vector<RequestFacts*> candidates;
    for (RequestFacts& request : oracle_.requests) {
        if (request.id != 0 && !request.starting && (request.outstanding() || request.id % 16 == 0)) {
            candidates.push_back(&request);
        }
    }
    if (candidates.empty()) {
        return;
    }
    RequestFacts& request = *candidates[choices_.below(static_cast<std::uint32_t>(candidates.size()))];
    constexpr std::array types{asio::cancellation_type::terminal, asio::cancellation_type::partial,
                               asio::cancellation_type::total};
    const asio::cancellation_type type = types[choices_.below(3)];
    note("cancel ", request.id, " type ", static_cast<int>(type));
    request.may_be_cancelled = true;
    // A call that runs goes on for anything less than terminal.
    request.cancelled = request.cancelled || type == asio::cancellation_type::terminal || request.kind != Kind::call;
    // H16: as everywhere in Asio, `emit` happens where the handler runs, so that no handler does meanwhile.
    ++emitting_;
    signals_[static_cast<std::size_t>(request.id)].emit(type);
    --emitting_;
}

inline void Simulation::use_lease() {
    if (leases_.empty()) {
        return;
    }
    const std::size_t index = choices_.below(static_cast<std::uint32_t>(leases_.size()));
    HeldLease& held = leases_[index];
    switch (choices_.below(5)) {
        case 0: release(index); break;
        case 1: {
            note("move a lease of model ", held.model->serial);
            HeldLease moved = std::move(held);
            leases_.erase(leases_.begin() + static_cast<std::ptrdiff_t>(index));
            leases_.push_back(std::move(moved));
            break;
        }
        case 2:
            // Assigned over another lease: that one ends.
            if (leases_.size() > 1) {
                const std::size_t other = index == 0 ? 1 : 0;
                if (leases_[other].lease.index() == held.lease.index()) {
                    note("assign a lease of model ", held.model->serial, " over one of model ",
                         leases_[other].model->serial);
                    HeldLease taken = std::move(leases_[index]);
                    HeldLease ended = std::move(leases_[other]);
                    leases_.erase(leases_.begin() + static_cast<std::ptrdiff_t>(std::max(index, other)));
                    leases_.erase(leases_.begin() + static_cast<std::ptrdiff_t>(std::min(index, other)));
                    ModelFacts* const kept = taken.model;
                    oracle_.let_go(*ended.model);
                    std::visit(
                        [&](auto& into) { into = std::get<std::decay_t<decltype(into)>>(std::move(taken.lease)); },
                        ended.lease);
                    ended.model = kept;
                    leases_.push_back(std::move(ended));
                }
            }
            break;
        case 3:
            note("call the leased model ", held.model->serial);
            std::visit(
                [](auto& lease) {
                    const std::vector<std::string> nobody{"0"};
                    if constexpr (std::is_same_v<std::decay_t<decltype(lease)>, Lease<SimulatedEmbedder>>) {
                        (void)lease->embed(nobody, {});
                    } else {
                        (void)lease->rerank("query", nobody, {});
                    }
                },
                held.lease);
            break;
        case 4: {
            const bool revoked = std::visit([](auto& lease) { return lease.revoked(); }, held.lease);
            note("the lease of model ", held.model->serial, revoked ? " is revoked" : " is good");
            const SlotFacts& slot = oracle_.slots[static_cast<std::size_t>(held.model->slot)];
            oracle_.require(!revoked || slot.keys[static_cast<std::size_t>(held.model->key)].revoke > held.model->begun,
                            "H8: revoked, and nobody asked for that, model ", held.model->serial);
            break;
        }
    }
}

inline void Simulation::release(std::size_t index) {
    HeldLease held = std::move(leases_[index]);
    leases_.erase(leases_.begin() + static_cast<std::ptrdiff_t>(index));
    note("release a lease of model ", held.model->serial);
    oracle_.let_go(*held.model);
    std::visit(
        [&](auto& lease) {
            lease.release();
            lease.release();
        },
        held.lease);
}

inline void Simulation::look() {
    if (!manager_) {
        return;
    }
    std::ostringstream out;
    out << manager_->status();
    note("status\n", out.str());
    block_in_vain();
}

// A blocking call in a place where it could only hang says so.
inline void Simulation::block_in_vain() {
    if (user_code_scopes_ == 0) {
        return;
    }
    try {
        (void)manager_->embed(key_of(0), {"0"});
        oracle_.violate("H15: a blocking call inside a model came back");
    } catch (const Error& error) {
        oracle_.require(error.code() == errc::would_deadlock,
                        "H15: a blocking call inside a model failed with something else");
    }
}

inline void Simulation::destroy() {
    note("destroy the manager");
    for (SlotFacts& slot : oracle_.slots) {
        slot.closing = slot.closed = true;
    }
    oracle_.destroyed = true;
    const std::unique_ptr<Manager> last = std::move(manager_);
}

template <class Model>
void Simulation::keep(RequestFacts& request, Lease<Model> lease) {
    ModelFacts& model = lease->facts();
    oracle_.hold(model, request.slot, request.key, lease.generation());
    oracle_.require(lease.key() == key_of(request.key), "R11: a lease with another key, request ", request.id);
    request.granted = lease.generation();
    leases_.push_back({std::move(lease), &model});
}

}  // namespace residency::simulation

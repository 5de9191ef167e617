#pragma once

#include "simulation/simulation.hpp"

// What the host does with bare leases.

namespace residency::simulation {

template <bool Asynchronous>
void SimulationOf<Asynchronous>::attempt() {
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

template <bool Asynchronous>
void SimulationOf<Asynchronous>::use_lease() {
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
                [&](auto& lease) {
                    const std::vector<std::string> unnamed{"0"};
                    if constexpr (Asynchronous) {
                        oracle_.require(lease->facts().state == ModelFacts::State::alive,
                                        "R1: a leased model does not live, ", lease->facts().serial);
                    } else if constexpr (std::is_same_v<std::decay_t<decltype(lease)>, Lease<Embedder>>) {
                        (void)lease->embed(unnamed, EmbedAs::as_is, {});
                    } else {
                        (void)lease->rerank("query", unnamed, {});
                    }
                },
                held.lease);
            break;
        case 4: {
            const bool revoked = std::visit([](auto& lease) { return lease.revoked(); }, held.lease);
            note("the lease of model ", held.model->serial, revoked ? " is revoked" : " is good");
            const SlotFacts& slot = oracle_.slots[static_cast<std::size_t>(held.model->slot)];
            const KeyFacts& key = slot.keys[static_cast<std::size_t>(held.model->key)];
            oracle_.require(!revoked || slot.revoking || key.revoke > held.model->entered,
                            "H8: revoked, and nothing asked for that, model ", held.model->serial);
            break;
        }
    }
}

template <bool Asynchronous>
void SimulationOf<Asynchronous>::release(std::size_t index) {
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

template <bool Asynchronous>
template <class Model>
void SimulationOf<Asynchronous>::keep(RequestFacts& request, Lease<Model> lease) {
    ModelFacts& model = lease->facts();
    oracle_.hold(model, request.slot, request.key, lease.generation());
    oracle_.require(lease.key() == key_of(request.key), "R11: a lease with another key, request ", request.id);
    request.granted = lease.generation();
    oracle_.note_lease(request);
    leases_.push_back({std::move(lease), &model});
}

}  // namespace residency::simulation

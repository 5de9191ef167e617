#pragma once

#include "simulation/simulation.hpp"

#include <sstream>

// What the host does.

namespace residency::simulation {

template <bool Asynchronous>
void SimulationOf<Asynchronous>::act() {
    const InFrame frame(*this, nullptr);
    if (oracle_.requests.size() >= most_requests) {
        return;
    }
    switch (choices_.weighted({10, 8, 3, 4, 8, 7, 4, 2, 1, 1, 8, settings_.budgeted ? 3U : 0U, neighbour_ ? 8U : 0U})) {
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
            if (manager_calls_ == 0 && posts_ == 0 && choices_.once_in(2)) {
                destroy();
            }
            break;
        case 10: burst(); break;
        case 11: squeeze(); break;
        case 12: note(neighbour_->act(choices_, posts_ == 0)); break;
    }
}

template <bool Asynchronous>
std::vector<std::string> SimulationOf<Asynchronous>::texts_of(const RequestFacts& request) {
    std::vector<std::string> texts;
    for (int row = 0; row < request.rows; ++row) {
        texts.push_back(text_of(request.id, row));
    }
    return texts;
}

// Makes up a request: about the same model as `like`, if there is one.
template <bool Asynchronous>
RequestFacts& SimulationOf<Asynchronous>::ask(Kind kind, const RequestFacts* like) {
    using std::chrono::milliseconds;
    RequestFacts& request = oracle_.requests.emplace_back();
    signals_.emplace_back();
    request.id = static_cast<int>(oracle_.requests.size()) - 1;
    request.kind = kind;
    if (like != nullptr) {
        request.slot = like->slot;
        request.key = like->key;
    } else {
        request.slot = settings_.both ? static_cast<int>(choices_.below(2)) : 0;
        request.key = static_cast<int>(choices_.below(static_cast<std::uint32_t>(settings_.keys)));
    }
    request.begun = now();
    if (request.wants_model()) {
        request.rows = kind == Kind::call ? static_cast<int>(choices_.weighted({1, 6, 3, 2})) : 0;
        for (const std::string& text : texts_of(request)) {
            request.bytes += text.size();
        }
        if (kind == Kind::call && request.slot == 0) {
            constexpr std::array kinds{EmbedAs::as_is, EmbedAs::query, EmbedAs::document};
            const bool is_alike = like != nullptr && !choices_.once_in(4);
            request.options.as = is_alike ? like->options.as : kinds[choices_.below(3)];
        } else if (kind == Kind::call) {
            request.bytes += text_of(request.id, 0).size();
        }
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
        const bool is_alike = like != nullptr && !choices_.once_in(4);
        request.options.priority = is_alike ? like->options.priority : priorities[choices_.below(3)];
        if (choices_.once_in(8) && manager_) {
            const std::uint64_t counter =
                (request.slot == 0 ? manager_->embedding().generation() : manager_->reranker().generation()).value();
            const std::uint32_t which = choices_.below(3);
            request.options.expected_generation =
                Generation{which == 2 ? 0 : std::max<std::uint64_t>(2, counter + which) - 1};
        }
        request.invalid = choices_.once_in(40);
    }
    return request;
}

template <bool Asynchronous>
template <class Result, class Start>
void SimulationOf<Asynchronous>::with_handler(RequestFacts& request, const Start& start) {
    if (settings_.bound) {
        start(asio::bind_executor(QueueExecutor(client_, request.id), Result(*this, request)));
    } else {
        start(Result(*this, request));
    }
}

template <bool Asynchronous>
template <class Slot>
void SimulationOf<Asynchronous>::start_in(Slot& slot, RequestFacts& request) {
    const SlotFacts& facts = oracle_.slots[static_cast<std::size_t>(request.slot)];
    const SlotStatus status = slot.status();
    request.quiet_before = oracle_.carried_out;
    request.closing_at_call = facts.closing;
    request.closed_at_call = facts.closed;
    const auto overdue = static_cast<std::size_t>(
        std::count_if(oracle_.requests.begin(), oracle_.requests.end(), [&](const RequestFacts& other) {
            return other.slot == request.slot && other.wants_model() && other.outstanding() && other.due() <= now();
        }));
    const auto waits_overdue = static_cast<std::size_t>(
        std::count_if(oracle_.requests.begin(), oracle_.requests.end(), [&](const RequestFacts& other) {
            return other.slot == request.slot && (other.kind == Kind::acquire || other.kind == Kind::ensure) &&
                   other.returned != 0 && other.outstanding() && other.posted == 0 && other.due() <= now();
        }));
    const std::size_t places = facts.queue_for(request.options.priority);
    request.full_at_call = status.waiting >= places + overdue;
    // Unless this is within others' steps, what is decided has been posted.
    request.maybe_full_at_call = status.waiting >= places + (settings_.bound && oracle_.depth == 0 ? waits_overdue : 0);
    request.resident_at_call =
        std::any_of(status.residents.begin(), status.residents.end(),
                    [&](const ResidentStatus& resident) { return resident.key == key_of(request.key); });
    const KeyFacts& key_facts = facts.keys[static_cast<std::size_t>(request.key)];
    request.cooling_at_call = now() < key_facts.cooling_until;
    request.maybe_cooling_at_call = now() < key_facts.maybe_cooling_until;
    const ModelKey key = request.invalid ? ModelKey() : key_of(request.key);
    if (request.options.keep_alive == keep_alive_forever) {
        oracle_.slots[static_cast<std::size_t>(request.slot)]
            .keys[static_cast<std::size_t>(request.key)]
            .may_be_pinned = true;
        oracle_.note_change();
    }
    RequestFacts* const outer = std::exchange(asking_, &request);
    if (request.kind == Kind::acquire) {
        using LeaseType = typename Slot::lease_type;
        with_handler<Handler<LeaseType>>(
            request, [&](auto handler) { slot.async_acquire(key, request.options, std::move(handler)); });
    } else if (request.kind == Kind::ensure) {
        with_handler<Handler<Generation>>(
            request, [&](auto handler) { slot.async_ensure_loaded(key, request.options, std::move(handler)); });
    } else if constexpr (std::is_same_v<typename Slot::model_type, Embedder>) {
        const std::vector<std::string> texts = texts_of(request);
        with_handler<Handler<Embeddings>>(
            request, [&](auto handler) { manager_->async_embed(key, texts, request.options, std::move(handler)); });
    } else {
        const std::vector<std::string> documents = texts_of(request);
        with_handler<Handler<Ranking>>(request, [&](auto handler) {
            manager_->async_rerank(key, text_of(request.id, 0), documents, request.options, std::move(handler));
        });
    }
    asking_ = outer;
}

template <bool Asynchronous>
void SimulationOf<Asynchronous>::start(RequestFacts& request) {
    if (!manager_) {
        request.completions = 1;
        return;
    }
    constexpr std::array names{"call", "acquire", "attempt", "ensure"};
    note(names[static_cast<std::size_t>(request.kind)], ' ', request.id, ": slot ", request.slot, " key ", request.key,
         " rows ", request.rows, " timeout ", request.options.timeout ? request.options.timeout->count() : -1,
         " keep_alive ", request.options.keep_alive ? request.options.keep_alive->count() : -1, " priority ",
         static_cast<int>(request.options.priority), " as ", static_cast<int>(request.options.as), " expects ",
         request.options.expected_generation ? request.options.expected_generation->value() : 0,
         request.invalid ? " invalid" : "");
    ++manager_calls_;
    request.sequence = ++oracle_.sequence;
    if (request.slot == 0) {
        start_in(manager_->embedding(), request);
    } else {
        start_in(manager_->reranker(), request);
    }
    request.returned = ++oracle_.sequence;
    request.starting = false;
    --manager_calls_;
}

// Several requests for one model at once, which may share calls.
template <bool Asynchronous>
void SimulationOf<Asynchronous>::burst() {
    if (oracle_.requests.size() >= most_requests) {
        return;
    }
    RequestFacts& first = ask(Kind::call);
    start(first);
    for (std::uint32_t more = 1 + choices_.below(6); more != 0; --more) {
        start(ask(Kind::call, &first));
    }
}

template <bool Asynchronous>
void SimulationOf<Asynchronous>::unload() {
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

template <bool Asynchronous>
void SimulationOf<Asynchronous>::shut_down() {
    if (!manager_) {
        return;
    }
    RequestFacts& request = ask(Kind::shutdown);
    request.both_slots = !choices_.once_in(3);
    if (choices_.once_in(2)) {
        request.options.timeout = std::chrono::milliseconds(30 * choices_.below(3));
        request.revokes = choices_.once_in(2);
    }
    request.slot = request.both_slots ? 0 : request.slot;
    note("shutdown ", request.id, ": ", request.both_slots ? "both slots" : "slot ", request.slot, " deadline ",
         request.options.timeout ? request.options.timeout->count() : -1, request.revokes ? " revokes" : "");
    request.sequence = ++oracle_.sequence;
    for (int slot = 0; slot < 2; ++slot) {
        SlotFacts& facts = oracle_.slots[static_cast<std::size_t>(slot)];
        const bool concerned = request.both_slots || slot == request.slot;
        facts.closing |= concerned;
        facts.revoking |= concerned && request.revokes;
    }
    ++manager_calls_;
    with_handler<Handler<ShutdownReport>>(request, [&](auto handler) {
        const auto start = [&](auto& whom) {
            if (request.revokes) {
                whom.async_shutdown(ShutdownOptions{request.options.timeout, true}, std::move(handler));
            } else if (request.options.timeout) {
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

template <bool Asynchronous>
void SimulationOf<Asynchronous>::cancel() {
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
    cancel(request, types[choices_.below(3)]);
}

template <bool Asynchronous>
void SimulationOf<Asynchronous>::cancel(RequestFacts& request, asio::cancellation_type type) {
    note("cancel ", request.id, " type ", static_cast<int>(type));
    request.may_be_cancelled = true;
    // A call that runs goes on for anything less than terminal.
    request.cancelled = request.cancelled || type == asio::cancellation_type::terminal || request.kind != Kind::call;
    // H16: as everywhere in Asio, `emit` happens where the handler runs, so that no handler does meanwhile.
    ++emitting_;
    signals_[static_cast<std::size_t>(request.id)].emit(type);
    --emitting_;
}

template <bool Asynchronous>
void SimulationOf<Asynchronous>::look() {
    if (!manager_) {
        return;
    }
    std::ostringstream out;
    out << manager_->status();
    note("status\n", out.str());
    block_in_vain();
}

// A blocking call in a place where it could only hang says so.
template <bool Asynchronous>
void SimulationOf<Asynchronous>::block_in_vain() {
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

// The memory budget changes, or its memory is wanted elsewhere.
template <bool Asynchronous>
void SimulationOf<Asynchronous>::squeeze() {
    switch (choices_.weighted({4, 2, 1})) {
        case 0: {
            const std::array<std::size_t, 6> limits{settings_.memory, 0, 1, 2, 4, 12};
            set_limit(limits[choices_.below(limits.size())]);
            break;
        }
        case 1: {
            const std::size_t bytes = 1 + choices_.below(6);
            note("trim ", bytes);
            oracle_.memory.pressed = ++oracle_.sequence;
            oracle_.memory.trims_later = oracle_.depth != 0;
            oracle_.see(Sight::trimmed);
            budget_->trim(bytes);
            break;
        }
        case 2: {
            std::ostringstream out;
            out << budget_->status();
            note(out.str());
            break;
        }
    }
}

template <bool Asynchronous>
void SimulationOf<Asynchronous>::set_limit(std::size_t bytes) {
    note("set the limit to ", bytes);
    const std::uint64_t change = oracle_.begin_limit(bytes);
    budget_->set_limit(bytes);
    oracle_.end_limit(change, budget_->used());
}

template <bool Asynchronous>
void SimulationOf<Asynchronous>::destroy() {
    note("destroy the manager");
    for (SlotFacts& slot : oracle_.slots) {
        slot.closing = slot.closed = true;
    }
    oracle_.destroyed = true;
    const std::unique_ptr<Manager> last = std::move(manager_);
}

}  // namespace residency::simulation

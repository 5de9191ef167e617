#pragma once

#include "simulation/oracle.hpp"

// What models are called for: whose texts, together with whose, and when again (R14, H24, H25, H29 to H31).

namespace residency::simulation {

inline CallFacts& Oracle::begin_call(ModelFacts& model, const FakeCall& made, Time now) {
    SlotFacts& facts = slots[index(model.slot)];
    CallFacts& call = calls.emplace_back();
    call.id = static_cast<int>(calls.size()) - 1;
    call.model = model.serial;
    call.texts = made.texts.size();
    require(model.state == ModelFacts::State::alive, "R1: a model is called that does not live, ", model.serial);
    for (const TextOf& text : made.texts) {
        if (call.requests.empty() || call.requests.back() != text.request) {
            call.requests.push_back(text.request);
            call.bytes += requests[index(text.request)].bytes;
        }
    }
    RequestFacts& first = requests[index(call.requests.front())];
    if (call.requests.size() == 1 && call.texts < static_cast<std::size_t>(first.rows)) {
        begin_part(call, model, first, made);
    } else {
        check_texts(call, model, made);
        call.is_first = std::all_of(call.requests.begin(), call.requests.end(),
                                    [this](int id) { return requests[index(id)].calls.empty(); });
        for (const int id : call.requests) {
            check_rerun(call, requests[index(id)], now);
        }
        check_batch(call, model);
    }
    for (const int id : call.requests) {
        RequestFacts& request = requests[index(id)];
        request.model = model.serial;
        request.calls.push_back(call.id);
        note_lease(request);
    }
    if (call.is_first) {
        ++facts.batches;
        facts.texts += call.texts;
    }
    ++model.calling;
    ++facts.calling;
    require(static_cast<std::size_t>(model.calling + model.held) <= model.capacity,
            "R8: more leases than a model takes, ", model.serial);
    require(static_cast<std::size_t>(facts.calling) <= facts.max_calls(), "R8: more calls than max_calls, slot ",
            model.slot);
    check_leases(model.slot);
    return call;
}

// Whether a model may be called for the request now.
inline void Oracle::check_called(const RequestFacts& request, const ModelFacts& model, const FakeCall& made) {
    const int id = request.id;
    require(request.kind == Kind::call && request.slot == model.slot && request.key == model.key,
            "R11: a model is called for a request of another key, request ", id);
    require(request.options.as == made.as, "H24: a text is given to the model as something else, request ", id);
    require(request.outstanding() && request.posted == 0, "H31: a model is called for a request that is complete, ",
            id);
    require(model.generation == Generation{} || !request.options.expected_generation ||
                *request.options.expected_generation == model.generation,
            "H8: a request was given to another generation than it expected, request ", id);
}

// A call for some texts of one request, which is cut (H26): none of them is or was in another call, but for one that
// was out of memory.
inline void Oracle::begin_part(CallFacts& call, const ModelFacts& model, RequestFacts& request, const FakeCall& made) {
    check_called(request, model, made);
    // A part may have had all its texts, and run out of memory.
    require(request.is_cut || std::all_of(request.calls.begin(), request.calls.end(),
                                          [this](int id) {
                                              const CallFacts& whole = calls[index(id)];
                                              return whole.requests.size() == 1 &&
                                                     whole.ending == Ending::out_of_memory;
                                          }),
            "H26: a request that had a whole call is cut, request ", request.id);
    call.is_first = true;
    request.is_cut = true;
    slots[index(model.slot)].has_parts = true;
    see(Sight::part);
    for (std::size_t text = 0; text < made.texts.size(); ++text) {
        const int row = made.texts[text].row;
        require(made.queries.empty() || made.queries[text] == request.id,
                "R14: a document is paired with another request's query, request ", request.id);
        require(std::find(call.rows.begin(), call.rows.end(), row) == call.rows.end(),
                "R14: a text is twice in one call, request ", request.id);
        call.rows.push_back(row);
        for (const int id : request.calls) {
            const CallFacts& other = calls[index(id)];
            if (other.is_part() && std::find(other.rows.begin(), other.rows.end(), row) == other.rows.end()) {
                continue;
            }
            require(other.has_ended && other.ending == Ending::out_of_memory && other.texts > call.texts,
                    "R14: a text is in two parts, request ", request.id);
            call.is_first = false;
            see(Sight::part_halved);
        }
    }
    for (const int id : request.calls) {
        const CallFacts& other = calls[index(id)];
        if (!other.has_ended) {
            see(Sight::parts_at_once);
            require(other.model == call.model, "H28: parts of a request run on two models at once, request ",
                    request.id);
        }
        if (other.model != call.model) {
            see(Sight::parts_of_two_models);
        }
    }
    const SlotOptions& options = slots[index(model.slot)].options;
    const bool is_limited = model.limits.texts > 1 && options.max_batch_texts != 1;
    require(!is_limited || call.texts <= model.limits.texts, "H26: a part has more texts than its model's limit, call ",
            call.id);
    require(!is_limited || options.max_batch_texts == 0 || call.texts <= options.max_batch_texts,
            "H26: a part has more texts than max_batch_texts, call ", call.id);
}

// The texts are those of its requests, each whole and in its order, and all may share a call.
inline void Oracle::check_texts(const CallFacts& call, const ModelFacts& model, const FakeCall& made) {
    std::size_t next = 0;
    for (const int id : call.requests) {
        const RequestFacts& request = requests[index(id)];
        check_called(request, model, made);
        require(!request.is_cut, "H26: a request that was cut has a whole call, request ", id);
        for (int row = 0; row < request.rows && next < made.texts.size(); ++row, ++next) {
            require(made.texts[next].request == id && made.texts[next].row == row,
                    "R14: a call does not have the texts of its requests in their order, request ", id);
            require(made.queries.empty() || made.queries[next] == id,
                    "R14: a document is paired with another request's query, request ", id);
        }
    }
    require(next == made.texts.size(), "R14: a call has texts of no request, call ", call.id);
    std::vector<int> sorted = call.requests;
    std::sort(sorted.begin(), sorted.end());
    require(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end(),
            "R14: a request is twice in one call, call ", call.id);
}

// Several requests share a call only within the limits.
inline void Oracle::check_batch(const CallFacts& call, const ModelFacts& model) {
    const SlotOptions& options = slots[index(model.slot)].options;
    if (call.requests.size() == 1) {
        const bool is_limited = model.limits.texts > 1 && options.max_batch_texts != 1 && call.texts > 1;
        require(!is_limited || call.texts <= model.limits.texts,
                "H26: a request that is too large for one call is not cut, call ", call.id);
        return;
    }
    see(Sight::joint_call);
    slots[index(model.slot)].has_joint_calls = true;
    if (model.slot == 1) {
        see(Sight::joint_call_of_pairs);
    }
    if (call.requests.size() > 2) {
        see(Sight::three_in_a_call);
    }
    require(call.texts <= model.limits.texts, "H25: a joint call has more texts than its model's limit, call ",
            call.id);
    require(options.max_batch_texts == 0 || call.texts <= options.max_batch_texts,
            "H24: a joint call has more texts than max_batch_texts, call ", call.id);
    require(call.bytes <= model.limits.bytes, "H25: a joint call has more bytes than its model's limit, call ",
            call.id);
    const bool formed_since = std::any_of(call.requests.begin(), call.requests.end(), [&](int id) {
        return model.shortage != 0 && requests[index(id)].sequence > model.shortage;
    });
    if (call.is_first && formed_since) {
        see(Sight::smaller_after_shortage);
        require(call.texts <= model.most_texts, "H30: a batch is larger than what worked after a shortage, call ",
                call.id);
    }
}

// A request has one call, and after one that it shared and that failed, others by what is known of the failure.
inline void Oracle::check_rerun(const CallFacts& call, const RequestFacts& request, Time now) {
    if (request.calls.empty()) {
        require(call.is_first, "H30: a request joins others that are called again, request ", request.id);
        return;
    }
    const CallFacts& last = last_call(request);
    const std::size_t together = last.requests.size();
    require(last.has_ended && last.model == call.model, "R14: a request is in two calls at once, request ", request.id);
    require(together > 1, "H30: a model is called again for a request that had a call of its own, ", request.id);
    require(!last.closed_at_end || last.ending == Ending::out_of_memory,
            "H30: a model is called again though the slot is closed, request ", request.id);
    switch (last.ending) {
        case Ending::sound:
        case Ending::nan:
        case Ending::busy:
            violate("H30: a model is called again for a request, and there is no reason to, " +
                    std::to_string(request.id));
            break;
        case Ending::out_of_memory:
            see(Sight::halved);
            require(call.requests.size() <= together - together / 2,
                    "H30: requests are not halved after a shortage of memory, request ", request.id);
            break;
        case Ending::names_text:
            see(Sight::rerun_without_faulty);
            require(!own_fault(request, last), "H30: a model is called again with the text at fault, request ",
                    request.id);
            for (const int id : last.requests) {
                const RequestFacts& other = requests[index(id)];
                const bool there = std::find(call.requests.begin(), call.requests.end(), id) != call.requests.end();
                require(there || own_fault(other, last) || may_end_early(other, now),
                        "H30: not all the others are called again together, request ", id);
                if (!there && !own_fault(other, last)) {
                    see(Sight::left_out_of_rerun);
                }
            }
            break;
        case Ending::too_few:
        case Ending::too_many:
        case Ending::threw:
        case Ending::names_none: {
            const auto again = std::count_if(call.requests.begin(), call.requests.end(), [&](int id) {
                const auto& before = requests[index(id)].calls;
                return !before.empty() && before.back() == last.id;
            });
            see(call.requests.size() == 1 ? Sight::rerun_alone : Sight::rerun_in_part);
            require(static_cast<std::size_t>(again) <= together - together / 2,
                    "H30: requests share a call again though one of them is at fault, ", request.id);
            break;
        }
    }
}

inline void Oracle::end_call(ModelFacts& model, CallFacts& call, bool stop_requested, Time now) {
    SlotFacts& facts = slots[index(model.slot)];
    --model.calling;
    --facts.calling;
    call.has_ended = true;
    // The destructor closes one slot after the other.
    call.closed_at_end = facts.closed && !destroyed;
    call.maybe_closed_at_end = facts.closing;
    require(model.state == ModelFacts::State::alive, "R1: a model died during call ", call.id);
    const bool unwanted = std::all_of(call.requests.begin(), call.requests.end(), [&](int id) {
        const RequestFacts& request = requests[index(id)];
        // What waits of one that is cut fails with the slot, or with the residency that it expects.
        const bool rest_failed = request.is_cut && (facts.closing || request.options.expected_generation ||
                                                    !request.outstanding() || request.posted != 0);
        return may_end_early(request, now) || failed_part(request) != nullptr || rest_failed;
    });
    require(!stop_requested || unwanted, "H29: a call was asked to stop that is still wanted, call ", call.id);
    if (call.is_part() && call.has_failed()) {
        see(Sight::part_failed);
    }
    if (call.requests.size() == 1) {
        return;
    }
    if (stop_requested) {
        see(Sight::stopped_when_unwanted);
    }
    if (std::any_of(call.requests.begin(), call.requests.end(),
                    [&](int id) { return !requests[index(id)].outstanding() || requests[index(id)].posted != 0; })) {
        see(Sight::completed_early_within);
    }
    if (call.ending == Ending::out_of_memory) {
        model.shortage = ++sequence;
        model.most_texts = std::min(model.most_texts, std::max(std::size_t{1}, call.texts / 2));
    }
}

inline const CallFacts* Oracle::failed_part(const RequestFacts& request) const {
    for (const int id : request.calls) {
        if (request.is_cut && calls[index(id)].has_failed()) {
            return &calls[index(id)];
        }
    }
    return nullptr;
}

inline const CallFacts* Oracle::part_with(const RequestFacts& request, int row) const {
    for (const int id : request.calls) {
        const CallFacts& call = calls[index(id)];
        if (call.has_ended && call.ending == Ending::sound &&
            std::find(call.rows.begin(), call.rows.end(), row) != call.rows.end()) {
            return &call;
        }
    }
    return nullptr;
}

inline std::optional<std::size_t> Oracle::own_fault(const RequestFacts& request, const CallFacts& call) const {
    if (call.is_part()) {
        return call.at < call.rows.size() ? std::optional(static_cast<std::size_t>(call.rows[call.at])) : std::nullopt;
    }
    std::size_t first = 0;
    for (const int id : call.requests) {
        const auto rows = static_cast<std::size_t>(requests[index(id)].rows);
        if (id == request.id) {
            return call.at >= first && call.at - first < rows ? std::optional(call.at - first) : std::nullopt;
        }
        first += rows;
    }
    return std::nullopt;
}

inline bool Oracle::has_answer(const RequestFacts& request) const {
    if (request.calls.empty()) {
        return false;
    }
    for (int row = 0; request.is_cut && row < request.rows; ++row) {
        if (part_with(request, row) == nullptr) {
            return false;
        }
    }
    const CallFacts& last = last_call(request);
    return request.is_cut || last.ending == Ending::sound || (last.ending == Ending::nan && !own_fault(request, last));
}

inline bool Oracle::is_failed(const RequestFacts& request) const {
    if (request.calls.empty()) {
        return false;
    }
    if (request.is_cut) {
        return std::any_of(request.calls.begin(), request.calls.end(), [&](int id) {
            const CallFacts& part = calls[index(id)];
            return part.has_failed() && part.ending != Ending::nan && part.ending != Ending::too_few &&
                   part.ending != Ending::too_many;
        });
    }
    const CallFacts& last = last_call(request);
    const bool alone = last.requests.size() == 1;
    switch (last.ending) {
        case Ending::threw:
        case Ending::names_none: return alone || maybe_closed(request, last);
        case Ending::names_text: return alone || maybe_closed(request, last) || own_fault(request, last);
        case Ending::busy: return true;
        case Ending::out_of_memory: return alone;
        default: return false;
    }
}

inline bool Oracle::is_spoiled(const RequestFacts& request) const {
    if (request.calls.empty()) {
        return false;
    }
    if (request.is_cut) {
        return std::any_of(request.calls.begin(), request.calls.end(), [&](int id) {
            const Ending ending = calls[index(id)].ending;
            return ending == Ending::nan || ending == Ending::too_few || ending == Ending::too_many;
        });
    }
    const CallFacts& last = last_call(request);
    const bool has_wrong_rows = last.ending == Ending::too_few || last.ending == Ending::too_many;
    return (has_wrong_rows && (last.requests.size() == 1 || maybe_closed(request, last))) ||
           (last.ending == Ending::nan && own_fault(request, last));
}

inline void Oracle::see_failure(const RequestFacts& request) {
    if (request.calls.empty() || last_call(request).requests.size() == 1) {
        return;
    }
    const CallFacts& last = last_call(request);
    if (last.ending == Ending::busy) {
        see(Sight::busy_ends_all);
    } else if (last.ending == Ending::nan) {
        see(Sight::nan_of_one);
    } else if (last.ending != Ending::names_text || !own_fault(request, last)) {
        see(Sight::closed_ends_all);
    }
}

inline bool Oracle::is_unseen(const RequestFacts& request) const {
    return request.kind == Kind::call && request.calls.empty() && request.stage == Stage::inference;
}

inline bool Oracle::surely_first(const RequestFacts& request) const {
    return !request.calls.empty() && calls[index(request.calls.front())].requests.front() == request.id &&
           std::none_of(requests.begin(), requests.end(), [&](const RequestFacts& other) {
               return other.slot == request.slot && other.key == request.key && is_unseen(other);
           });
}

inline void Oracle::check_counters(int slot, const SlotCounters& counters) {
    const SlotFacts& facts = slots[index(slot)];
    std::uint64_t unseen = 0;
    std::uint64_t texts = 0;
    for (const RequestFacts& request : requests) {
        if (request.slot == slot && is_unseen(request)) {
            ++unseen;
            texts += static_cast<std::uint64_t>(request.rows);
        }
    }
    // Parts may have been given that no model saw, because their request was complete.
    std::uint64_t maybe = 0;
    for (const RequestFacts& request : requests) {
        const bool may_be_cut = request.is_cut || is_unseen(request);
        maybe += request.slot == slot && request.code && may_be_cut ? static_cast<std::uint64_t>(request.rows) : 0;
    }
    maybe = facts.has_parts || maybe != 0 ? maybe : 0;
    require(counters.batches >= facts.batches && counters.batches <= facts.batches + unseen + maybe,
            "the counter of batches is not what the models saw, slot ", slot);
    require(counters.texts >= facts.texts && counters.texts <= facts.texts + texts + maybe,
            "the counter of texts is not what the models saw, slot ", slot);
    if (unseen == 0 && maybe == 0 && facts.has_joint_calls) {
        require(counters.texts == facts.texts, "the counter of texts is not what the models saw, slot ", slot);
        see(Sight::counters_agree);
    }
}

}  // namespace residency::simulation

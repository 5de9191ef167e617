#pragma once

#include "simulation/oracle.hpp"

// What a request may be answered, by what was asked and what happened meanwhile.

namespace residency::simulation {

/// The failure of a fake's that is nested in an error, if there is one: that it does not know a size, or any other.
[[nodiscard]] inline std::optional<FakeSizeFailure> nested_size_failure(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& outer) {
        try {
            std::rethrow_if_nested(outer);
        } catch (const FakeSizeFailure& failure) {
            return failure;
        } catch (...) {
            return std::nullopt;
        }
    } catch (...) {
        return std::nullopt;
    }
    return std::nullopt;
}
[[nodiscard]] inline std::optional<FakeFailure> nested_failure(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& outer) {
        try {
            std::rethrow_if_nested(outer);
        } catch (const FakeFailure& failure) {
            return failure;
        } catch (const FakeShortage& shortage) {
            return FakeFailure(shortage.serial, false);
        } catch (const FakeError& named) {
            return FakeFailure(named.serial, false);
        } catch (...) {
            return std::nullopt;
        }
    } catch (...) {
        return std::nullopt;
    }
    return std::nullopt;
}

inline void Oracle::check_answer(RequestFacts& request, const std::exception_ptr& error, const ShutdownReport* report,
                                 Time now) {
    const SlotFacts& facts = slots[index(request.slot)];
    const std::string who = "request " + std::to_string(request.id);
    const bool nothing_to_do = request.kind == Kind::call && request.rows == 0;
    // Of what is refused at once it is known beforehand.
    const bool asks = request.wants_model() && !request.invalid && !nothing_to_do && !request.closing_at_call &&
                      !request.options.expected_generation && !request.resident_at_call;
    require(request.asked == 1 || (request.asked == 0 && !asks), "H5: a backend was not asked once, " + who);
    require(request.asked == 0 || request.overtaken || !request.resident_at_call,
            "H5: a backend was asked about a resident's key, " + who);
    if (!error) {
        require(!request.denied || request.overtaken || request.load_may_begin,
                "H5: a request for an unknown key succeeded, " + who);
        require(!asks || request.overtaken || (!request.cooling_at_call && !request.full_at_call),
                "H5: a request succeeded that had to be refused, " + who);
        require(!request.invalid, "H5: a request that is not valid succeeded, " + who);
        const bool bare = request.kind == Kind::acquire || request.kind == Kind::ensure;
        require(!bare || request.posted == 0 || request.decided_time < request.due() ||
                    request.begun == request.decided_time,
                "H14: granted past its deadline, " + who);
        require(!request.wants_model() || !request.closed_at_call, "R12: a request after shutdown succeeded, " + who);
        if (request.kind == Kind::call && !nothing_to_do) {
            require(has_answer(request), "R9: an answer without a sound call, " + who);
        }
        if (request.options.expected_generation && !nothing_to_do) {
            require(*request.options.expected_generation != Generation{}, "H8: answered by no generation, " + who);
            require(request.granted == Generation{} || request.granted == *request.options.expected_generation,
                    "H8: answered by another generation, " + who);
        }
        if (request.kind == Kind::unload) {
            for (const ModelFacts& model : models) {
                const bool meant = model.slot == request.slot && (request.key == no_key || model.key == request.key) &&
                                   model.begun < request.sequence;
                require(!meant || model.state == ModelFacts::State::gone || model.state == ModelFacts::State::failed,
                        "an unload completed and its model is still there, " + who);
            }
        }
        if (report != nullptr && (report->clean() || request.revokes)) {
            check_posted_before(request);
        }
        if (report != nullptr && report->clean()) {
            for (int slot = 0; slot < 2; ++slot) {
                if (request.both_slots || request.slot == slot) {
                    const SlotFacts& ended = slots[index(slot)];
                    require(ended.alive == 0 && ended.loading == 0 && ended.held == 0 && ended.calling == 0,
                            "R12: a clean shutdown, and something is left, " + who);
                }
            }
        } else if (report != nullptr) {
            require(request.due() <= now || destroyed, "H9: a shutdown gave up before its deadline, " + who);
        }
        return;
    }
    boost::system::error_code code;
    Stage stage = Stage::admission;
    std::optional<std::chrono::milliseconds> retry_after;
    std::optional<std::size_t> text;
    try {
        std::rethrow_exception(error);
    } catch (const Error& typed) {
        code = typed.code();
        stage = typed.stage();
        retry_after = typed.retry_after();
        text = typed.text_index();
    } catch (...) {
        violate("R9: an error that is no residency::Error, " + who);
        return;
    }
    require(std::find(errors.begin(), errors.end(), error) == errors.end(),
            "one exception object for two requests, " + who);
    errors.push_back(error);
    request.code = code;
    request.stage = stage;
    if (is_unseen(request)) {
        see(Sight::left_out_before);
    }
    if (code == operation_aborted()) {
        require(request.may_be_cancelled, "aborted, and it was not cancelled, " + who);
    } else if (code == errc::invalid_request) {
        require(request.invalid || code_thrown_by_load(request), "H5: a valid request is called invalid, " + who);
    } else if (code == errc::shutting_down) {
        const bool any_closing = facts.closing || (request.both_slots && slots[1].closing) || destroyed;
        require(any_closing, "shutting_down, and nothing shuts down, " + who);
        require(request.calls.empty() || request.is_cut || destroyed || facts.revoking,
                "H9: shutting_down for a call that runs, and no deadline revokes it, " + who);
        require(request.wants_model() || destroyed, "shutting_down for an unload, and the slot lives, " + who);
    } else if (code == errc::model_changed) {
        const bool revoked = request.kind == Kind::call && facts.keys[index(request.key)].revoke > request.sequence;
        require(revoked || request.options.expected_generation.has_value(), "H8: model_changed for no reason, " + who);
    } else if (code == errc::unknown_model) {
        require(request.denied, "H5: unknown_model, and the backend knows the key, " + who);
        require(stage == Stage::admission && !retry_after, "unknown_model late, or to be tried again, " + who);
        see(Sight::denied);
    } else if (code == errc::cooling_down) {
        require(request.overtaken || (request.maybe_cooling_at_call && !request.resident_at_call),
                "R11: cooling_down for no reason, " + who);
        require(retry_after.has_value(), "cooling_down without retry_after, " + who);
        require(stage == Stage::admission, "cooling_down late, " + who);
    } else if (code == errc::overloaded) {
        // A backend is asked, and what a request needs to be cut is made, without the mutex: others may come meanwhile.
        const bool others_came = std::any_of(requests.begin(), requests.end(), [&](const RequestFacts& other) {
            return (request.rows > 1 || request.asked != 0) && other.slot == request.slot &&
                   other.sequence > request.sequence && (request.returned == 0 || other.sequence < request.returned);
        });
        require(request.maybe_full_at_call || others_came,
                "R8: overloaded though there was a place in the queue, " + who);
        require(stage == Stage::admission, "overloaded late, " + who);
    } else if (code == errc::timed_out) {
        require(request.due() <= now, "timed out before its timeout, " + who);
        require(stage != Stage::inference || request.kind == Kind::call,
                "timed out in a call that it does not make, " + who);
    } else if (code == errc::insufficient_memory) {
        const KeyFacts& key = facts.keys[index(request.key)];
        const bool thrown = std::any_of(models.begin(), models.end(), [&](const ModelFacts& model) {
            return model.says_lacking && model.slot == request.slot && model.key == request.key;
        });
        require(memory.limited && (thrown || key.impossible >= request.quiet_before),
                "H35: insufficient_memory, and it could be had, " + who);
        see(Sight::without_memory);
    } else if (code == errc::load_failed && nested_size_failure(error)) {
        const FakeSizeFailure failure = *nested_size_failure(error);
        require(failure.slot == request.slot && failure.key == request.key,
                "R11: failed because another key's size is not known, " + who);
        require(retry_after.has_value(), "load_failed without retry_after, " + who);
        see(Sight::size_failed);
    } else if (code == errc::load_failed) {
        const auto failure = nested_failure(error);
        if (!failure) {
            // A null model: the library's own words.
            require(null_models != 0, "load_failed without a cause, " + who);
            return;
        }
        const ModelFacts& model = models[index(failure->serial - 1)];
        require(model.slot == request.slot && model.key == request.key, "R11: failed with another key's load, " + who);
        require(!failure->stopped, "H1: an aborted load is called a failure, " + who);
        require(retry_after.has_value(), "load_failed without retry_after, " + who);
    } else if (code == errc::inference_failed) {
        require(is_failed(request), "R14: inference_failed without a failure of its own, " + who);
        const CallFacts* failed = request.calls.empty() ? nullptr : &last_call(request);
        for (const int id : request.calls) {
            const CallFacts& call = calls[index(id)];
            // Of the parts that failed, the first to end failed the request.
            if (request.is_cut && call.has_failed() && (!text || own_fault(request, call) == text)) {
                failed = &call;
            }
        }
        const bool named = failed != nullptr && failed->ending == Ending::names_text;
        require(!text || (named && text == own_fault(request, *failed)),
                "H30: an error names another text than the one at fault, " + who);
        require(text || !named || request.is_cut || maybe_closed(request, *failed),
                "H30: an error does not name the text at fault, " + who);
        see_failure(request);
        const auto failure = nested_failure(error);
        require(failure && failed != nullptr && (request.is_cut || failure->serial == request.model),
                "inference_failed with another's cause, " + who);
    } else if (code == errc::bad_result) {
        require(is_spoiled(request), "R14: bad_result for a sound answer, " + who);
        see_failure(request);
    } else {
        violate("an error that no request can have: " + code.message() + ", " + who);
    }
    if (request.overtaken || (request.denied && request.load_may_begin)) {
        // What is known of the slot is from before others came, or before a load began.
    } else if (request.denied) {
        require(code == errc::unknown_model, "H5: an unknown key failed with something else, " + who);
    } else if (asks && (request.cooling_at_call || (request.full_at_call && !request.maybe_cooling_at_call))) {
        const bool too_large = memory.limited && !request.cooling_at_call && code == errc::insufficient_memory;
        require(too_large || code == (request.cooling_at_call ? errc::cooling_down : errc::overloaded),
                "H5: a request that had to be refused failed with something else, " + who);
    }
    if (request.closed_at_call && request.wants_model() && !request.invalid) {
        require(code == errc::shutting_down, "H5: a request after shutdown failed with something else, " + who);
    }
    if (request.invalid) {
        require(code == errc::invalid_request, "H5: a request that is not valid failed with something else, " + who);
    }
}

/// Whether a call may have completed before its model returned.
inline bool Oracle::may_end_early(const RequestFacts& request, Time now) const {
    const SlotFacts& facts = slots[index(request.slot)];
    return destroyed || facts.revoking || request.may_be_cancelled || request.due() <= now ||
           facts.keys[index(request.key)].revoke > request.sequence;
}

inline bool Oracle::code_thrown_by_load(const RequestFacts& request) const {
    return std::any_of(models.begin(), models.end(), [&](const ModelFacts& model) {
        return model.refused && model.slot == request.slot && model.key == request.key;
    });
}

}  // namespace residency::simulation

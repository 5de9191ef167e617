#pragma once

#include "residency/embeddings.hpp"
#include "residency/error.hpp"
#include "residency/ranking.hpp"
#include "residency/status.hpp"
#include "stress/facts.hpp"
#include "stress/held.hpp"
#include "stress/tally.hpp"
#include "stress/witness.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <utility>

namespace residency::stress {

/// Says of what each request was given whether that can be.
class Judge {
public:
    Judge(Witness& witness, Tally& tally, const Requests& requests)
        : witness_(witness), tally_(tally), requests_(requests) {}

    // -- Success ------------------------------------------------------------------------------------------------------

    void succeeded(const RequestFacts& request, const Embeddings& answer) {
        served(request);
        require(answer.size() == request.rows, "R11: a wrong number of rows");
        for (std::size_t row = 0; row < answer.size(); ++row) {
            require(answer[row][0] == value_of({request.id, static_cast<std::uint32_t>(row)}) && answer[row][1] == 1,
                    "R14: another request's row, or another text's");
        }
        answered(request);
    }
    void succeeded(const RequestFacts& request, const Ranking& answer) {
        served(request);
        require(answer.size() == request.rows, "R11: a wrong number of scores");
        for (std::size_t rank = 0; rank < answer.size(); ++rank) {
            require(answer[rank].index == answer.size() - 1 - rank &&
                        answer[rank].score == value_of({request.id, static_cast<std::uint32_t>(answer[rank].index)}),
                    "R14: another request's score, or in a wrong order");
        }
        answered(request);
    }
    template <std::uint32_t Slot>
    Held<Slot> succeeded(const RequestFacts& request, Lease<StressedModel<Slot>> lease) {
        served(request);
        require(static_cast<bool>(lease), "R9: success without a lease");
        Held<Slot> held(witness_, std::move(lease));
        require(held.facts().slot == request.slot && held.facts().key == request.key, "R11: a lease on another model");
        held.look();
        expected(request, held.facts());
        return held;
    }
    void succeeded(const RequestFacts& request, Generation generation) {
        served(request);
        require(generation != Generation{}, "R6: ensure_loaded without a generation");
        require(!request.options.expected_generation || *request.options.expected_generation == generation,
                "H8: another generation than was expected");
        witness_.used(request.slot, generation, request.begun);
    }
    /// An unload.
    void succeeded(const RequestFacts& request) {
        count(0);
        require(request.before == nullptr || request.before->gone.get(),
                "H8: an unload completed, and the model is not gone");
    }
    void succeeded(const RequestFacts& request, const ShutdownReport& report) {
        count(0);
        require(report.clean() || request.deadline || witness_.ending.get(),
                "H9: a shutdown without a deadline left something");
        if (report.clean()) {
            for (const Witness::Slot& slot : witness_.slots) {
                require(slot.residents.get() == 0 && slot.leases.get() == 0 && slot.loading.get() == 0,
                        "R12: a clean shutdown left something");
            }
            check_posted(request);
            witness_.clean.set(true);
        } else if (!witness_.ending.get()) {
            require(Clock::now() >= request.begun + request.deadline.value_or(std::chrono::milliseconds(0)),
                    "H9: a shutdown that is not clean completed before its deadline");
        }
    }

    // -- Failure ------------------------------------------------------------------------------------------------------

    void failed(RequestFacts& request, const std::exception_ptr& exception) {
        try {
            std::rethrow_exception(exception);
        } catch (const Error& error) {
            require(!request.of_key || !request.wants_model() || request.invalid || error.key() == key_of(request.key),
                    "an error that names another key");
            witness_.box.note(Note::failed, request.slot, request.key,
                              static_cast<std::uint32_t>(error.code().value()));
            if (error.stage() == Stage::inference) {
                request.was_unseen.set(request.is_call() && request.calls.get() == 0);
                ended_early(request, error);
            }
            if (error.code() == operation_aborted()) {
                tally_.outcomes.back().count();
                require(request.cancelled.get(), "operation_aborted without a cancellation");
            } else {
                count(static_cast<std::size_t>(error.code().value()));
                judge(request, error, static_cast<errc>(error.code().value()));
            }
        } catch (...) {
            require(false, "an error that is no residency::Error");
        }
    }

private:
    void require(bool holds, const char* sentence) noexcept { witness_.require(holds, sentence); }
    void count(std::size_t outcome) noexcept { tally_.outcomes.at(outcome).count(); }

    // R12: the handler of each request whose call returned before the shutdown was started is posted before the
    // shutdown's.
    void check_posted(const RequestFacts& shutdown) {
        for (const RequestFacts& request : requests_) {
            const std::uint64_t position = request.position.get();
            // A shutdown has no such position: where it was started does not say that it was by then.
            if (position == 0 || position > shutdown.started) {
                continue;
            }
            if (request.is_noted.get()) {
                tally_.did(Deed::posts_checked);
                require(request.posted.get(),
                        "R12: a clean shutdown completed before the handler of an earlier request was posted");
            } else if (request.loop.get() != nullptr && request.loop.get() == shutdown.loop.get()) {
                tally_.did(Deed::posts_checked);
                require(request.ends.get() != 0,
                        "R12: a clean shutdown completed before an earlier request on the same single thread");
            }
        }
    }
    // It completed before its model returned.
    void ended_early(const RequestFacts& request, const Error& error) noexcept {
        if (request.was_unseen.get()) {
            tally_.did(Deed::left_before_call);
        } else if (request.together.get() > 1 && witness_.may_end_early(request) &&
                   error.code() != errc::inference_failed && error.code() != errc::bad_result) {
            tally_.did(Deed::left_joint_call);
        }
        if (error.code() == operation_aborted()) {
            tally_.did(Deed::early_cancel);
        } else if (error.code() == errc::timed_out) {
            tally_.did(Deed::early_timeout);
        } else if (error.code() == errc::model_changed) {
            tally_.did(Deed::early_revoke);
        }
    }
    void served(const RequestFacts& request) {
        count(0);
        require(!request.after_shutdown, "R12: a request was served that came after a shutdown");
        require(!request.invalid, "an invalid request was served");
    }
    void answered(const RequestFacts& request) {
        if (request.is_cut.get()) {
            require(request.served_texts.get() == request.all_texts() && request.failed.get() == 0,
                    "R14: a request completed before all of its parts had, or though one failed");
        } else {
            require(request.fate.get() == (request.rows == 0 ? Fate::none : Fate::served),
                    "R9: an answer without a call, or a call for nothing");
        }
        if (ModelFacts* const model = request.answered_by.get()) {
            expected(request, *model);
        }
    }
    void expected(const RequestFacts& request, ModelFacts& model) {
        if (request.options.expected_generation && request.rows != 0) {
            witness_.know(model, *request.options.expected_generation);
        }
    }

    void judge(const RequestFacts& request, const Error& error, errc code) {
        const Witness::Slot& slot = witness_.slots.at(request.slot);
        const Witness::Key& key = slot.keys.at(request.key);
        require(!request.after_shutdown || !request.wants_model() || code == errc::shutting_down || request.invalid,
                "R12: a request after a shutdown was not refused");
        require(request.wants_model() || code == errc::shutting_down, "an unload or a shutdown that failed");
        if (code == errc::shutting_down && request.wants_model()) {
            witness_.slots.at(request.slot).refused.set(true);
        }
        switch (code) {
            case errc::invalid_request:
                require(request.invalid || (key.refusals.get() != 0 && cause_of(error).refusal),
                        "invalid_request for a valid one");
                break;
            case errc::overloaded: break;
            case errc::timed_out:
                require(request.options.timeout && Clock::now() >= request.begun + *request.options.timeout,
                        "timed_out before the timeout");
                require(error.stage() == Stage::queue || error.stage() == Stage::load || request.is_call() ||
                            (error.stage() == Stage::memory && witness_.memory_limit != 0),
                        "timed_out in a wrong stage");
                break;
            case errc::load_failed: {
                ModelFacts* const load = cause_of(error).load;
                require(load != nullptr && load->slot == request.slot && load->key == request.key,
                        "R11: load_failed by another's failure");
                if (load != nullptr) {
                    witness_.failure_seen(*load);
                }
                break;
            }
            case errc::cooling_down:
                require(key.failures.get() != 0 && slot.options.cooldown.count() != 0,
                        "R11: cooling_down without a failure");
                require(error.retry_after() &&
                            *error.retry_after() <= slot.options.max_cooldown + std::chrono::milliseconds(1),
                        "R11: cooling_down for longer than max_cooldown");
                break;
            case errc::inference_failed:
                if (request.is_cut.get()) {
                    require(failed_part(request, error, cause_of(error).call, false),
                            "R14: inference_failed, and no part failed like this");
                    break;
                }
                require(request.fate.get() == Fate::failed || was_closed_on(request),
                        "R14: inference_failed, and its call did not fail for it");
                require(cause_of(error).call == request.call.get(), "R11: inference_failed by another's failure");
                require(error.text_index() == named(request) || was_closed_on(request),
                        "H30: another text is named than the one at fault");
                break;
            case errc::bad_result:
                if (request.is_cut.get()) {
                    require(failed_part(request, error, {}, true),
                            "R14: bad_result, and the rows of each part were sound");
                    break;
                }
                require(request.fate.get() == Fate::spoiled || was_closed_on(request),
                        "R14: bad_result, and its rows were sound");
                break;
            case errc::model_changed:
                require(request.options.expected_generation || (request.is_call() && slot.revokes.get() != 0),
                        "model_changed without expectation or revoke");
                break;
            case errc::shutting_down:
                require(request.wants_model() ? witness_.closing.get() : witness_.ending.get(),
                        "shutting_down without a shutdown");
                break;
            case errc::would_deadlock: require(false, "would_deadlock where nothing could hang"); break;
            case errc::unknown_model:
                require(key.denials.get() != 0, "unknown_model, and the backend always knew the key");
                require(error.stage() == Stage::admission, "unknown_model late");
                break;
            case errc::insufficient_memory:
                // The limit is lowered now and then, below what some keys need. A request of which a part has run may
                // have to wait for another residency (H28).
                require(witness_.memory_limit != 0, "insufficient_memory without a budget");
                require(error.stage() == Stage::admission || error.stage() == Stage::memory ||
                            (error.stage() == Stage::inference && request.is_call()),
                        "insufficient_memory in a wrong stage");
                break;
        }
    }

    // Whether its joint call failed, and may not have been repeated because the slot was closed.
    [[nodiscard]] bool was_closed_on(const RequestFacts& request) const {
        const Fate fate = request.fate.get();
        return witness_.closing.get() && request.together.get() > 1 && fate != Fate::served && fate != Fate::none;
    }
    // Whether a part of the request failed like this.
    [[nodiscard]] static bool failed_part(const RequestFacts& request, const Error& error,
                                          std::optional<std::uint32_t> call, bool is_spoiled) {
        return std::any_of(request.failed_parts.begin(), request.failed_parts.end(), [&](const FailedPart& part) {
            const int named = part.faulty.get();
            return part.call.get() != 0 && part.is_spoiled.get() == is_spoiled &&
                   (is_spoiled || (call == part.call.get() &&
                                   error.text_index() ==
                                       (named < 0 ? std::nullopt : std::optional(static_cast<std::size_t>(named)))));
        });
    }
    [[nodiscard]] static std::optional<std::size_t> named(const RequestFacts& request) {
        const int index = request.faulty.get();
        return index < 0 ? std::nullopt : std::optional(static_cast<std::size_t>(index));
    }

    // The fake's exception within the error, if it is there; or whether it is the fake's refusal.
    struct Cause {
        ModelFacts* load = nullptr;
        std::optional<std::uint32_t> call{};
        bool refusal = false;
    };
    static Cause cause_of(const Error& error) {
        Cause cause;
        try {
            std::rethrow_if_nested(error);
        } catch (const FakeFailure& failure) {
            cause.load = failure.load;
            if (failure.load == nullptr) {
                cause.call = failure.call;
            }
        } catch (const FakeShortage& shortage) {
            cause.load = shortage.load;
            if (shortage.load == nullptr) {
                cause.call = shortage.call;
            }
        } catch (const FakeError& error_of_call) {
            cause.call = error_of_call.call;
        } catch (const Error& refusal) {
            cause.refusal = refusal.code() == errc::invalid_request && refusal.key() == error.key();
        } catch (...) {  // NOLINT(bugprone-empty-catch): another's exception is no cause of ours
        }
        return cause;
    }

    Witness& witness_;
    Tally& tally_;
    const Requests& requests_;
};

}  // namespace residency::stress

#pragma once

#include "residency/core/slab.hpp"
#include "residency/core/text_lengths.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"
#include "residency/runtime/asio.hpp"
#include "residency/runtime/user_code_scope.hpp"
#include "residency/shell/async_call.hpp"
#include "residency/shell/call_members.hpp"
#include "residency/shell/call_part.hpp"
#include "residency/shell/inference_job.hpp"
#include "residency/shell/resident_record.hpp"
#include "residency/shell/slot_base.hpp"
#include "residency/shell/waiter.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace residency::detail {

/// Throws bad_result.
[[noreturn]] inline void bad_result(const std::string& detail) {
    throw Error(errc::bad_result, ModelKey(), Stage::inference, detail);
}
/// The same for one text of the call.
[[noreturn]] inline void bad_result(const std::string& detail, std::size_t text) {
    throw Error(errc::bad_result, ModelKey(), Stage::inference, detail).at_text(text);
}

/// Whether a model that gives `Given` answers asynchronously.
template <class Given>
constexpr bool is_given_later() {
    if constexpr (requires { typename Given::executor_type; }) {
        static_assert(std::is_convertible_v<asio::any_io_executor, typename Given::executor_type>,
                      "what an asynchronous model gives must take boost::asio::any_io_executor as its executor, as "
                      "boost::asio::awaitable does by default");
        return true;
    } else {
        return false;
    }
}

/// Moves the texts of a part out of those of its request.
[[nodiscard]] inline std::vector<std::string> take_texts(std::vector<std::string>& from,
                                                         const core::TextLengths& lengths, std::size_t first,
                                                         std::size_t count) {
    std::vector<std::string> texts;
    texts.reserve(count);
    for (std::size_t place = first; place < first + count; ++place) {
        texts.push_back(std::move(from[lengths[place]]));
    }
    return texts;
}

/// How many bytes the texts have, and `more`; the most that can be said if they are too many.
[[nodiscard]] inline core::Index bytes_of(std::span<const std::string> texts, std::size_t more = 0) noexcept {
    std::uint64_t sum = more;
    for (const std::string& text : texts) {
        sum += text.size();
    }
    return static_cast<core::Index>((std::min)(sum, std::uint64_t{(std::numeric_limits<core::Index>::max)()}));
}

/// A hash of the texts, and of what `seed` is of.
[[nodiscard]] inline std::size_t hash_of(std::span<const std::string> texts, std::size_t seed) noexcept {
    for (const std::string& text : texts) {
        seed = seed * 31 + std::hash<std::string>()(text);
    }
    return seed;
}

/// The text that an exception says is at fault, or none.
[[nodiscard]] inline std::optional<std::size_t> text_index_of(const std::exception_ptr& thrown) noexcept {
    try {
        std::rethrow_exception(thrown);
    } catch (const Error& error) {
        return error.text_index();
    } catch (...) {
        return std::nullopt;
    }
}

template <class Work>
class SharedCall;
template <class Work>
class PartCall;

/// A request for a model call, whatever its handler: takes a lease, has its work call the model on the inference
/// executor, gives the lease back, and then completes. It owns what the call needs until the model has returned, also
/// if it completed early. Where others have joined it, it does that for all of them.
template <class Work>
class ModelCall : public InferenceWaiter {
public:
    using Result = typename Work::result_type;

    /// What became of a call.
    struct Answer {
        Result result{};
        /// Why there is none.
        std::exception_ptr error{};
    };

    ModelCall(std::shared_ptr<SlotBase> slot, Work&& of, core::Index bytes)
        : InferenceWaiter(of.size(), bytes, of.kind(), Work::stoppable), work(std::move(of)), slot_(std::move(slot)) {
        can_be_cut = Work::splits && own_texts > 1;
    }

    /// Has the handler called.
    virtual void complete(std::exception_ptr error, Result result) noexcept = 0;

    void granted() noexcept override {
        if constexpr (Work::may_be_asynchronous) {
            if (answers_asynchronously(*record)) {
                begin<SharedCall<Work>>(*this);
                return;
            }
        }
        post_call(slot_->inference(), this);
    }
    void failed(std::exception_ptr error) noexcept override { complete(std::move(error), Result()); }

    void run() noexcept override {
        if constexpr (!Work::is_asynchronous) {
            began = slot_->time_for_events();
            if constexpr (Work::joins) {
                if (next_in_call) {
                    make_calls(SharedCall<Work>(*this), slot_->delivery().owner);
                    return;
                }
            }
            Result result{};
            std::exception_ptr error;
            // Skip the model if the handler already completed while this waited for a thread.
            if (!completed_early) {
                const runtime::UserCodeScope scope(slot_->delivery().owner);
                try {
                    result = work.result_of(work.template call<false>(
                        *static_cast<typename Work::model_type*>(record->model), work.own(), stop_token()));
                } catch (...) {
                    error = failure(std::current_exception());
                }
            }
            end(std::move(error), std::move(result));
        }
    }
    void dropped() noexcept override {
        if (next_in_call) {
            SharedCall<Work> calls(*this);
            calls.drop();
            calls.end();
        } else {
            end(was_dropped(), Result());
        }
    }

    void prepare_parts() override {
        if constexpr (Work::splits) {
            parts_ = std::make_unique<Parts>(work, (std::min)(std::size_t{own_texts}, slot_->max_calls()));
            cut = parts_.get();
        }
    }

    void start_part(CallPart& part) noexcept override {
        if constexpr (Work::splits && Work::may_be_asynchronous) {
            if (answers_asynchronously(*part.record)) {
                begin<PartCall<Work>>(part);
                return;
            }
        }
        post_part(slot_->inference(), part);
    }
    void run_part(CallPart& part) noexcept override {
        if constexpr (Work::splits && !Work::is_asynchronous) {
            make_calls(PartCall<Work>(part), slot_->delivery().owner);
        }
    }
    void part_dropped(CallPart& part) noexcept override { end_part(part, was_dropped()); }

    // -- What SharedCall and PartCall need --

    /// The next that joined the same call, or null.
    [[nodiscard]] ModelCall* next() const noexcept { return static_cast<ModelCall*>(next_in_call.get()); }

    /// The error of a request whose own call threw, published as an event. A text that it does not have is not named.
    [[nodiscard]] std::exception_ptr failure(const std::exception_ptr& thrown) noexcept {
        const std::optional<std::size_t> index = text_index_of(thrown);
        return failure(thrown, index && *index < own_texts ? index : std::nullopt);
    }
    /// The same for a shared call. `index` is the text of the request's that is at fault, if it is known.
    [[nodiscard]] std::exception_ptr failure(const std::exception_ptr& thrown,
                                             std::optional<std::size_t> index) noexcept {
        try {
            boost::system::error_code kept = make_error_code(errc::inference_failed);
            std::optional<std::chrono::milliseconds> try_again;
            const std::string message = message_of(thrown);
            // A model that throws because it was asked to stop has not failed.
            if (!completed_early) {
                slot_->report_inference_failure(*this, message);
            }
            try {
                std::rethrow_exception(thrown);
            } catch (const Error& error) {
                // One of success is no reason.
                kept = error.code() ? error.code() : kept;
                try_again = error.retry_after();
            } catch (...) {  // NOLINT(bugprone-empty-catch): only an Error has a code to keep
            }
            const Error error(kept, *record->key, Stage::inference, message, try_again);
            return make_error(index ? error.at_text(*index, Work::noun) : error, thrown);
        } catch (...) {
            return std::current_exception();
        }
    }

    /// The error of a request whose call the inference executor did not run.
    [[nodiscard]] std::exception_ptr was_dropped() const noexcept {
        return make_error_of([this] {
            return Error(errc::inference_failed, *record->key, Stage::inference,
                         "the inference executor did not run the call");
        });
    }

    /// Ends the call of this and all that joined it: gives the lease back, and completes them.
    void end_shared() noexcept {
        completes = slot_->finish(*this);
        boost::intrusive_ptr<InferenceWaiter> each = this;
        while (each) {
            auto& call = static_cast<ModelCall&>(*each);
            if (call.completes) {
                call.complete(std::move(call.answer.error), std::move(call.answer.result));
                slot_->delivered();
            }
            each = std::move(call.next_in_call);
        }
    }

    /// Ends a part: gives its lease back, and completes the request if that was the last, or if it has failed.
    void end_part(CallPart& part, std::exception_ptr failed_with) noexcept {
        if (slot_->finish_part(part, failed_with != nullptr)) {
            Result given{};
            if (!failed_with) {
                given = parts_->assembly.finish();
            }
            complete(std::move(failed_with), std::move(given));
            slot_->delivered();
        }
    }

    /// What the ended parts gave.
    [[nodiscard]] auto& assembly() noexcept { return parts_->assembly; }
    /// The slot.
    [[nodiscard]] SlotBase& slot() const noexcept { return *slot_; }

    /// What the call is about. Texts are moved out while a call is shared or runs for a part.
    Work work;
    /// What a shared call gave it.
    Answer answer{};
    /// Where it stands in a shared call.
    Turn turn = Turn::waits;

private:
    // What it needs to be cut.
    struct Parts : CutRequest {
        Parts(const Work& work, std::size_t most) : CutRequest(work.cut_texts(), most), assembly(work) {}
        typename Work::Assembly assembly;
    };

    // Whether the model on `on` does.
    [[nodiscard]] static bool answers_asynchronously(const ResidentRecord& on) noexcept {
        if constexpr (Work::is_asynchronous) {
            return true;
        } else {
            return static_cast<const typename Work::model_type*>(on.model)->answers_asynchronously();
        }
    }

    // Has the model called asynchronously, for this and all that joined it, or for a part.
    template <class Calls, class Of>
    void begin(Of& of) noexcept {
        std::shared_ptr<AsyncCall<Calls>> call;
        try {
            call = std::make_shared<AsyncCall<Calls>>(this, *slot_, of);
        } catch (...) {
            Calls calls(of);
            calls.drop();
            calls.end();
            return;
        }
        call->begin();
    }

    void end(std::exception_ptr failed_with, Result given) noexcept {
        if (slot_->finish(*this)) {
            complete(std::move(failed_with), std::move(given));
            slot_->delivered();
        }
    }

    std::shared_ptr<SlotBase> slot_;
    std::unique_ptr<Parts> parts_{};
};

}  // namespace residency::detail

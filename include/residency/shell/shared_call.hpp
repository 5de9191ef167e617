#pragma once

#include "residency/error.hpp"
#include "residency/error_code.hpp"
#include "residency/runtime/user_code_scope.hpp"
#include "residency/shell/model_call.hpp"
#include "residency/shell/slot_base.hpp"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <new>
#include <optional>
#include <span>
#include <vector>

namespace residency::detail {

/// One model call for several requests: the first and all that joined it. Each gets what is its own. What fails because
/// of one request fails that request alone, as far as it can be found out by calling the model again (DESIGN.md H30):
///
///  1. Out of memory: the requests are halved, and each half has a call.
///  2. The error says that the model could not work now, or the slot is closed: all requests fail.
///  3. The error names a text: its request fails, and the others have a call.
///  4. Else each request has a call of its own, until the slot is closed.
///
/// A request that has completed early meanwhile is left out.
template <class Work>
class SharedCall {
public:
    using Call = ModelCall<Work>;

    explicit SharedCall(Call& first) noexcept
        : first_(first), model_(*static_cast<typename Work::model_type*>(first.record->model)) {}

    /// Calls the model, and leaves with each request its result or its error.
    void run() noexcept {
        const runtime::UserCodeScope scope(first_.slot().delivery().owner);
        std::vector<Call*> calls;
        try {
            std::size_t count = 0;
            for (Call* each = &first_; each != nullptr; each = each->next()) {
                ++count;
            }
            calls.reserve(count);
            for (Call* each = &first_; each != nullptr; each = each->next()) {
                calls.push_back(each);
            }
        } catch (...) {
            for (Call* each = &first_; each != nullptr; each = each->next()) {
                run_alone(*each);
            }
            return;
        }
        run(calls);
    }

private:
    using Calls = std::span<Call*>;

    void run(Calls all) noexcept {
        for (Calls calls = wanted(all); !calls.empty(); calls = wanted(calls)) {
            if (calls.size() == 1) {
                run_alone(*calls.front());
                return;
            }
            std::exception_ptr thrown;
            try {
                Work::run_together(model_, calls, first_.stop_token());
                return;
            } catch (...) {
                thrown = std::current_exception();
            }
            if (is_out_of_memory(thrown)) {
                first_.slot().limit_batch(*first_.record, (std::max)(std::size_t{1}, texts_of(calls) / 2));
                run(calls.first(calls.size() / 2));
                run(calls.last(calls.size() - calls.size() / 2));
                return;
            }
            if (ends_all(thrown)) {
                for (Call* const call : calls) {
                    call->answer.error = call->failure(thrown, std::nullopt);
                }
                return;
            }
            if (!fail_faulty(calls, thrown)) {
                for (Call* const call : calls) {
                    if (first_.slot().closed()) {
                        call->answer.error = call->failure(thrown, std::nullopt);
                    } else {
                        run_alone(*call);
                    }
                }
                return;
            }
        }
    }

    void run_alone(Call& call) noexcept {
        if (call.completed_early) {
            return;
        }
        try {
            call.answer.result = call.work(model_, first_.stop_token());
        } catch (...) {
            call.answer.error = call.failure(std::current_exception());
        }
    }

    // Fails the request whose text the error names. False if it names none that is there.
    [[nodiscard]] static bool fail_faulty(Calls calls, const std::exception_ptr& thrown) noexcept {
        const std::optional<std::size_t> index = text_index_of(thrown);
        std::size_t first = 0;
        for (Call* const call : calls) {
            if (index && *index - first < call->own_texts) {
                call->answer.error = call->failure(thrown, *index - first);
                return true;
            }
            first += call->own_texts;
        }
        return false;
    }

    // Those that want a result and have no error yet, in their order.
    [[nodiscard]] static Calls wanted(Calls calls) noexcept {
        const auto end = std::remove_if(calls.begin(), calls.end(),
                                        [](const Call* call) { return call->answer.error || call->completed_early; });
        return calls.first(static_cast<std::size_t>(end - calls.begin()));
    }

    [[nodiscard]] static std::size_t texts_of(Calls calls) noexcept {
        std::size_t sum = 0;
        for (const Call* const call : calls) {
            sum += call->own_texts;
        }
        return sum;
    }

    [[nodiscard]] static bool is_out_of_memory(const std::exception_ptr& thrown) noexcept {
        try {
            std::rethrow_exception(thrown);
        } catch (const std::bad_alloc&) {
            return true;
        } catch (...) {
            return false;
        }
    }

    // Whether another call would fare no better.
    [[nodiscard]] bool ends_all(const std::exception_ptr& thrown) const noexcept {
        if (first_.slot().closed()) {
            return true;
        }
        try {
            std::rethrow_exception(thrown);
        } catch (const Error& error) {
            return error.retryable() || error.code() == condition::capacity || error.code() == operation_aborted();
        } catch (...) {
            return false;
        }
    }

    Call& first_;
    typename Work::model_type& model_;
};

}  // namespace residency::detail

#pragma once

#include "residency/error.hpp"
#include "residency/error_code.hpp"
#include "residency/model_key.hpp"
#include "residency/shell/known_faults.hpp"
#include "residency/shell/model_call.hpp"
#include "residency/shell/slot_base.hpp"

#include <boost/system/system_error.hpp>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <functional>
#include <new>
#include <optional>
#include <stop_token>
#include <utility>

namespace residency::detail {

/// The model calls that one lease of several requests, or of one, leads to: one that is about all of them, and more
/// if it fails. What fails because of one request fails that request alone, as far as it can be found out by calling
/// the model again (H30):
///
///  1. The call was about one request: it fails.
///  2. Out of memory: from now on a call is about half as many requests.
///  3. The error says that the model could not work now, or the slot is closed: all requests of the call fail.
///  4. The error names a text: its request fails, and the others have a call.
///  5. Else half of the requests have a call, and so on with the half that is at fault, until one alone has failed;
///     then the others have a call, as with 4. If that fails, too, each of them has one of its own. All that until the
///     slot is closed.
///
/// So one at fault of n costs about log2(n) calls more, of which each is half as large as the one before, and a model
/// that fails always is called for each request, and log2(n) times more. No request fails but by a call of its own or
/// by a text that is named: what failed once because of nothing in the texts costs only time.
///
/// One that was at fault lately (`KnownFaults`) has a call of its own from the start. A request that has completed
/// early meanwhile is left out.
template <class Work>
class SharedCall {
public:
    using Call = ModelCall<Work>;

    explicit SharedCall(Call& first) noexcept : members_{first}, stop_(first.stop_token()) {}
    SharedCall(const SharedCall&) = delete;
    SharedCall& operator=(const SharedCall&) = delete;

    /// The first call begins.
    void begins() noexcept { first().began = first().slot().time_for_events(); }
    /// Requested once none of the requests wants its call any more.
    [[nodiscard]] const std::stop_token& stop_token() const noexcept { return stop_; }

    /// Whether the model is to be called once more. Then come `call`, and `gave` or `threw`.
    [[nodiscard]] bool next() noexcept {
        if (last_ == nullptr) {
            set_apart();
        }
        if (failed_together_ && first().slot().closed()) {
            for_each_left([&](Call& each) {
                if (each.turn != Turn::waits) {
                    if (!each.completed_early) {
                        each.answer.error = each.failure(failed_together_, std::nullopt);
                    }
                    each.turn = Turn::over;
                }
            });
        }
        for (size_ = 0; size_ == 0; take()) {
            from_ = Turn::over;
            for_each_left([this](const Call& each) { from_ = (std::min)(from_, each.turn); });
            if (from_ == Turn::over) {
                return false;
            }
        }
        return true;
    }
    /// Calls the model. Throws what it throws.
    template <bool asynchronously>
    [[nodiscard]] auto call() {
        auto& model = *static_cast<typename Work::model_type*>(first().record->model);
        if constexpr (Work::joins) {
            if (size_ > 1) {
                input_.emplace(Work::gather(members_));
                return Work::template call_for<asynchronously>(members_, model, *input_, stop_);
            }
        }
        return last_->work.template call<asynchronously>(model, last_->work.cut_texts(), stop_);
    }
    /// The model gave this. Throws if that cannot be right.
    void gave(typename Work::given_type&& given) {
        has_given_ = true;
        if constexpr (Work::joins) {
            if (size_ > 1) {
                Work::share(members_, given, *input_);
            }
        }
        if (size_ == 1) {
            last_->answer.result = last_->work.result_of(std::move(given));
            if (from_ == Turn::alone) {
                faults().remove(hash(*last_));
            }
        }
        leave_call(Turn::over);
    }
    /// The model threw this, or gave what cannot be right.
    void threw(const std::exception_ptr& thrown) noexcept {
        if constexpr (Work::joins) {
            if (size_ > 1) {
                leave_call(threw_together(thrown));
                return;
            }
        }
        // A NaN of its own fails no other request.
        const bool is_own = has_given_ && text_index_of(thrown);
        if (!is_own && !is_out_of_memory(thrown) && !ends_all(thrown)) {
            found(*last_);
        }
        last_->answer.error = last_->failure(thrown);
        leave_call(Turn::over);
    }
    /// The model will not be called any more: requests without an answer fail.
    void drop() noexcept {
        leave_call(Turn::waits);
        for_each_left([](Call& each) { each.answer.error = each.was_dropped(); });
    }
    /// Gives the lease back, and completes the requests. What the model threw is its own code, and goes before that.
    void end() noexcept {
        failed_together_ = nullptr;
        first().end_shared();
    }

private:
    [[nodiscard]] Call& first() const noexcept { return members_.first; }
    [[nodiscard]] KnownFaults& faults() const noexcept { return first().slot().known_faults(); }

    // Of what the request asks, and of which model: another model may take the same texts.
    [[nodiscard]] static std::size_t hash(const Call& each) noexcept {
        return each.work.hash() * 31 + std::hash<ModelKey>()(*each.record->key);
    }

    // Before the first call: those that are known to have been at fault have one of their own. Here, where the model is
    // called, and not where the lease is granted: their texts may be many to hash.
    void set_apart() const noexcept {
        if (first().next() != nullptr && faults().any()) {
            members_.for_each_at(Turn::waits, [this](Call& each) {
                each.turn = faults().contains(hash(each)) ? Turn::alone : Turn::waits;
            });
        }
    }

    // Those whose call is to come.
    template <class Visit>
    void for_each_left(const Visit& visit) const {
        for (Call* each = &first(); each != nullptr; each = each->next()) {
            if (each->turn < Turn::in_call) {
                visit(*each);
            }
        }
    }
    void move_all(Turn from, Turn to) const {
        members_.for_each_at(from, [to](Call& each) { each.turn = to; });
    }

    // The next call is about those that stand at `from_`, as many as it may be.
    void take() noexcept {
        has_given_ = false;
        std::size_t most = from_ == Turn::alone ? 1 : most_;
        if (from_ == Turn::suspect) {
            std::size_t suspects = 0;
            members_.for_each_at(from_, [&suspects](const Call&) { ++suspects; });
            most = (std::min)(most, (suspects + 1) / 2);
        }
        members_.for_each_at(from_, [&](Call& each) {
            if (each.completed_early) {
                each.turn = Turn::over;
            } else if (size_ < most) {
                each.turn = Turn::in_call;
                ++size_;
                last_ = &each;
            }
        });
    }

    void leave_call(Turn to) noexcept {
        members_.for_each([&](Call& each) { each.turn = each.answer.error ? Turn::over : to; });
        input_.reset();
    }

    // Gives where those of the call stand that have not failed.
    Turn threw_together(const std::exception_ptr& thrown) noexcept {
        if (input_) {
            Work::give_back(members_, *input_);
        }
        if (is_out_of_memory(thrown)) {
            first().slot().limit_batch(*first().record, (std::max)(std::size_t{1}, texts() / 2));
            most_ = size_ / 2;
            return from_;
        }
        if (ends_all(thrown)) {
            members_.for_each([&](Call& each) { each.answer.error = each.failure(thrown, std::nullopt); });
        } else if (fail_faulty(thrown)) {
            return Turn::again;
        } else {
            if (from_ == Turn::suspect) {
                move_all(Turn::suspect, Turn::again);
                return Turn::suspect;
            }
            return std::exchange(failed_together_, thrown) ? Turn::alone : Turn::suspect;
        }
        return Turn::over;
    }

    // It is known to be at fault, and nothing of the others. A model that was asked to stop throws for that.
    void found(const Call& faulty) noexcept {
        if (!stop_.stop_requested()) {
            faults().add(hash(faulty));
        }
        move_all(Turn::suspect, Turn::again);
    }

    // Fails the request whose text the error names. False if it names none that is there.
    [[nodiscard]] bool fail_faulty(const std::exception_ptr& thrown) noexcept {
        const std::optional<std::size_t> index = text_index_of(thrown);
        std::size_t begin = 0;
        bool is_found = false;
        members_.for_each([&](Call& each) {
            if (index && *index >= begin && *index - begin < each.own_texts) {
                each.answer.error = each.failure(thrown, *index - begin);
                found(each);
                is_found = true;
            }
            begin += each.own_texts;
        });
        return is_found;
    }

    [[nodiscard]] std::size_t texts() const noexcept {
        std::size_t sum = 0;
        members_.for_each([&](const Call& each) { sum += each.own_texts; });
        return sum;
    }

    // Whether another call would fare no better.
    [[nodiscard]] bool ends_all(const std::exception_ptr& thrown) const noexcept {
        if (first().slot().closed()) {
            return true;
        }
        try {
            std::rethrow_exception(thrown);
        } catch (const Error& error) {
            return error.retryable() || error.code() == condition::capacity || error.code() == operation_aborted();
        } catch (const boost::system::system_error& error) {
            // What an operation of Asio's throws that a model awaits.
            return error.code() == operation_aborted();
        } catch (...) {
            return false;
        }
    }

    const CallMembers<Work> members_;
    const std::stop_token stop_;
    // How many requests the current call is about, where they stood, the last of them, whether the model has given
    // something, and what it has of them.
    std::size_t size_ = 0;
    Turn from_ = Turn::waits;
    Call* last_ = nullptr;
    bool has_given_ = false;
    std::optional<typename Work::input_type> input_{};
    // How many a call may be about.
    std::size_t most_ = static_cast<std::size_t>(-1);
    // What a call about several threw, if that named no text, but for those about suspects.
    std::exception_ptr failed_together_{};
};

}  // namespace residency::detail

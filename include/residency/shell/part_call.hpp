#pragma once

#include "residency/shell/call_part.hpp"
#include "residency/shell/model_call.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace residency::detail {

/// The model calls for a part of a request that is cut: one, or, out of memory, several for fewer texts each. The first
/// text that fails fails the request. No text is computed for a request that has completed early meanwhile.
template <class Work>
class PartCall {
public:
    using Call = ModelCall<Work>;

    explicit PartCall(CallPart& part) noexcept
        : call_(static_cast<Call&>(*part.call)), part_(part), stop_(call_.stop_token()) {}

    /// The first call begins: the slot has noted when the request's first part did.
    void begins() const noexcept {}
    /// Requested once the request does not want its calls any more.
    [[nodiscard]] const std::stop_token& stop_token() const noexcept { return stop_; }

    /// Whether the model is to be called once more. Then come `call`, and `gave` or `threw`.
    [[nodiscard]] bool next() noexcept { return !error_ && done_ < part_.count && !call_.completed_early; }
    /// Calls the model. Throws what it throws.
    template <bool asynchronously>
    [[nodiscard]] auto call() {
        if (texts_.empty()) {
            texts_ = take_texts(call_.work.own(), call_.cut->lengths, part_.first, part_.count);
        }
        has_given_ = false;
        return call_.work.template call<asynchronously>(*static_cast<typename Work::model_type*>(part_.record->model),
                                                        current(), stop_);
    }
    /// The model gave this. Throws if that cannot be right.
    void gave(typename Work::given_type&& given) {
        has_given_ = true;
        const std::size_t count = current().size();
        Work::demand(given, count);
        call_.assembly().put(call_.cut->lengths, part_.first + done_, given, call_.own_texts, part_.record->generation);
        done_ += count;
    }
    /// The model threw this, or gave what cannot be right.
    void threw(const std::exception_ptr& thrown) noexcept {
        const std::size_t count = current().size();
        if (is_out_of_memory(thrown) && !has_given_ && count > 1) {
            most_ = count / 2;
            call_.slot().limit_batch(*part_.record, most_);
            return;
        }
        const std::optional<std::size_t> index = text_index_of(thrown);
        error_ =
            call_.failure(thrown, index && *index < count
                                      ? std::optional<std::size_t>(call_.cut->lengths[part_.first + done_ + *index])
                                      : std::nullopt);
    }
    /// The model will not be called any more: the request fails.
    void drop() noexcept { error_ = call_.was_dropped(); }
    /// Gives the lease back, and completes the request if this was its last part or has failed.
    void end() noexcept { call_.end_part(part_, std::move(error_)); }

private:
    // What the current call is about.
    [[nodiscard]] std::span<const std::string> current() const noexcept {
        return std::span<const std::string>(texts_).subspan(done_, (std::min)(most_, texts_.size() - done_));
    }

    Call& call_;
    CallPart& part_;
    const std::stop_token stop_;
    std::vector<std::string> texts_{};
    std::size_t done_ = 0;
    std::size_t most_ = static_cast<std::size_t>(-1);
    bool has_given_ = false;
    std::exception_ptr error_{};
};

}  // namespace residency::detail

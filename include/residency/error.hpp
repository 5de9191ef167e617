#pragma once

#include "residency/bounded_text.hpp"
#include "residency/error_code.hpp"
#include "residency/model_key.hpp"
#include "residency/shared_cause.hpp"

#include <boost/system/error_code.hpp>
#include <boost/system/system_error.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace residency {

/// What every failed request throws or hands to its handler.
///
/// `what()` is a sentence for people: what happened, to which key, in which stage, and what to do. If the backend or
/// the model threw, its own exception is nested: `std::rethrow_if_nested(error)` gives it back. A cancelled request has
/// the code `boost::asio::error::operation_aborted`. A backend or model may throw one itself: its code is kept.
class Error : public boost::system::system_error {
public:
    /// The error `code` of a request for `key` in `stage`; `detail` says what happened, if there is more to say than
    /// the code.
    Error(boost::system::error_code code, ModelKey key, Stage stage, const std::string& detail = {},
          std::optional<std::chrono::milliseconds> retry_after = {})
        : boost::system::system_error(code),
          facts_(std::make_shared<const Facts>(code, std::move(key), stage, detail, retry_after)) {}

    /// The same for an `errc`, which is what a backend writes: `throw residency::Error(errc::invalid_request, key,
    /// Stage::load, "...")`.
    Error(errc code, ModelKey key, Stage stage, const std::string& detail = {},
          std::optional<std::chrono::milliseconds> retry_after = {})
        : Error(make_error_code(code), std::move(key), stage, detail, retry_after) {}

    /// Copies share the immutable contents, so that copying an exception cannot fail.
    Error(const Error&) noexcept = default;
    /// Never fails either.
    Error& operator=(const Error&) noexcept = default;
    ~Error() override = default;

    /// The key of the request; empty if it had none.
    [[nodiscard]] const ModelKey& key() const noexcept { return facts_->key; }
    /// The stage that it ended in.
    [[nodiscard]] Stage stage() const noexcept { return facts_->stage; }
    /// Which text or document of the request is at fault, counted from zero; none if it is none of them alone.
    [[nodiscard]] std::optional<std::size_t> text_index() const noexcept { return facts_->text_index; }
    /// The same error, for which one text of the model's call is at fault: `throw residency::Error(...).at_text(3)`.
    /// Where several requests share the call, only the one that the text is of fails, and the others are run again.
    /// `noun` is what the sentence calls it.
    [[nodiscard]] Error at_text(std::size_t index, std::string_view noun = "text") const {
        return Error(code(), std::make_shared<const Facts>(code(), facts_->key, facts_->stage, std::string(detail()),
                                                           facts_->retry_after, index, noun));
    }
    /// When to try again, counted from the answer. With `cooling_down` and `load_failed`: when the backend is called
    /// again. With `overloaded`: when what waits will have been computed, at the rate of the slot's latest calls;
    /// absent before the first of them, and if only bare leases wait. With no other code of the library's. One
    /// that a model gave its error is kept, and so is a backend's of a load, if the cooldown is not longer.
    [[nodiscard]] std::optional<std::chrono::milliseconds> retry_after() const noexcept { return facts_->retry_after; }
    /// Whether the same request may succeed later: the code meets the condition `retryable`, or there is a
    /// `retry_after()`.
    [[nodiscard]] bool retryable() const noexcept {
        return facts_->retry_after.has_value() || code() == condition::retryable;
    }
    /// What happened, without the key, the stage, the code and the text: the part of the sentence that is this error's
    /// own.
    [[nodiscard]] std::string_view detail() const noexcept {
        return std::string_view(facts_->text).substr(facts_->detail_begin, facts_->detail_size);
    }
    /// The sentence.
    [[nodiscard]] const char* what() const noexcept override { return facts_->text.c_str(); }

private:
    struct Facts {
        ModelKey key;
        Stage stage;
        std::optional<std::chrono::milliseconds> retry_after;
        std::optional<std::size_t> text_index;
        // The sentence, and where in it the detail stands.
        std::string text;
        std::size_t detail_begin = 0;
        std::size_t detail_size = 0;

        Facts(const boost::system::error_code& code, ModelKey of, Stage in, const std::string& what,
              std::optional<std::chrono::milliseconds> retry, std::optional<std::size_t> index = {},
              std::string_view noun = {})
            : key(std::move(of)), stage(in), retry_after(retry), text_index(index), text(beginning(code, key, stage)) {
            if (text_index) {
                text.append(noun).append(" ").append(std::to_string(*text_index)).append(": ");
            }
            detail_begin = text.size();
            text += what.empty() ? code.message() : what;
            detail_size = text.size() - detail_begin;
            if (retry_after) {
                text += " (try again after " + std::to_string(retry_after->count()) + " ms)";
            }
        }

        static std::string beginning(const boost::system::error_code& code, const ModelKey& key, Stage stage) {
            std::string text = "residency: ";
            text += code.category() == residency::error_category()
                        ? std::string(to_string(static_cast<errc>(code.value())))
                        : code.message();
            if (!key.name.empty()) {
                text += " for '" + to_string(key) + "'";
            }
            text += " in stage ";
            text += to_string(stage);
            text += ": ";
            return text;
        }
    };

    Error(boost::system::error_code code, std::shared_ptr<const Facts> facts)
        : boost::system::system_error(code), facts_(std::move(facts)) {}

    std::shared_ptr<const Facts> facts_;
};

namespace detail {

// What outlives the nested_exception beside it.
struct CauseOwner {
    SharedCause cause;
};

// An Error that carries the exception being handled where it is made, which is `cause`. Bases end from the last to the
// first.
class NestedError final : private CauseOwner, public Error, public std::nested_exception {
public:
    NestedError(Error error, SharedCause of) noexcept : CauseOwner{std::move(of)}, Error(std::move(error)) {}
};

// The error as an exception_ptr of its own, with the cause nested if there is one.
[[nodiscard]] inline std::exception_ptr nest(const Error& error, const SharedCause& cause) noexcept {
    try {
        if (!cause) {
            return std::make_exception_ptr(error);
        }
        try {
            std::rethrow_exception(cause.exception());
        } catch (...) {
            return std::make_exception_ptr(NestedError(error, cause));
        }
    } catch (...) {
        return std::current_exception();
    }
}

}  // namespace detail

/// The error as an exception_ptr of its own, with `cause` nested if there is one. Never throws: out of memory, it gives
/// bad_alloc, or the error without its cause.
[[nodiscard]] inline std::exception_ptr make_error(const Error& error,
                                                   const std::exception_ptr& cause = nullptr) noexcept {
    return detail::nest(error, detail::SharedCause(cause));
}

namespace detail {

// The error that `make` makes, as an exception_ptr. Never throws: if there is no memory to make it of, gives bad_alloc.
template <class Make>
[[nodiscard]] std::exception_ptr make_error_of(const Make& make) noexcept {
    try {
        return make_error(make());
    } catch (...) {
        return std::current_exception();
    }
}

}  // namespace detail

/// The message of an exception, for a sentence: an Error's `detail()`, another's `what()`, or that it is not a
/// std::exception. At most 4 KiB; a longer one ends in "... (N bytes more)".
[[nodiscard]] inline std::string message_of(const std::exception_ptr& exception) {
    if (!exception) {
        return {};
    }
    try {
        std::rethrow_exception(exception);
    } catch (const Error& error) {
        return detail::bounded(error.detail());
    } catch (const std::exception& error) {
        return detail::bounded(error.what());
    } catch (...) {
        return "an exception that is not a std::exception";
    }
}

namespace detail {

// The `errc` of an exception that is an Error with one, or else `other`.
[[nodiscard]] inline errc errc_of(const std::exception_ptr& exception, errc other) noexcept {
    try {
        std::rethrow_exception(exception);
    } catch (const Error& error) {
        const bool is_own = error.code() && error.code().category() == error_category();
        return is_own ? static_cast<errc>(error.code().value()) : other;
    } catch (...) {
        return other;
    }
}

/// Whether it is a bad_alloc, or an `Error` with `insufficient_memory`.
[[nodiscard]] inline bool is_out_of_memory(const std::exception_ptr& thrown) noexcept {
    try {
        std::rethrow_exception(thrown);
    } catch (const std::bad_alloc&) {
        return true;
    } catch (const Error& error) {
        return error.code() == errc::insufficient_memory;
    } catch (...) {
        return false;
    }
}

}  // namespace detail

}  // namespace residency

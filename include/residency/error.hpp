#pragma once

#include "residency/error_code.hpp"
#include "residency/model_key.hpp"

#include <boost/system/error_code.hpp>
#include <boost/system/system_error.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace residency {

namespace detail {
class ErrorWriter;
}  // namespace detail

/// What every failed request throws or hands to its handler.
///
/// `what()` is a sentence for people: what happened, to which key, in which stage, and what to do. If the backend or the model
/// threw, its own exception is nested: `std::rethrow_if_nested(error)` gives it back. A cancelled request has the code
/// `boost::asio::error::operation_aborted`. A backend or model may throw one itself: its code is kept.
class Error : public boost::system::system_error {
public:
    /// The error `code` of a request for `key` in `stage`; `detail` says what happened, if there is more to say than the code.
    Error(boost::system::error_code code, ModelKey key, Stage stage, const std::string& detail = {},
          std::optional<std::chrono::milliseconds> retry_after = {})
        : boost::system::system_error(code),
          facts_(std::make_shared<const Facts>(code, std::move(key), stage, detail, retry_after)) {}

    /// The same for an `errc`, which is what a backend writes: `throw residency::Error(errc::invalid_request, key, Stage::load, "...")`.
    Error(errc code, ModelKey key, Stage stage, const std::string& detail = {},
          std::optional<std::chrono::milliseconds> retry_after = {})
        : Error(make_error_code(code), std::move(key), stage, detail, retry_after) {}

    /// An exception is copied by whoever catches it: that must not fail, so what it says is shared. It never changes.
    Error(const Error&) noexcept = default;
    /// Never fails either.
    Error& operator=(const Error&) noexcept = default;
    ~Error() override = default;

    /// The key of the request; empty if it had none.
    [[nodiscard]] const ModelKey& key() const noexcept { return facts_->key; }
    /// The stage that it ended in.
    [[nodiscard]] Stage stage() const noexcept { return facts_->stage; }
    /// When to try again, counted from the answer; with `cooling_down` and `load_failed` only.
    [[nodiscard]] std::optional<std::chrono::milliseconds> retry_after() const noexcept { return facts_->retry_after; }
    /// What happened, without the key, the stage and the code: the part of the sentence that is this error's own.
    [[nodiscard]] std::string_view detail() const noexcept {
        return std::string_view(facts_->text).substr(facts_->detail_begin, facts_->detail_size);
    }
    /// The sentence.
    [[nodiscard]] const char* what() const noexcept override { return facts_->text.c_str(); }

private:
    friend class detail::ErrorWriter;

    // The same in words of its own. An error that goes to another thread shares nothing with one that stays: libstdc++ counts the owners
    // of an exception where ThreadSanitizer does not see it, so that it would take the end of the last owner for a race.
    [[nodiscard]] Error apart() const {
        Error same = *this;
        same.facts_ = std::make_shared<const Facts>(*facts_);
        return same;
    }

    struct Facts {
        ModelKey key;
        Stage stage;
        std::optional<std::chrono::milliseconds> retry_after;
        // The sentence, and where in it the detail stands.
        std::string text;
        std::size_t detail_begin = 0;
        std::size_t detail_size = 0;

        Facts(const boost::system::error_code& code, ModelKey of, Stage in, const std::string& what,
              std::optional<std::chrono::milliseconds> retry)
            : key(std::move(of)), stage(in), retry_after(retry), text(beginning(code, key, stage)) {
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

    std::shared_ptr<const Facts> facts_;
};

namespace detail {

// An Error that carries the exception being handled where it is made.
class NestedError final : public Error, public std::nested_exception {
public:
    explicit NestedError(Error error) : Error(std::move(error)) {}
};

}  // namespace detail

/// The error as an exception_ptr of its own, with `cause` nested if there is one. Never throws: out of memory, it gives bad_alloc.
[[nodiscard]] inline std::exception_ptr make_error(const Error& error,
                                                   const std::exception_ptr& cause = nullptr) noexcept {
    try {
        if (!cause) {
            return std::make_exception_ptr(error);
        }
        try {
            std::rethrow_exception(cause);
        } catch (...) {
            return std::make_exception_ptr(detail::NestedError(error));
        }
    } catch (...) {
        return std::current_exception();
    }
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

/// The message of an exception, for a sentence: an Error's `detail()`, another's `what()`, or that it is not a std::exception.
[[nodiscard]] inline std::string message_of(const std::exception_ptr& exception) {
    if (!exception) {
        return {};
    }
    try {
        std::rethrow_exception(exception);
    } catch (const Error& error) {
        return std::string(error.detail());
    } catch (const std::exception& error) {
        return error.what();
    } catch (...) {
        return "an exception that is not a std::exception";
    }
}

}  // namespace residency

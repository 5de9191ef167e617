#pragma once

#include "residency/compiler.hpp"

#include <boost/system/error_category.hpp>
#include <boost/system/error_code.hpp>
#include <boost/system/error_condition.hpp>

#include <cerrno>
#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <type_traits>

namespace residency {

/// Why a request failed. Compare an error's `code()` with these, or with a `condition` for a whole group.
enum class errc : std::uint8_t {
    /// The request itself is wrong: an empty key name, an empty query, a negative keep-alive. Condition `caller`.
    invalid_request = 1,
    /// Neither a lease nor a place in the queue is free. Conditions `capacity` and `retryable`.
    overloaded,
    /// The request's timeout passed; `stage()` says in which stage. Condition `retryable`.
    timed_out,
    /// The backend could not load the model; its exception is nested. Condition `backend`.
    load_failed,
    /// A load of this key failed lately, and the backend is left alone until `retry_after()` has passed. Condition
    /// `retryable`.
    cooling_down,
    /// The model threw; its exception is nested. Condition `backend`.
    inference_failed,
    /// The model answered with a wrong number of rows, or with a NaN. Condition `backend`.
    bad_result,
    /// The residency that was asked for, or that was answering, is no longer that one. Condition `caller`.
    model_changed,
    /// The slot is shutting down or has shut down, or belongs to the parent of this process, which was made by fork().
    shutting_down,
    /// A blocking call where it could only hang: on a thread that the library needs. Condition `caller`.
    would_deadlock,
    /// The backend knows no model with this key. Nothing was evicted for it. Condition `caller`.
    unknown_model,
    /// The model needs more of the slot's memory budget than its limit, or than pinned models leave of it. Nothing was
    /// evicted for it. Condition `capacity`.
    insufficient_memory,
};

/// Groups of codes: `if (error.code() == residency::condition::retryable)`.
enum class condition : std::uint8_t {
    /// The caller has to change something: invalid_request, model_changed, would_deadlock, unknown_model.
    caller = 1,
    /// There is too much to do, or too little memory: overloaded, insufficient_memory.
    capacity,
    /// The same request may succeed later: overloaded, timed_out, cooling_down.
    retryable,
    /// The backend or its model is at fault: load_failed, inference_failed, bad_result.
    backend,
};

/// What a request was doing when it ended.
enum class Stage : std::uint8_t {
    /// It was checked, and nothing had begun.
    admission,
    /// It waited for a lease, or for a place for its model.
    queue,
    /// It waited for memory of the slot's budget, or to know how much its model needs.
    memory,
    /// Its model was being loaded.
    load,
    /// It had its lease: its model was at work, or about to be.
    inference,
    /// Its model was draining or unloading.
    unload,
    /// The slot was shutting down.
    shutdown,
};

/// The stage's name.
[[nodiscard]] constexpr std::string_view to_string(Stage stage) noexcept {
    switch (stage) {
        case Stage::admission: return "admission";
        case Stage::queue: return "queue";
        case Stage::memory: return "memory";
        case Stage::load: return "load";
        case Stage::inference: return "inference";
        case Stage::unload: return "unload";
        case Stage::shutdown: return "shutdown";
    }
    return "unknown";
}

/// Prints the stage's name.
inline std::ostream& operator<<(std::ostream& out, Stage stage) { return out << to_string(stage); }

/// The code's name, as written in `errc`.
[[nodiscard]] constexpr std::string_view to_string(errc code) noexcept {
    switch (code) {
        case errc::invalid_request: return "invalid_request";
        case errc::overloaded: return "overloaded";
        case errc::timed_out: return "timed_out";
        case errc::load_failed: return "load_failed";
        case errc::cooling_down: return "cooling_down";
        case errc::inference_failed: return "inference_failed";
        case errc::bad_result: return "bad_result";
        case errc::model_changed: return "model_changed";
        case errc::shutting_down: return "shutting_down";
        case errc::would_deadlock: return "would_deadlock";
        case errc::unknown_model: return "unknown_model";
        case errc::insufficient_memory: return "insufficient_memory";
    }
    return "unknown";
}

/// The category of `errc`.
[[nodiscard]] const boost::system::error_category& error_category() noexcept;
/// The category of `condition`.
[[nodiscard]] const boost::system::error_category& condition_category() noexcept;

/// Lets an `errc` be used as an error_code.
[[nodiscard]] inline boost::system::error_code make_error_code(errc code) noexcept {
    return {static_cast<int>(code), error_category()};
}
/// Lets a `condition` be compared with an error_code.
[[nodiscard]] inline boost::system::error_condition make_error_condition(condition value) noexcept {
    return {static_cast<int>(value), condition_category()};
}

/// The code of a request that its caller cancelled; equal to `boost::asio::error::operation_aborted`.
[[nodiscard]] inline boost::system::error_code operation_aborted() noexcept {
#if defined(_WIN32)
    return {995, boost::system::system_category()};  // ERROR_OPERATION_ABORTED
#else
    return {ECANCELED, boost::system::system_category()};
#endif
}

namespace detail {

#if defined(__GNUC__)
// Boost's base has a destructor that is neither virtual nor protected: made so, it would not be constant-initialized.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wnon-virtual-dtor"
#endif

class ErrorCategory final : public boost::system::error_category {
public:
    // A fixed identity keeps the category equal to itself across shared libraries.
    constexpr ErrorCategory() noexcept : boost::system::error_category(0x6c1f0d5b3e9a4722ULL) {}

    [[nodiscard]] const char* name() const noexcept override { return "residency"; }

    [[nodiscard]] std::string message(int value) const override {
        switch (static_cast<errc>(value)) {
            case errc::invalid_request: return "the request is not valid";
            case errc::overloaded: return "too many requests; try again later or raise max_leases or max_queue";
            case errc::timed_out: return "the request's timeout passed";
            case errc::load_failed: return "the model could not be loaded";
            case errc::cooling_down: return "the model failed to load lately; try again after retry_after()";
            case errc::inference_failed: return "the model failed";
            case errc::bad_result: return "the model gave an unusable result";
            case errc::model_changed: return "another residency of the model than the one asked for";
            case errc::shutting_down: return "the slot is shutting down and takes no requests";
            case errc::would_deadlock:
                return "a blocking call on a thread that the library needs could only hang; use the async_ call";
            case errc::unknown_model: return "the backend knows no model with this key; check name and quantization";
            case errc::insufficient_memory:
                return "the model needs more memory than the budget can give; raise its limit or unpin models";
        }
        return "unknown residency error";
    }
    using boost::system::error_category::message;
};

class ConditionCategory final : public boost::system::error_category {
public:
    constexpr ConditionCategory() noexcept : boost::system::error_category(0x2b7e94c8d150fa63ULL) {}

    [[nodiscard]] const char* name() const noexcept override { return "residency.condition"; }

    [[nodiscard]] std::string message(int value) const override {
        switch (static_cast<condition>(value)) {
            case condition::caller: return "the caller has to change something";
            case condition::capacity: return "there is too much to do";
            case condition::retryable: return "the same request may succeed later";
            case condition::backend: return "the backend or its model is at fault";
        }
        return "unknown residency condition";
    }
    using boost::system::error_category::message;

    [[nodiscard]] bool equivalent(const boost::system::error_code& code, int value) const noexcept override {
        if (code.category() != residency::error_category()) {
            return false;
        }
        const auto is = [&code](auto... candidates) { return ((code.value() == static_cast<int>(candidates)) || ...); };
        switch (static_cast<condition>(value)) {
            case condition::caller:
                return is(errc::invalid_request, errc::model_changed, errc::would_deadlock, errc::unknown_model);
            case condition::capacity: return is(errc::overloaded, errc::insufficient_memory);
            case condition::retryable: return is(errc::overloaded, errc::timed_out, errc::cooling_down);
            case condition::backend: return is(errc::load_failed, errc::inference_failed, errc::bad_result);
        }
        return false;
    }
    using boost::system::error_category::equivalent;
};

#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

// Constant-initialised and never destroyed before its users: errors may be made while statics are torn down.
inline constexpr ErrorCategory error_category_instance{};
inline constexpr ConditionCategory condition_category_instance{};

}  // namespace detail

inline const boost::system::error_category& error_category() noexcept { return detail::error_category_instance; }
inline const boost::system::error_category& condition_category() noexcept {
    return detail::condition_category_instance;
}

}  // namespace residency

/// Lets an `errc` convert to an error_code.
template <>
struct boost::system::is_error_code_enum<residency::errc> : std::true_type {};
/// Lets a `condition` be compared with an error_code.
template <>
struct boost::system::is_error_condition_enum<residency::condition> : std::true_type {};

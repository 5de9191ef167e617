#pragma once

#include "residency/core/shared_text.hpp"
#include "residency/error.hpp"
#include "residency/error_code.hpp"
#include "residency/runtime/user_code_scope.hpp"

#include <exception>
#include <memory>
#include <string>

namespace residency::detail {

/// What is known of a load, or of an estimate, that threw.
struct LoadFailure {
    /// Asks the exception, which is the backend's code (R10): without a mutex held, on a thread of `owner`. Of null: no
    /// more than that there was one.
    [[nodiscard]] static LoadFailure of(const std::exception_ptr& cause, const void* owner) noexcept {
        LoadFailure failure;
        if (cause) {
            const runtime::UserCodeScope scope(owner);
            failure.code = errc_of(cause, errc::load_failed);
            failure.out_of_memory = is_out_of_memory(cause);
            try {
                failure.message = std::make_shared<const std::string>(message_of(cause));
            } catch (...) {  // NOLINT(bugprone-empty-catch): out of memory: a failure without its words
            }
        }
        return failure;
    }

    /// What the waiters get.
    errc code = errc::load_failed;
    /// Whether it lacked memory.
    bool out_of_memory = false;
    /// What it said; may be null.
    core::SharedText message{};
};

}  // namespace residency::detail

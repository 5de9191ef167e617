#pragma once

#include "residency/compiler.hpp"

#include <atomic>
#include <cstddef>
#include <exception>
#include <new>
#include <utility>

namespace residency::detail {

/// An exception that the errors of several requests name as their cause.
///
/// The errors are read and freed on different threads. libstdc++ counts the owners of an exception inside its library,
/// where ThreadSanitizer does not see it, so that it takes the end of the last owner for a race. This count is an
/// atomic of the library's own, which it sees: while one SharedCause is left, no exception_ptr that is dropped is the
/// last.
class SharedCause {
public:
    /// None.
    SharedCause() noexcept = default;
    /// This exception. Without memory for the count: none.
    SharedCause(
        std::exception_ptr exception) noexcept  // NOLINT(google-explicit-constructor): used like an exception_ptr
        : counted_(exception ? new (std::nothrow) Counted(std::move(exception)) : nullptr) {}
    /// The same exception.
    SharedCause(const SharedCause& other) noexcept : counted_(other.counted_) {
        if (counted_ != nullptr) {
            counted_->owners.fetch_add(1, std::memory_order_relaxed);
        }
    }
    /// Takes it; `other` has none afterwards.
    SharedCause(SharedCause&& other) noexcept : counted_(std::exchange(other.counted_, nullptr)) {}
    /// Both of these.
    SharedCause& operator=(SharedCause other) noexcept {
        std::swap(counted_, other.counted_);
        return *this;
    }
    ~SharedCause() {
        if (counted_ != nullptr && counted_->owners.fetch_sub(1, std::memory_order_acq_rel) == 1) {
            delete counted_;
        }
    }

    /// Whether there is one.
    explicit operator bool() const noexcept { return counted_ != nullptr; }
    /// The exception, or null. Drop it before this object.
    [[nodiscard]] std::exception_ptr exception() const noexcept {
        return counted_ == nullptr ? nullptr : counted_->exception;
    }

    /// Whether both are the same exception.
    friend bool operator==(const SharedCause& left, const SharedCause& right) noexcept {
        return left.counted_ == right.counted_;
    }

private:
    struct Counted {
        explicit Counted(std::exception_ptr of) noexcept : exception(std::move(of)) {}

        std::exception_ptr exception;
        std::atomic<std::size_t> owners{1};
    };

    Counted* counted_ = nullptr;
};

}  // namespace residency::detail

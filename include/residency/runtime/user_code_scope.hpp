#pragma once

#include "residency/compiler.hpp"

namespace residency::runtime {

/// Marks that a thread of `owner` (the runtime of a slot or of a manager) is inside user code: a backend, a model, an
/// observer, or a handler on `Executors::callbacks`. A blocking call to the same owner from there could wait for the
/// thread that it occupies, so it is refused; a blocking call to another owner is not.
class UserCodeScope {
public:
    /// Enters user code on a thread of `owner`; null marks nothing.
    explicit UserCodeScope(const void* owner) noexcept : owner_(owner), outer_(innermost()) { innermost() = this; }
    ~UserCodeScope() { innermost() = outer_; }
    UserCodeScope(const UserCodeScope&) = delete;
    UserCodeScope& operator=(const UserCodeScope&) = delete;

    /// Whether this thread is inside user code that occupies a thread of `owner`.
    [[nodiscard]] static bool active(const void* owner) noexcept {
        const UserCodeScope* scope = innermost();
        while (scope != nullptr && scope->owner_ != owner) {
            scope = scope->outer_;
        }
        return scope != nullptr;
    }

private:
    static const UserCodeScope*& innermost() noexcept {
        thread_local const UserCodeScope* scope = nullptr;
        return scope;
    }

    const void* owner_;
    const UserCodeScope* outer_;
};

}  // namespace residency::runtime

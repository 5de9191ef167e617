#pragma once

namespace residency::runtime {

/// Marks that the library is calling out on this thread: a backend, a model, an observer, a completion handler. A blocking call in
/// there could wait for the very thread that it is on, so it is refused.
class UserCodeScope {
public:
    UserCodeScope() noexcept { ++depth(); }
    ~UserCodeScope() { --depth(); }
    UserCodeScope(const UserCodeScope&) = delete;
    UserCodeScope& operator=(const UserCodeScope&) = delete;

    /// Whether this thread is inside one.
    [[nodiscard]] static bool active() noexcept { return depth() != 0; }

private:
    static int& depth() noexcept {
        thread_local int value = 0;
        return value;
    }
};

}  // namespace residency::runtime

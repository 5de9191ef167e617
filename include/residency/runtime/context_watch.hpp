#pragma once

#include "residency/runtime/asio.hpp"
#include "residency/runtime/mutex.hpp"

#include <memory>
#include <vector>

namespace residency::runtime {

/// Wants to know when an execution context of the host's ends.
class ContextUser {
public:
    virtual ~ContextUser() = default;
    /// The context is being destroyed: nothing may be posted to it from now on, and its timers have to go.
    virtual void context_ends(asio::execution_context& context) noexcept = 0;
};

/// A service that tells its users when their context is destroyed. `any_io_executor` keeps no context alive, so that a library that is
/// given one has no other way to know; Asio's own timers learn of it in the same way.
class ContextWatch final : public asio::execution_context::service {
public:
    inline static asio::execution_context::id id;

    explicit ContextWatch(asio::execution_context& context) : asio::execution_context::service(context) {}

    /// Tells `user` when the context of `executor` ends, for as long as `user` lives.
    static void add(const asio::any_io_executor& executor, const std::weak_ptr<ContextUser>& user) {
        asio::use_service<ContextWatch>(asio::query(executor, asio::execution::context)).join(user);
    }

private:
    void join(const std::weak_ptr<ContextUser>& user) {
        const MutexLock lock(mutex_);
        std::erase_if(users_, [](const std::weak_ptr<ContextUser>& other) { return other.expired(); });
        users_.push_back(user);
    }

    void shutdown() override {
        std::vector<std::weak_ptr<ContextUser>> users;
        {
            const MutexLock lock(mutex_);
            users.swap(users_);
        }
        for (const std::weak_ptr<ContextUser>& weak : users) {
            if (const std::shared_ptr<ContextUser> user = weak.lock()) {
                user->context_ends(context());
            }
        }
    }

    Mutex mutex_;
    std::vector<std::weak_ptr<ContextUser>> users_ RESIDENCY_GUARDED_BY(mutex_);
};

}  // namespace residency::runtime

#pragma once

#include "residency/runtime/mutex.hpp"
#include "residency/runtime/process.hpp"

#include <atomic>
#include <cstdlib>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#if defined(__linux__) && defined(__GLIBC__)
#include <unistd.h>
#define RESIDENCY_ENDS_AT_EXIT 1
#else
#define RESIDENCY_ENDS_AT_EXIT 0
#endif

namespace residency::runtime {

/// What has to end before objects with static storage are destroyed, because it uses some that were made after it.
///
/// On Linux with glibc a process that exits first destroys the `thread_local` objects of the thread that called `exit`
/// or returned from main. One of these on the main thread ends what was added there. Where `exit` is called on another
/// thread, or nothing was added on the main thread, a function registered with `std::atexit` does it; such a function
/// runs before the destructors of those static objects alone that were made before it was registered, so it is
/// registered again after each load. On other systems nothing of this happens.
class AtExit {
public:
    /// Ends an engine: waits until no thread is in it, and lets none in any more. May be called several times.
    using Close = void (*)() noexcept;

    /// Has `end()` called when the process exits, unless `owner` is gone by then. `end` must not throw. What was added
    /// last ends first. Calls `close()` once all have ended.
    static void add(std::weak_ptr<const void> owner, std::function<void()> end, Close close) {
        if constexpr (is_supported) {
            instance().push({std::move(owner), std::move(end)}, close);
            watch_main_thread();
        }
    }

    /// A load has returned, which may have made static objects.
    static void loaded() noexcept {
        if constexpr (is_supported) {
            // Each takes memory for ever. Later loads find all that an engine makes once.
            constexpr int most = 256;
            static std::atomic<int> registered{0};
            if (registered.load(std::memory_order_relaxed) < most && registered.fetch_add(1) < most) {
                static_cast<void>(std::atexit([] { instance().run(); }));
            }
        }
    }

private:
    static constexpr bool is_supported = RESIDENCY_ENDS_AT_EXIT != 0;

    struct Entry {
        std::weak_ptr<const void> owner{};
        std::function<void()> end{};
    };
    struct Watch {
        ~Watch() { instance().run(); }
    };

    explicit AtExit(const AtExit* parents) noexcept : parents_(parents) {}
    AtExit(const AtExit&) = delete;
    AtExit& operator=(const AtExit&) = delete;

    // Never destroyed. A child made by fork() has its own: its parent's managers are none of its.
    static AtExit& instance() {
        static std::atomic<AtExit*> present{nullptr};
        AtExit* list = present.load(std::memory_order_acquire);
        while (list == nullptr || list->process_.is_left()) {
            auto* const made = new AtExit(list);
            if (present.compare_exchange_strong(list, made)) {
                return *made;
            }
            delete made;
        }
        return *list;
    }

    static void watch_main_thread() {
#if RESIDENCY_ENDS_AT_EXIT
        if (::gettid() == ::getpid()) {
            thread_local const Watch watch;
            static_cast<void>(watch);
        }
#endif
    }

    void push(Entry&& entry, Close close) {
        const MutexLock lock(mutex_);
        std::erase_if(entries_, [](const Entry& old) { return old.owner.expired(); });
        entries_.push_back(std::move(entry));
        for (const Close known : closes_) {
            if (known == close) {
                return;
            }
        }
        closes_.push_back(close);
    }

    [[nodiscard]] bool pop(Entry& entry) noexcept {
        const MutexLock lock(mutex_);
        if (entries_.empty()) {
            return false;
        }
        entry = std::move(entries_.back());
        entries_.pop_back();
        return true;
    }

    void run() noexcept {
        for (Entry entry; pop(entry);) {
            if (const std::shared_ptr<const void> owner = entry.owner.lock()) {
                entry.end();
            }
        }
        std::vector<Close> closes;
        {
            const MutexLock lock(mutex_);
            closes.swap(closes_);
        }
        for (const Close close : closes) {
            close();
        }
    }

    const Process& process_ = Process::current();
    // Reachable, so that it is no leak.
    [[maybe_unused]] const AtExit* const parents_;
    Mutex mutex_{};
    std::vector<Entry> entries_ RESIDENCY_GUARDED_BY(mutex_){};
    std::vector<Close> closes_ RESIDENCY_GUARDED_BY(mutex_){};
};

}  // namespace residency::runtime

#undef RESIDENCY_ENDS_AT_EXIT

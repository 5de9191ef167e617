#pragma once

#include "residency/compiler.hpp"

#include <atomic>
#include <memory>
#include <utility>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#define RESIDENCY_HAS_FORK 1
#else
#define RESIDENCY_HAS_FORK 0
#endif
#if defined(__linux__)
#include <sys/mman.h>

#include <cstddef>
#include <new>
#endif

namespace residency::runtime {

/// A process as what was made in it knows it: a child made by fork() has a copy of that, but neither the threads that
/// work for it nor a way to unlock the mutexes that they held.
///
/// Where the kernel can, the object lies on a page that reads as zeros in a child: to ask costs one load. Elsewhere it
/// costs a call of getpid(). A child of vfork() is not recognised, and must not use the library.
class Process {
public:
    /// This process. Takes no lock. What it gives lives for ever.
    [[nodiscard]] static const Process& current() {
        static std::atomic<const Process*> present{nullptr};
        const Process* process = present.load(std::memory_order_acquire);
        while (process == nullptr || process->is_left()) {
            const Process* const made = make();
            if (present.compare_exchange_strong(process, made)) {
                return *made;
            }
            // Another thread was faster; a page is lost.
        }
        return *process;
    }

    /// Whether this is another process: a child made by fork().
    [[nodiscard]] bool is_left() const noexcept { return !is_wiped_in_child_ && is_other_process(); }

private:
    Process() noexcept = default;

    [[nodiscard]] bool is_other_process() const noexcept {
#if RESIDENCY_HAS_FORK
        return id_ != ::getpid();
#else
        return false;
#endif
    }

    static const Process* make() {
#if defined(MADV_WIPEONFORK)
        const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
        void* const page = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page != MAP_FAILED) {  // NOLINT: the macro casts
            auto* const process = new (page) Process;
            process->is_wiped_in_child_ = ::madvise(page, size, MADV_WIPEONFORK) == 0;
            return process;
        }
#endif
        return new Process;
    }

    bool is_wiped_in_child_ = false;
#if RESIDENCY_HAS_FORK
    pid_t id_ = ::getpid();
#endif
};

/// Keeps `object` for ever: in a child, what was copied from the parent cannot be destroyed. Takes no lock.
inline void keep_for_ever(std::shared_ptr<const void> object) {
    struct Kept {
        std::shared_ptr<const void> object;
        Kept* next;
    };
    // Reachable, so that it is no leak.
    static std::atomic<Kept*> all{nullptr};
    auto* const kept = new Kept{std::move(object), all.load()};
    while (!all.compare_exchange_weak(kept->next, kept)) {}
}

}  // namespace residency::runtime

#undef RESIDENCY_HAS_FORK

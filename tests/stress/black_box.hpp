#pragma once

#include "stress/relaxed.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

namespace residency::stress {

/// What is kept in the black box. `number` is a request's, or a model's serial.
enum class Note : std::uint8_t {
    begun,
    completed,
    failed,
    cancelled,
    load_begun,
    loaded,
    load_failed,
    call_begun,
    call_ended,
    lease_taken,
    lease_ended,
    unload_begun,
    unload_ended,
    event,
    shutdown_begun,
    manager_ends,
    manager_ended,
    violated,
};

[[nodiscard]] constexpr const char* name_of(Note note) noexcept {
    constexpr std::array names{"request begun",     "request completed",  "request failed, code",
                               "request cancelled", "load begun",         "loaded",
                               "load failed",       "model called",       "model returns",
                               "lease taken",       "lease about to end", "model destroyed",
                               "model gone",        "event of type",      "shutdown begun",
                               "manager destroyed", "manager gone",       "A RULE IS BROKEN"};
    return names[static_cast<std::size_t>(note)];
}

/// The first sentence about a rule that is broken, and what happened lately, of all threads in one line. Costs an
/// atomic increment and a store, orders nothing, and stops when a rule is broken, so that what led to it is still
/// there.
class BlackBox {
public:
    /// A manager begins: `title` says which.
    void begin(const std::string& title) {
        std::strncpy(title_.data(), title.c_str(), title_.size() - 1);
        began_ = std::chrono::steady_clock::now();
        for (Relaxed<std::uint64_t>& entry : entries_) {
            entry.set(0);
        }
    }

    void note(Note note, std::uint32_t slot, std::uint32_t key, std::uint32_t number) noexcept {
        if (broken_.get() && note != Note::violated) {
            return;
        }
        const auto time =
            std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - began_).count();
        const std::uint64_t entry = std::uint64_t{1} << 63U | static_cast<std::uint64_t>(note) << 56U |
                                    std::uint64_t{thread()} << 48U | std::uint64_t{slot & 1U} << 47U |
                                    std::uint64_t{key & 3U} << 45U |
                                    (static_cast<std::uint64_t>(time) & 0xFFFFFFU) << 21U | (number & 0x1FFFFFU);
        entries_[(next_.count() - 1) % entries_.size()].set(entry);
    }

    /// Keeps the first sentence. A literal.
    void require(bool holds, const char* sentence) noexcept {
        if (!holds && sentence_.set_if(nullptr, sentence) == nullptr) {
            note(Note::violated, 0, 0, 0);
            broken_.set(true);
        }
    }
    [[nodiscard]] bool broken() const noexcept { return broken_.get(); }
    [[nodiscard]] const char* sentence() const noexcept { return sentence_.get(); }
    /// How much has been noted so far.
    [[nodiscard]] std::uint64_t noted() const noexcept { return next_.get(); }

    /// Prints all of it.
    void print(std::FILE* out) const noexcept {
        if (broken()) {
            std::fprintf(out, "%s\n", sentence());
        }
        std::fprintf(out, "%s\nWhat happened last (microseconds, thread):\n", title_.data());
        const std::uint64_t end = next_.get();
        const std::uint64_t first = end < entries_.size() ? 0 : end - entries_.size();
        for (std::uint64_t index = first; index != end; ++index) {
            const std::uint64_t entry = entries_[index % entries_.size()].get();
            if (entry != 0) {
                std::fprintf(out, "  %8u  t%-3u %-9s %c  %s %u\n", static_cast<unsigned>(entry >> 21U & 0xFFFFFFU),
                             static_cast<unsigned>(entry >> 48U & 0xFFU),
                             (entry >> 47U & 1U) == 0 ? "embedding" : "reranker", "abc-"[entry >> 45U & 3U],
                             name_of(static_cast<Note>(entry >> 56U & 0x7FU)),
                             static_cast<unsigned>(entry & 0x1FFFFFU));
            }
        }
        std::fflush(out);
    }

private:
    static std::uint32_t thread() noexcept {
        static Relaxed<std::uint32_t> last{0};
        thread_local const std::uint32_t mine = last.count() % 256;
        return mine;
    }

    std::array<char, 512> title_{};
    std::chrono::steady_clock::time_point began_{};
    std::array<Relaxed<std::uint64_t>, 400> entries_{};
    Relaxed<std::uint64_t> next_{0};
    Relaxed<bool> broken_{false};
    Relaxed<const char*> sentence_{nullptr};
};

}  // namespace residency::stress

#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <string>

#include <unistd.h>

namespace search {

/// A line on stderr that says how far the work is, how fast it goes and how long it will take. There is none if stderr
/// is not a terminal. Any thread may call it.
class ProgressBar {
public:
    explicit ProgressBar(std::uintmax_t total_bytes) : total_(total_bytes), shown_(::isatty(STDERR_FILENO) == 1) {}

    /// Notes work done; draws at most ten times a second.
    void add(std::uintmax_t bytes, std::size_t passages) {
        bytes_ += bytes;
        passages_ += passages;
        if (!shown_) {
            return;
        }
        const std::unique_lock lock(mutex_, std::try_to_lock);  // While another thread draws there is no need to.
        const auto now = std::chrono::steady_clock::now();
        if (lock && !done_ && now - drawn_ >= std::chrono::milliseconds(100)) {
            drawn_ = now;
            draw(std::chrono::duration<double>(now - begin_).count());
        }
    }

    /// Takes the line away while `print` writes to stderr.
    template <class Print>
    void aside(Print&& print) {
        const std::lock_guard lock(mutex_);
        clear();
        print();
    }

    /// Takes the line away for good.
    void finish() {
        const std::lock_guard lock(mutex_);
        clear();
        done_ = true;
    }

private:
    void clear() const {
        if (shown_ && drawn_ != std::chrono::steady_clock::time_point()) {
            std::fputs("\r\x1b[K", stderr);
        }
    }

    void draw(double seconds) const {
        constexpr std::size_t width = 24;
        const auto bytes = static_cast<double>(bytes_.load());
        const double part = total_ == 0 ? 1.0 : std::min(bytes / static_cast<double>(total_), 1.0);
        const auto filled = static_cast<std::size_t>(part * static_cast<double>(width));
        const double rate = seconds > 0.0 ? bytes / seconds : 0.0;
        const double left = rate > 0.0 ? (static_cast<double>(total_) - bytes) / rate : 0.0;
        const std::string bar = std::string(filled, '#') + std::string(width - filled, '.');
        std::fprintf(stderr, "\r[%s] %3.0f %%  %.1f MB/s, %.0f passages/s, %.0f s left\x1b[K", bar.c_str(),
                     part * 100.0, rate / 1e6, seconds > 0.0 ? static_cast<double>(passages_.load()) / seconds : 0.0,
                     std::max(left, 0.0));
        std::fflush(stderr);
    }

    std::uintmax_t total_;
    bool shown_;
    std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
    std::atomic<std::uintmax_t> bytes_ = 0;
    std::atomic<std::size_t> passages_ = 0;
    std::mutex mutex_;
    std::chrono::steady_clock::time_point drawn_{};
    bool done_ = false;
};

}  // namespace search

#pragma once

#include "residency/backends/llama_cpp/llama.hpp"
#include "residency/event.hpp"

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace residency::detail::llama_cpp {

/// While it lives, what llama.cpp writes in this thread comes here, and nowhere else: lines go to a function, and those
/// of errors are kept. Scopes nest.
///
/// llama.cpp has one log callback for the process. `start()` puts ours there once; it sends a line to the scope of the
/// thread that wrote it, and lines of threads without a scope to the callback found there before.
class LogScope {
public:
    /// Gets a line without its end. What it throws is lost.
    using Line = std::function<void(Severity, std::string_view)>;

    /// Shows the lines to `line`; without one they are only looked through for errors.
    explicit LogScope(Line line = {}) : line_(std::move(line)), outer_(std::exchange(current_, this)) {}

    ~LogScope() {
        try {
            flush();
        } catch (...) {  // NOLINT(bugprone-empty-catch): a line may be lost for want of memory.
        }
        current_ = outer_;
    }

    LogScope(const LogScope&) = delete;
    LogScope& operator=(const LogScope&) = delete;

    /// From here on llama.cpp does what it was asked to, namely stop: its errors are shown as debug, and not kept.
    void expect_abort() noexcept { abort_expected_ = true; }

    /// The errors, in order, with `; ` between them; the first is the cause. Empty if there was none.
    [[nodiscard]] std::string errors() {
        flush();
        return errors_;
    }

    /// Puts our callback in place and starts llama.cpp. Any thread, any number of times; the first does it.
    static void start() {
        static const bool started = [] {
            const LogScope silence;
            llama_log_get(&previous_.callback, &previous_.user_data);
            llama_log_set(&LogScope::on_log, nullptr);
            llama_backend_init();
            if (ggml_backend_reg_count() == 0) {
                // A build with its backends in separate shared libraries has none until they are loaded.
                ggml_backend_load_all();
            }
            return true;
        }();
        static_cast<void>(started);
    }

private:
    struct Callback {
        ggml_log_callback callback;
        void* user_data;
    };

    static void on_log(ggml_log_level level, const char* text, void* /*user_data*/) noexcept {
        if (current_ == nullptr) {
            if (previous_.callback != nullptr) {
                previous_.callback(level, text, previous_.user_data);
            }
            return;
        }
        try {
            current_->take(level, text);
        } catch (...) {  // NOLINT(bugprone-empty-catch): it must not fly through llama.cpp.
        }
    }

    void take(ggml_log_level level, std::string_view text) {
        if (level != GGML_LOG_LEVEL_CONT) {
            flush();
            severity_ = severity_of(level);
        }
        if (!line_ && severity_ != Severity::error) {
            return;
        }
        for (std::size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
            pending_ += text.substr(0, end);
            text.remove_prefix(end + 1);
            flush();
        }
        pending_ += text;
    }

    // A line ends with its end, with the next line's beginning, or with the scope.
    void flush() {
        if (pending_.empty()) {
            return;
        }
        const std::string line = std::exchange(pending_, {});
        Severity severity = severity_;
        if (severity == Severity::error) {
            if (abort_expected_) {
                severity = Severity::debug;
            } else {
                errors_ += errors_.empty() ? "" : "; ";
                errors_ += line;
            }
        }
        if (line_) {
            line_(severity, line);
        }
    }

    static Severity severity_of(ggml_log_level level) noexcept {
        switch (level) {
            case GGML_LOG_LEVEL_ERROR: return Severity::error;
            case GGML_LOG_LEVEL_WARN: return Severity::warning;
            case GGML_LOG_LEVEL_INFO: return Severity::info;
            default: return Severity::debug;
        }
    }

    static inline thread_local LogScope* current_ = nullptr;
    static inline Callback previous_{nullptr, nullptr};

    Line line_;
    LogScope* outer_;
    std::string pending_{};
    std::string errors_{};
    Severity severity_ = Severity::debug;
    bool abort_expected_ = false;
};

}  // namespace residency::detail::llama_cpp

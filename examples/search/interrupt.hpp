#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>

#include <atomic>
#include <csignal>
#include <stop_token>
#include <thread>

namespace search {

/// Turns the first Ctrl-C (or SIGTERM) into a request to stop; a second one kills as usual.
class Interrupt {
public:
    Interrupt() {
        signals_.async_wait([this](const boost::system::error_code& error, int signal) {
            if (!error) {
                signal_ = signal;
                signals_.clear();
                stop_.request_stop();
            }
        });
        thread_ = std::jthread([this] { context_.run(); });
    }

    Interrupt(const Interrupt&) = delete;
    Interrupt& operator=(const Interrupt&) = delete;

    ~Interrupt() { context_.stop(); }

    /// Stop is requested when the signal came.
    [[nodiscard]] std::stop_token token() const { return stop_.get_token(); }

    /// The signal, or 0.
    [[nodiscard]] int signal() const { return signal_; }

private:
    std::stop_source stop_;
    std::atomic<int> signal_ = 0;
    boost::asio::io_context context_{1};
    boost::asio::signal_set signals_{context_, SIGINT, SIGTERM};
    std::jthread thread_;
};

}  // namespace search

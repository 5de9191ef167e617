#pragma once

#include "residency/compiler.hpp"

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <stop_token>
#include <utility>
#include <vector>

namespace residency::detail::openvino {

/// What inferences run in, one in each. A call takes one and gives it back; one that finds none free waits. Any thread.
template <class Request>
class RequestPool {
public:
    /// A request that was taken, given back when it is destroyed. None if the wait for it was asked to stop.
    class Turn {
    public:
        ~Turn() {
            if (request_ != nullptr) {
                pool_->give_back(*request_);
            }
        }
        Turn(const Turn&) = delete;
        Turn& operator=(const Turn&) = delete;

        /// Whether there is one.
        explicit operator bool() const noexcept { return request_ != nullptr; }
        /// The request. Precondition: there is one.
        [[nodiscard]] Request& request() const noexcept { return *request_; }

    private:
        friend class RequestPool;
        Turn(RequestPool* pool, Request* request) noexcept : pool_(pool), request_(request) {}

        RequestPool* pool_;
        Request* request_;
    };

    /// A pool of these.
    explicit RequestPool(std::vector<Request> requests) : requests_(std::move(requests)) {
        free_.reserve(requests_.size());
        for (Request& request : requests_) {
            free_.push_back(&request);
        }
    }

    /// How many there are.
    [[nodiscard]] std::size_t size() const noexcept { return requests_.size(); }

    /// Takes the free request that was given back last, whose memory is the warmest. Waits for one, or until `stop` is
    /// requested.
    [[nodiscard]] Turn take(const std::stop_token& stop) {
        std::unique_lock lock(mutex_);
        if (!given_back_.wait(lock, stop, [this] { return !free_.empty(); })) {
            return {this, nullptr};
        }
        Request* const request = free_.back();
        free_.pop_back();
        return {this, request};
    }

private:
    void give_back(Request& request) noexcept {
        {
            const std::lock_guard lock(mutex_);
            free_.push_back(&request);  // There is room: it was reserved for all.
        }
        given_back_.notify_one();
    }

    std::vector<Request> requests_;
    std::mutex mutex_{};
    std::condition_variable_any given_back_{};
    std::vector<Request*> free_{};
};

}  // namespace residency::detail::openvino

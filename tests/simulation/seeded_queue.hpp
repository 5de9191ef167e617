#pragma once

#include "residency/runtime/asio.hpp"

#include <boost/asio/execution.hpp>

#include <cstddef>
#include <memory>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace residency::simulation {

/// Learns of everything that is posted, before and after it is in its queue: a place where other threads may come
/// between.
class PostObserver {
public:
    PostObserver() = default;
    virtual ~PostObserver() = default;
    PostObserver(const PostObserver&) = delete;
    PostObserver& operator=(const PostObserver&) = delete;
    virtual void posting() noexcept = 0;
    /// Something of the request's was posted.
    virtual void posted(int request) noexcept = 0;
};

/// What an executor was given to run. The director of the simulation runs it when it likes, in any order: as a pool of
/// threads might.
class SeededQueue {
public:
    SeededQueue(std::string_view name, asio::io_context& context, PostObserver& observer)
        : name_(name), context_(context), observer_(observer) {}
    SeededQueue(const SeededQueue&) = delete;
    SeededQueue& operator=(const SeededQueue&) = delete;

    /// Takes the task at `index` out and runs it.
    void run(std::size_t index) {
        const std::unique_ptr<Task> task = std::move(tasks_[index]);
        tasks_.erase(tasks_.begin() + static_cast<std::ptrdiff_t>(index));
        task->run();
    }
    /// `request`: whose it is; 0 if that is not known.
    template <class Function>
    void post(Function&& function, int request) {
        if (request != 0) {
            observer_.posted(request);
        }
        observer_.posting();
        tasks_.push_back(std::make_unique<TaskOf<std::decay_t<Function>>>(std::forward<Function>(function)));
        observer_.posting();
    }
    void track(int by) noexcept { tracked_ += by; }

    [[nodiscard]] std::string_view name() const noexcept { return name_; }
    [[nodiscard]] std::size_t size() const noexcept { return tasks_.size(); }
    /// How many executors say that there is work outstanding: a wait of a timer is one each.
    [[nodiscard]] int tracked() const noexcept { return tracked_; }
    [[nodiscard]] asio::io_context& context() const noexcept { return context_; }

private:
    struct Task {
        Task() = default;
        virtual ~Task() = default;
        Task(const Task&) = delete;
        Task& operator=(const Task&) = delete;
        virtual void run() = 0;
    };
    template <class Function>
    struct TaskOf final : Task {
        template <class Argument>
        explicit TaskOf(Argument&& argument) : function(std::forward<Argument>(argument)) {}
        // Moved out first, as Asio does: what the function owns is gone before what comes after it.
        void run() override {
            Function local(std::move(function));
            std::move(local)();
        }
        Function function;
    };

    std::string_view name_;
    asio::io_context& context_;
    PostObserver& observer_;
    std::vector<std::unique_ptr<Task>> tasks_;
    int tracked_ = 0;
};

/// The executor of a SeededQueue. Its timers are those of the queue's io_context, which runs nothing but them. It may
/// be a request's own.
class QueueExecutor {
public:
    explicit QueueExecutor(SeededQueue& queue, int request = 0, bool tracked = false) noexcept
        : queue_(&queue), request_(request), tracked_(tracked) {
        count(1);
    }
    QueueExecutor(const QueueExecutor& other) noexcept
        : queue_(other.queue_), request_(other.request_), tracked_(other.tracked_) {
        count(1);
    }
    QueueExecutor& operator=(const QueueExecutor& other) noexcept {
        if (this != &other) {
            count(-1);
            queue_ = other.queue_;
            request_ = other.request_;
            tracked_ = other.tracked_;
            count(1);
        }
        return *this;
    }
    ~QueueExecutor() { count(-1); }

    [[nodiscard]] asio::execution_context& query(asio::execution::context_t /*property*/) const noexcept {
        return queue_->context();
    }
    [[nodiscard]] static constexpr asio::execution::blocking_t::never_t query(
        asio::execution::blocking_t /*property*/) noexcept {
        return {};
    }
    [[nodiscard]] QueueExecutor require(asio::execution::blocking_t::never_t /*property*/) const noexcept {
        return *this;
    }
    [[nodiscard]] QueueExecutor require(asio::execution::outstanding_work_t::tracked_t /*property*/) const noexcept {
        return QueueExecutor(*queue_, request_, true);
    }
    [[nodiscard]] QueueExecutor require(asio::execution::outstanding_work_t::untracked_t /*property*/) const noexcept {
        return QueueExecutor(*queue_, request_, false);
    }
    template <class Function>
    void execute(Function&& function) const {
        queue_->post(std::forward<Function>(function), request_);
    }
    [[nodiscard]] SeededQueue& queue() const noexcept { return *queue_; }

    friend bool operator==(const QueueExecutor& left, const QueueExecutor& right) noexcept {
        return left.queue_ == right.queue_;
    }
    friend bool operator!=(const QueueExecutor& left, const QueueExecutor& right) noexcept { return !(left == right); }

private:
    void count(int by) const noexcept {
        if (tracked_) {
            queue_->track(by);
        }
    }

    SeededQueue* queue_;
    int request_;
    bool tracked_;
};

}  // namespace residency::simulation

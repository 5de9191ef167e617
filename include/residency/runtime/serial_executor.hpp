#pragma once

#include "residency/runtime/asio.hpp"
#include "residency/runtime/mutex.hpp"
#include "residency/runtime/user_code_scope.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>

#include <atomic>
#include <cstddef>
#include <memory>
#include <thread>
#include <type_traits>
#include <utility>

// A host's headers may have defined this: it is a name of Asio's.
#pragma push_macro("require")
#undef require

namespace residency::runtime {

/// Runs what it is given one after the other, in order, on another executor, as asio::strand does. It differs where
/// something fails, because a model call is given up then and not lost:
///
///  - If there is no memory for a function, or the other executor throws instead of taking it, it is destroyed, and
///    what waits here, too. A strand throws, which ends the process where Asio posts in a destructor, and keeps what
///    waits until its context ends.
///  - What a function throws ends that function. On a thread of the library's own it would end the process: a coroutine
///    for which memory runs out when it begins to wait throws there.
///
/// Its functions are user code on a thread of an owner's: a `UserCodeScope` is around each.
///
/// It takes no memory to copy it into a boost::asio::any_io_executor. It does not count as work of the other executor.
class SerialExecutor {
public:
    /// One over `inner`, which is not empty, for `owner`. Throws std::bad_alloc. No constructor: to be asked whether it
    /// is an executor, a type must not be made of what can be made of it.
    [[nodiscard]] static SerialExecutor over(const asio::any_io_executor& inner, const void* owner) {
        return SerialExecutor(new State(inner, owner), false);
    }

    /// A copy takes its turns with the original.
    SerialExecutor(const SerialExecutor& other) noexcept : state_(other.state_), never_(other.never_) {}
    /// Leaves `other` without use.
    SerialExecutor(SerialExecutor&& other) noexcept : state_(std::move(other.state_)), never_(other.never_) {}
    /// The same as making a copy.
    SerialExecutor& operator=(const SerialExecutor& other) noexcept {
        state_ = other.state_;
        never_ = other.never_;
        return *this;
    }
    ~SerialExecutor() = default;

    /// The context of the other executor.
    [[nodiscard]] asio::execution_context& query(asio::execution::context_t /*property*/) const noexcept {
        return asio::query(state_->posts, asio::execution::context);
    }
    /// Whether `execute` may run a function before it returns: it does, unless `never` is required, where one of its
    /// functions runs on this thread, or where it is the function's turn and the other executor runs it at once.
    [[nodiscard]] asio::execution::blocking_t query(asio::execution::blocking_t /*property*/) const noexcept {
        return never_ ? asio::execution::blocking_t(asio::execution::blocking.never)
                      : asio::execution::blocking_t(asio::execution::blocking.possibly);
    }
    /// The same executor, whose `execute` returns first.
    [[nodiscard]] SerialExecutor require(asio::execution::blocking_t::never_t /*property*/) const noexcept {
        return SerialExecutor(state_, true);
    }
    /// The same executor, whose `execute` may run a function.
    [[nodiscard]] SerialExecutor require(asio::execution::blocking_t::possibly_t /*property*/) const noexcept {
        return SerialExecutor(state_, false);
    }

    /// Runs `function` in its turn, or destroys it.
    template <class Function>
    void execute(Function&& function) const noexcept {
        using Own = std::decay_t<Function>;
        if (!never_ && state_->runner == std::this_thread::get_id()) {
            Own own(std::forward<Function>(function));
            run(own);
        } else if (state_->begin_turn()) {
            // What a socket has completed goes on at once on a thread of the other executor's.
            run_on(never_ ? state_->posts : state_->dispatches, Turn(state_), std::forward<Function>(function));
        } else {
            try {
                std::unique_ptr<Task> task = std::make_unique<TaskOf<Own>>(std::forward<Function>(function));
                if (!state_->wait(task)) {
                    run_on(state_->posts, Turn(state_), RunTask{std::move(task)});
                }
            } catch (...) {  // NOLINT(bugprone-empty-catch): out of memory: the caller destroys it
            }
        }
    }

    /// Whether they are copies of one another; what is required of them does not matter.
    friend bool operator==(const SerialExecutor& left, const SerialExecutor& right) noexcept {
        return left.state_ == right.state_;
    }
    /// The opposite.
    friend bool operator!=(const SerialExecutor& left, const SerialExecutor& right) noexcept {
        return !(left == right);
    }

private:
    // So many functions run in one turn, if they are there; then others of the other executor have theirs.
    static constexpr int most_in_a_turn = 16;

    // A function that waits.
    struct Task {
        Task() = default;
        virtual ~Task() = default;
        Task(const Task&) = delete;
        Task& operator=(const Task&) = delete;
        virtual void run() = 0;
        std::unique_ptr<Task> next{};
    };
    template <class Function>
    struct TaskOf final : Task {
        template <class Argument>
        explicit TaskOf(Argument&& argument) : function(std::forward<Argument>(argument)) {}
        void run() override { std::move(function)(); }
        Function function;
    };
    struct RunTask {
        std::unique_ptr<Task> task;
        void operator()() const { task->run(); }
    };

    struct State : boost::intrusive_ref_counter<State> {
        State(const asio::any_io_executor& other, const void* of)
            : posts(asio::require(other, asio::execution::blocking.never)),
              dispatches(asio::prefer(other, asio::execution::blocking.possibly)),
              owner(of) {}
        State(const State&) = delete;
        State& operator=(const State&) = delete;
        ~State() = default;

        // Whether nothing has the turn; then the caller has it.
        [[nodiscard]] bool begin_turn() noexcept {
            const MutexLock lock(mutex);
            return !std::exchange(has_turn, true);
        }
        // Lets it wait, or gives the turn to the caller, who has kept it then.
        [[nodiscard]] bool wait(std::unique_ptr<Task>& task) noexcept {
            const MutexLock lock(mutex);
            if (!std::exchange(has_turn, true)) {
                return false;
            }
            std::unique_ptr<Task>& place = last == nullptr ? first : last->next;
            last = task.get();
            place = std::move(task);
            return true;
        }
        // The next function. If there is none, the turn ends.
        [[nodiscard]] std::unique_ptr<Task> next() noexcept {
            const MutexLock lock(mutex);
            std::unique_ptr<Task> task = std::move(first);
            if (task) {
                first = std::move(task->next);
                last = first ? last : nullptr;
            } else {
                has_turn = false;
            }
            return task;
        }
        // Ends the turn and destroys what waits for one.
        void give_up() noexcept {
            while (const std::unique_ptr<Task> task = next()) {}
        }

        // The other executor: one that never runs a function at once, and one that may.
        const asio::any_io_executor posts;
        const asio::any_io_executor dispatches;
        const void* const owner;
        std::atomic<std::thread::id> runner{};
        Mutex mutex{};
        bool has_turn RESIDENCY_GUARDED_BY(mutex) = false;
        std::unique_ptr<Task> first RESIDENCY_GUARDED_BY(mutex){};
        Task* last RESIDENCY_GUARDED_BY(mutex) = nullptr;
    };

    // The turn, which is given up if nothing is made of it.
    class Turn {
    public:
        explicit Turn(boost::intrusive_ptr<State> state) noexcept : state_(std::move(state)) {}
        Turn(Turn&&) noexcept = default;
        Turn(const Turn&) = delete;
        Turn& operator=(const Turn&) = delete;
        Turn& operator=(Turn&&) = delete;
        ~Turn() {
            if (state_) {
                state_->give_up();
            }
        }
        [[nodiscard]] boost::intrusive_ptr<State> take() noexcept { return std::move(state_); }
        [[nodiscard]] boost::intrusive_ptr<State> keep() const noexcept { return state_; }

    private:
        boost::intrusive_ptr<State> state_;
    };

    // What the other executor runs. Members are destroyed in the opposite order: the function, then the turn.
    template <class Function>
    struct Job {
        Turn turn;
        Function function;

        void operator()() noexcept {
            const boost::intrusive_ptr<State> state = turn.take();
            const UserCodeScope scope(state->owner);
            state->runner = std::this_thread::get_id();
            {
                Function own(std::move(function));
                run(own);
            }
            for (int count = 1; count < most_in_a_turn; ++count) {
                // Before the turn may end, and another thread have it.
                state->runner = std::thread::id();
                std::unique_ptr<Task> task = state->next();
                if (!task) {
                    return;
                }
                state->runner = std::this_thread::get_id();
                RunTask own{std::move(task)};
                run(own);
            }
            state->runner = std::thread::id();
            if (std::unique_ptr<Task> task = state->next()) {
                run_on(state->posts, Turn(state), RunTask{std::move(task)});
            }
        }
    };

    explicit SerialExecutor(boost::intrusive_ptr<State> state, bool never) noexcept
        : state_(std::move(state)), never_(never) {}

    template <class Function>
    static void run(Function& function) noexcept {
        try {
            std::move(function)();
        } catch (...) {  // NOLINT(bugprone-empty-catch): what it owned has been given up
        }
    }
    template <class Function>
    static void run_on(const asio::any_io_executor& executor, Turn turn, Function&& function) noexcept {
        try {
            const boost::intrusive_ptr<State> keeps_executor = turn.keep();
            executor.execute(Job<std::decay_t<Function>>{std::move(turn), std::forward<Function>(function)});
        } catch (...) {  // NOLINT(bugprone-empty-catch): the job has given up what waits
        }
    }

    boost::intrusive_ptr<State> state_;
    bool never_ = false;
};

}  // namespace residency::runtime

#pragma pop_macro("require")

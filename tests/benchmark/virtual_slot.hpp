#pragma once

#include "residency/core/slot_scheduler.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <queue>
#include <string>
#include <utility>
#include <vector>

namespace residency::benchmark {

using core::Duration;
using core::Time;

/// A model in virtual time: how long a call takes, how long its load, how many texts it wants in one call, and how many
/// calls it runs at once without their slowing each other.
struct Engine {
    const char* name;
    Duration call;
    Duration text;
    std::size_t calls = 1;
    Duration load = std::chrono::milliseconds(300);
    std::size_t batch = 32;

    [[nodiscard]] Duration takes(std::size_t texts) const { return call + text * static_cast<Duration::rep>(texts); }
};

/// A slot in virtual time: the production SlotScheduler, and in place of threads and models a list of what ends when.
/// So it shows what the decisions are worth, the same each time, whatever the machine.
class VirtualSlot {
public:
    /// What became of a request.
    struct Answer {
        bool succeeded = false;
        Time came{0};
        Time ended{0};
    };
    using Handler = std::function<void(const Answer&)>;

    VirtualSlot(const SlotOptions& options, const Engine& engine) : scheduler_(options), engine_(engine) {}

    [[nodiscard]] Time now() const noexcept { return now_; }
    [[nodiscard]] const core::SlotScheduler& scheduler() const noexcept { return scheduler_; }

    /// A request about so many texts of 20 bytes each comes now.
    void submit(const ModelKey& key, core::Index texts, Priority priority, Duration timeout, Handler handler) {
        core::RequestSpec spec;
        spec.is_inference = true;
        spec.texts = texts;
        spec.bytes = texts * 20;
        spec.priority = priority;
        spec.since = now_;
        if (timeout != Duration::zero()) {
            spec.deadline = now_ + timeout;
            scheduler_.note_timeout(timeout);
        }
        const std::size_t request = requests_.size();
        requests_.push_back({{}, texts, priority, 0, false, now_, std::move(handler)});
        actions_.clear();
        core::Grant grant;
        if (scheduler_.try_grant(key, spec, grant) == core::Attempt::granted) {
            if (grant.request.valid()) {
                known_[grant.request.index] = request;
                requests_[request].id = grant.request;
            }
            begin({grant, {request}}, texts);
            return;
        }
        const core::Enqueued enqueued = scheduler_.enqueue(key, spec, now_, actions_);
        if (enqueued.request.valid()) {
            // What is appended before it joined may be about one that had the same index.
            core::Actions behind(actions_.begin() + static_cast<std::ptrdiff_t>(enqueued.joined_after), actions_.end());
            actions_.resize(enqueued.joined_after);
            carry_out();
            known_[enqueued.request.index] = request;
            requests_[request].id = enqueued.request;
            actions_ = std::move(behind);
        }
        carry_out();
        if (!enqueued.request.valid()) {
            answer(request, false);
        }
    }

    /// Calls `then` at that time.
    void at(Time time, std::function<void()> then) { agenda_.push({time, ++entries_, std::move(then)}); }

    /// Lets time pass until `end`.
    void run(Time end) {
        for (;;) {
            const Time next = agenda_.empty() ? core::never : agenda_.top().time;
            const Time due = std::min(next, std::max(now_, scheduler_.next_alarm()));
            if (due > end) {
                now_ = end;
                return;
            }
            now_ = due;
            if (scheduler_.next_alarm() <= now_) {
                actions_.clear();
                scheduler_.tick(now_, actions_);
                carry_out();
                continue;
            }
            const std::function<void()> then = agenda_.top().then;
            agenda_.pop();
            then();
        }
    }

private:
    struct Request {
        core::RequestId id;
        core::Index texts;
        Priority priority;
        core::Index computed;
        bool is_answered;
        Time came;
        Handler handler;
    };
    // A call: its lease, and the requests that share it, or the one that it is a part of.
    struct Call {
        core::Grant grant;
        std::vector<std::size_t> requests;
    };
    struct Entry {
        Time time;
        std::uint64_t order;
        std::function<void()> then;
        bool operator<(const Entry& other) const {
            return time != other.time ? time > other.time : order > other.order;
        }
    };

    void answer(std::size_t request, bool succeeded) {
        if (!std::exchange(requests_[request].is_answered, true)) {
            // It may make requests of its own, which move this one.
            const Handler handler = std::move(requests_[request].handler);
            handler({succeeded, requests_[request].came, now_});
        }
    }

    void begin(Call call, core::Index texts) {
        call.grant.texts = texts;
        call.grant.priority = requests_[call.requests.front()].priority;
        at(now_ + engine_.takes(texts), [this, call] { end(call); });
    }

    void end(const Call& call) {
        std::vector<std::size_t> complete;
        for (const std::size_t each : call.requests) {
            Request& request = requests_[each];
            request.computed += call.grant.is_part ? call.grant.texts : request.texts;
            if (request.computed == request.texts) {
                complete.push_back(each);
            }
            if (each != call.requests.front() && request.id.valid()) {
                scheduler_.leave_call(request.id);
            }
        }
        actions_.clear();
        core::Grant grant = call.grant;
        grant.request = requests_[call.requests.front()].id;
        scheduler_.release(grant, now_, actions_);
        carry_out();
        for (const std::size_t each : complete) {
            answer(each, true);
        }
    }

    void carry_out() {
        const core::Actions actions = std::exchange(actions_, {});
        // Handlers make requests of their own, which may get an index that an action still names.
        std::vector<std::size_t> failed;
        for (std::size_t place = 0; place < actions.size(); ++place) {
            const core::Action& action = actions[place];
            const core::ResidentId resident = handle_of(action.resident);
            switch (action.type) {
                case core::ActionType::grant: {
                    Call call{{resident, {}, true}, {take(action)}};
                    core::Index texts = requests_[call.requests.front()].texts;
                    for (; place + 1 < actions.size() && actions[place + 1].type == core::ActionType::join; ++place) {
                        call.requests.push_back(take(actions[place + 1]));
                        texts += requests_[call.requests.back()].texts;
                    }
                    begin(std::move(call), texts);
                    break;
                }
                case core::ActionType::part: {
                    const std::size_t request = known_[action.subject];
                    begin({{resident, requests_[request].id, true, 0, true}, {request}}, action.count);
                    break;
                }
                case core::ActionType::fail: failed.push_back(take(action)); break;
                case core::ActionType::expire: failed.push_back(known_[action.subject]); break;
                case core::ActionType::load: at(now_, [this, resident] { load(resident); }); break;
                case core::ActionType::unload:
                    at(now_, [this, resident] {
                        actions_.clear();
                        scheduler_.unloaded(resident, now_, actions_);
                        carry_out();
                    });
                    break;
                case core::ActionType::join:
                case core::ActionType::size:
                case core::ActionType::stop_load:
                case core::ActionType::revoke:
                case core::ActionType::complete:
                case core::ActionType::event: break;
            }
        }
        for (const std::size_t request : failed) {
            answer(request, false);
        }
    }

    [[nodiscard]] core::ResidentId handle_of(core::Index resident) const {
        return resident == core::none || !scheduler_.residents().used(resident)
                   ? core::ResidentId()
                   : scheduler_.residents().handle(resident);
    }

    // The request of an action, which is known no more unless the action says so.
    std::size_t take(const core::Action& action) {
        const std::size_t request = known_[action.subject];
        if (!action.kept) {
            requests_[request].id = {};
        }
        return request;
    }

    void load(core::ResidentId resident) {
        actions_.clear();
        const bool begins = scheduler_.load_begins(resident, now_, actions_);
        carry_out();
        if (begins) {
            at(now_ + engine_.load, [this, resident] {
                actions_.clear();
                scheduler_.loaded(resident, core::ModelLimits{engine_.calls, {engine_.batch}, true}, now_, actions_);
                carry_out();
            });
        }
    }

    core::SlotScheduler scheduler_;
    Engine engine_;
    Time now_{0};
    core::Actions actions_{};
    std::priority_queue<Entry> agenda_{};
    std::uint64_t entries_ = 0;
    std::vector<Request> requests_{};
    std::map<core::Index, std::size_t> known_{};
};

}  // namespace residency::benchmark

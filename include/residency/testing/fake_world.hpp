#pragma once

#include "residency/runtime/mutex.hpp"
#include "residency/testing/fake_call.hpp"
#include "residency/testing/fake_counts.hpp"
#include "residency/testing/fake_script.hpp"

#include <algorithm>
#include <concepts>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace residency::testing {

/// Where fake models live: says what the fakes of a test shall do (`FakeScript`), and counts what they have done.
///
/// Backends and models share it, and it may be asked after all of them are gone. Two backends may share one; keys that
/// both use are then counted together. A call of a fake counts itself before it does what the script says. All
/// functions may be called from any thread.
class FakeWorld : public FakeScript {
public:
    FakeWorld() = default;
    FakeWorld(const FakeWorld&) = delete;
    FakeWorld& operator=(const FakeWorld&) = delete;

    /// What has happened to all keys together.
    [[nodiscard]] FakeCounts counts() const {
        const runtime::MutexLock lock(mutex_);
        return total_;
    }

    /// What has happened to `key`.
    [[nodiscard]] FakeCounts counts(const ModelKey& key) const {
        const runtime::MutexLock lock(mutex_);
        return counts_[key];
    }

    /// The models that live, and the latest 4,096 at least of those that are gone, in the order of their loads.
    [[nodiscard]] std::vector<FakeModelRecord> models() const {
        const runtime::MutexLock lock(mutex_);
        std::vector<FakeModelRecord> all;
        all.reserve(models_.size());
        for (const auto& [serial, record] : models_) {
            all.push_back(record);
        }
        return all;
    }

    /// The model with this number. Throws std::out_of_range if there is none, or it is long gone.
    [[nodiscard]] FakeModelRecord model(std::uint64_t serial) const {
        const runtime::MutexLock lock(mutex_);
        return models_.at(serial);
    }

    /// What the library did and never may, a sentence each: destroyed a model during a call, or gave one more calls
    /// at once than it takes. A test ends with `CHECK(world->violations().empty())`.
    [[nodiscard]] std::vector<std::string> violations() const {
        const runtime::MutexLock lock(mutex_);
        return violations_;
    }

    /// Waits until `holds(counts())`, for what happens on other threads. `holds` must not call this world.
    template <std::predicate<const FakeCounts&> Holds>
    void await(Holds holds) const {
        const runtime::MutexLock lock(mutex_);
        while (!holds(std::as_const(total_))) {
            changed_.wait(mutex_);
        }
    }

    /// Waits until `holds(counts(key))`, for what happens on other threads. `holds` must not call this world.
    template <std::predicate<const FakeCounts&> Holds>
    void await(const ModelKey& key, Holds holds) const {
        const runtime::MutexLock lock(mutex_);
        while (!holds(std::as_const(counts_[key]))) {
            changed_.wait(mutex_);
        }
    }

private:
    friend class FakeModel;
    friend class FakeAsyncModel;
    template <std::derived_from<FakeModel> Model>
    friend class FakeBackend;

    // Applies `change` to the figures of `key` and of all.
    template <class Change>
    void count(const ModelKey& key, Change change) RESIDENCY_REQUIRES(mutex_) {
        for (FakeCounts* counts : {&counts_[key], &total_}) {
            change(*counts);
            counts->most_loading = (std::max)(counts->most_loading, counts->loading);
            counts->most_resident = (std::max)(counts->most_resident, counts->loading + counts->live);
            counts->most_calling = (std::max)(counts->most_calling, counts->calling);
        }
        changed_.notify_all();
    }

    std::uint64_t begin_load(const ModelKey& key) {
        const runtime::MutexLock lock(mutex_);
        count(key, [](FakeCounts& counts) { ++counts.loads, ++counts.loading; });
        return ++serials_;
    }

    void fail_load(const ModelKey& key, std::uint64_t serial) {
        const runtime::MutexLock lock(mutex_);
        // A model that was made and then given up again, by the constructor of a derived one, has ended its load
        // already.
        const std::size_t running = models_.contains(serial) ? 0 : 1;
        count(key, [running](FakeCounts& counts) { ++counts.failed_loads, counts.loading -= running; });
    }

    // Ends the load: from here on the model lives. Gives its max_concurrency.
    std::size_t begin_life(const ModelKey& key, std::uint64_t serial) {
        const std::size_t most = max_concurrency(key);
        const runtime::MutexLock lock(mutex_);
        models_.emplace(
            serial,
            FakeModelRecord{
                .serial = serial, .key = key, .max_concurrency = most, .loaded_on = std::this_thread::get_id()});
        count(key, [](FakeCounts& counts) { --counts.loading, ++counts.live; });
        return most;
    }

    void begin_unload(std::uint64_t serial) {
        const runtime::MutexLock lock(mutex_);
        const FakeModelRecord& record = models_.at(serial);
        if (record.calling != 0) {
            violate(record, "was destroyed while it was called");
        }
    }

    void end_life(const ModelKey& key, std::uint64_t serial) {
        const runtime::MutexLock lock(mutex_);
        models_.at(serial).unloaded_on = std::this_thread::get_id();
        ++gone_;
        count(key, [](FakeCounts& counts) { --counts.live, ++counts.unloads; });
        // Records of models long gone are dropped, so that a long run does not fill the memory with them.
        for (auto oldest = models_.begin(); gone_ > 2 * records_kept && oldest != models_.end();) {
            const bool gone = oldest->second.unloaded_on.has_value();
            gone_ -= gone ? 1 : 0;
            oldest = gone ? models_.erase(oldest) : std::next(oldest);
        }
    }

    void begin_call(const ModelKey& key, std::uint64_t serial) {
        const runtime::MutexLock lock(mutex_);
        count(key, [](FakeCounts& counts) { ++counts.calls, ++counts.calling; });
        FakeModelRecord& record = models_.at(serial);
        ++record.calls;
        record.most_calling = (std::max)(record.most_calling, ++record.calling);
        if (record.calling > record.max_concurrency) {
            violate(record, "was called more often at once than it takes");
        }
    }

    void end_call(const ModelKey& key, std::uint64_t serial) {
        const runtime::MutexLock lock(mutex_);
        count(key, [](FakeCounts& counts) { --counts.calling; });
        // A model destroyed under its call, a fault of the library's, may even have been forgotten.
        const auto found = models_.find(serial);
        if (found != models_.end()) {
            --found->second.calling;
        }
    }

    void violate(const FakeModelRecord& record, const char* what) RESIDENCY_REQUIRES(mutex_) {
        violations_.push_back("model " + std::to_string(record.serial) + ", " + to_string(record.key) + ", " + what);
    }

    static constexpr std::size_t records_kept = 4096;

    mutable runtime::Mutex mutex_{};
    mutable std::condition_variable_any changed_{};
    // Asking for a key that nothing happened to yet makes its entry.
    mutable std::map<ModelKey, FakeCounts> counts_ RESIDENCY_GUARDED_BY(mutex_){};
    FakeCounts total_ RESIDENCY_GUARDED_BY(mutex_){};
    std::map<std::uint64_t, FakeModelRecord> models_ RESIDENCY_GUARDED_BY(mutex_){};
    std::size_t gone_ RESIDENCY_GUARDED_BY(mutex_) = 0;
    std::vector<std::string> violations_ RESIDENCY_GUARDED_BY(mutex_){};
    std::uint64_t serials_ RESIDENCY_GUARDED_BY(mutex_) = 0;
};

}  // namespace residency::testing

#pragma once

#include "residency/core/action.hpp"
#include "residency/core/resident.hpp"
#include "residency/core/slab.hpp"
#include "residency/shell/intrusive_queue.hpp"
#include "residency/shell/resident_record.hpp"

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace residency::detail {

/// The records of a slot's residents, by the residents' indexes. Guarded by the slot's mutex; what a record owns is
/// destroyed without it.
class ResidentRecords {
public:
    using Gone = IntrusiveQueue<&ResidentRecord::next_job>;

    /// The record at `index`; precondition: it has one.
    [[nodiscard]] const std::shared_ptr<ResidentRecord>& operator[](core::Index index) const noexcept {
        return records_[index];
    }
    /// The record at `index`, or null.
    [[nodiscard]] ResidentRecord* find(core::Index index) const noexcept {
        return index < records_.size() ? records_[index].get() : nullptr;
    }
    [[nodiscard]] auto begin() const noexcept { return records_.begin(); }
    [[nodiscard]] auto end() const noexcept { return records_.end(); }

    /// A new record for a resident. Throws bad_alloc; then `index` has none.
    std::shared_ptr<ResidentRecord> add(core::ResidentId id, const core::SharedKey& key, LeaseOwner& owner,
                                        Gone& gone) {
        remove(id.index, gone);
        if (records_.size() <= id.index) {
            records_.resize(std::size_t{id.index} + 1);
        }
        auto record = std::make_shared<ResidentRecord>();
        record->owner = &owner;
        record->key = key;
        record->id = id;
        records_[id.index] = record;
        ++count_;
        return record;
    }

    /// Calls `use(model)` for each model that is there; the records have none afterwards.
    template <class Use>
    void take_models(const Use& use) noexcept {
        for (const std::shared_ptr<ResidentRecord>& record : records_) {
            if (record && record->model != nullptr) {
                use(std::exchange(record->model, nullptr));
            }
        }
    }
    /// Takes out the records of residents that are gone.
    void remove_gone(const core::Slab<core::Resident, core::ResidentTag>& residents, Gone& gone) noexcept {
        if (count_ == residents.size()) {
            return;
        }
        for (core::Index index = 0; index < records_.size(); ++index) {
            if (records_[index] && !residents.contains(records_[index]->id)) {
                remove(index, gone);
            }
        }
    }

private:
    void remove(core::Index index, Gone& gone) noexcept {
        if (find(index) != nullptr) {
            --count_;
            gone.push(std::move(records_[index]));
        }
    }

    std::vector<std::shared_ptr<ResidentRecord>> records_{};
    std::size_t count_ = 0;
};

}  // namespace residency::detail

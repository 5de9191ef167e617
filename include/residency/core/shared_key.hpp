#pragma once

#include "residency/model_key.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>

#include <utility>

namespace residency::core {

/// A key that all requests and residents of one model share: one pointer, copied without memory, so that noting it
/// cannot fail. Copies may be made and dropped on any thread. A plain value.
class SharedKey {
public:
    /// No key.
    SharedKey() = default;
    /// A copy of `key` that can be shared. Throws bad_alloc.
    explicit SharedKey(const ModelKey& key) : counted_(new const Counted(key)) {}
    // intrusive_ptr counts without failing, but does not say so.
    /// Shares the key of `other`.
    SharedKey(const SharedKey& other) noexcept = default;
    /// Takes the key of `other`.
    SharedKey(SharedKey&& other) noexcept = default;
    /// Shares the key of `other` instead.
    SharedKey& operator=(const SharedKey& other) noexcept = default;
    /// Takes the key of `other` instead.
    SharedKey& operator=(SharedKey&& other) noexcept = default;
    ~SharedKey() = default;

    /// Whether there is a key.
    explicit operator bool() const noexcept { return counted_ != nullptr; }
    /// The key; precondition: there is one.
    [[nodiscard]] const ModelKey& operator*() const noexcept { return counted_->key; }
    /// The key; precondition: there is one.
    [[nodiscard]] const ModelKey* operator->() const noexcept { return &counted_->key; }

    /// Equal keys, or no key on both sides.
    friend bool operator==(const SharedKey& left, const SharedKey& right) noexcept {
        return left.counted_ == right.counted_ || (left && right && *left == *right);
    }

private:
    // The count stands beside the key: half the size of a shared_ptr where many wait.
    struct Counted : boost::intrusive_ref_counter<Counted, boost::thread_safe_counter> {
        explicit Counted(ModelKey shared) : key(std::move(shared)) {}
        ModelKey key;
    };

    boost::intrusive_ptr<const Counted> counted_{};
};

}  // namespace residency::core

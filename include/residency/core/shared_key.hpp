#pragma once

#include "residency/model_key.hpp"

#include <memory>

namespace residency::core {

/// A key that all who have to do with one model share: copied without memory, so that noting it cannot fail. A plain value.
class SharedKey {
public:
    /// No key.
    SharedKey() = default;
    /// A copy of `key` that can be shared.
    explicit SharedKey(const ModelKey& key) : key_(std::make_shared<const ModelKey>(key)) {}

    /// Whether there is a key.
    explicit operator bool() const noexcept { return key_ != nullptr; }
    /// The key; precondition: there is one.
    [[nodiscard]] const ModelKey& operator*() const noexcept { return *key_; }
    /// The key; precondition: there is one.
    [[nodiscard]] const ModelKey* operator->() const noexcept { return key_.get(); }

    /// The same key, whoever shares it.
    friend bool operator==(const SharedKey& left, const SharedKey& right) noexcept {
        return left.key_ == right.key_ || (left && right && *left == *right);
    }

private:
    std::shared_ptr<const ModelKey> key_;
};

}  // namespace residency::core

#pragma once

#include "residency/compiler.hpp"

#include <memory>
#include <utility>

namespace residency::core {

/// Owns an object, or nothing. Copying and comparing reach the object, so that a table in pieces stays a plain value.
template <class T>
class DeepPtr {
public:
    /// Owns nothing.
    DeepPtr() = default;
    /// Owns `object`.
    explicit DeepPtr(std::unique_ptr<T> object) noexcept : object_(std::move(object)) {}
    /// Owns a copy of what `other` owns. Throws bad_alloc.
    DeepPtr(const DeepPtr& other) : object_(other.object_ ? std::make_unique<T>(*other.object_) : nullptr) {}
    /// Takes what `other` owns.
    DeepPtr(DeepPtr&& other) noexcept = default;
    /// Owns what `other` owned, or a copy of it.
    DeepPtr& operator=(DeepPtr other) noexcept {
        object_.swap(other.object_);
        return *this;
    }
    ~DeepPtr() = default;

    /// Whether it owns an object.
    explicit operator bool() const noexcept { return object_ != nullptr; }
    /// The object; precondition: there is one.
    [[nodiscard]] T& operator*() const noexcept { return *object_; }
    /// The object; precondition: there is one.
    [[nodiscard]] T* operator->() const noexcept { return object_.get(); }

    /// Equal objects, or none on both sides.
    friend bool operator==(const DeepPtr& left, const DeepPtr& right) {
        return left.object_ && right.object_ ? *left.object_ == *right.object_ : left.object_ == right.object_;
    }

private:
    std::unique_ptr<T> object_{};
};

}  // namespace residency::core

#pragma once

#include "residency/compiler.hpp"

#include <memory>

namespace residency::detail {

/// `std::enable_shared_from_this` as a base of a class with virtual functions: no object can be deleted through it.
template <class Object>
class SharedFromThis : public std::enable_shared_from_this<Object> {
public:
    SharedFromThis(const SharedFromThis&) = delete;
    SharedFromThis& operator=(const SharedFromThis&) = delete;

protected:
    SharedFromThis() noexcept = default;
    ~SharedFromThis() = default;
};

}  // namespace residency::detail

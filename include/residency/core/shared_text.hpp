#pragma once

#include "residency/compiler.hpp"

#include <memory>
#include <string>

namespace residency::core {

/// A text that all who report it share: copied without memory, so that noting it cannot fail. Null stands for no text.
using SharedText = std::shared_ptr<const std::string>;

}  // namespace residency::core

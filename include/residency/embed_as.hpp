#pragma once

#include "residency/compiler.hpp"

#include <cstdint>

namespace residency {

/// What a text is to an embedding model. Many models want an instruction or a prefix before a query, and another one or
/// none before a document; a vector that was made without it finds less.
enum class EmbedAs : std::uint8_t {
    /// The text as it is, with nothing added. The default.
    as_is,
    /// Something to search with.
    query,
    /// Something to be found: a document or a passage.
    document,
};

}  // namespace residency

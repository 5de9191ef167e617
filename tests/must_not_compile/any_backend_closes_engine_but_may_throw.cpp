// An engine that a type-erased backend is to close, but would not, is refused as by a manager.
// GNU: close_engine() must be static and noexcept
// Clang: close_engine() must be static and noexcept

#include "residency/backends/any.hpp"
#include "residency/backends/lexical.hpp"

struct Mine : residency::LexicalEmbeddingBackend {
#if defined(CONTROL)
    static void close_engine() noexcept;
#else
    static void close_engine();
#endif
};

residency::AnyEmbeddingBackend use() { return residency::AnyEmbeddingBackend(Mine()); }

// A lease that nobody keeps ends at once, which nobody means.
// GNU: ignoring return value of
// Clang: ignoring return value of function declared with 'nodiscard' attribute

#include "residency/model_slot.hpp"
#include "residency/testing/fake_backend.hpp"

void use(residency::ModelSlot<residency::testing::FakeEmbeddingBackend>& slot) {
#if defined(CONTROL)
    const auto lease = slot.acquire("minilm");
#else
    slot.acquire("minilm");
#endif
}

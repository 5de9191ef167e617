// A lease that is not kept ends at once.
// GNU: declared with attribute 'nodiscard'
// GNU: a lease that is not kept ends at once: auto lease = ...
// Clang: declared with 'nodiscard' attribute: a lease that is not kept ends at once: auto lease = ...

#include "residency/model_slot.hpp"
#include "residency/testing/fake_backend.hpp"

void use(residency::ModelSlot<residency::testing::FakeEmbeddingBackend>& slot) {
#if defined(CONTROL)
    const auto lease = slot.acquire("minilm");
#else
    slot.acquire("minilm");
#endif
}

// A reference to the model of a lease that is not kept would be one to a model that may be gone.
// GNU: use of deleted function
// GNU: // the lease would end before the reference: keep it first, auto lease = ...
// Clang: overload resolution selected deleted operator '*'
// Clang: // the lease would end before the reference: keep it first, auto lease = ...

#include "residency/model_slot.hpp"
#include "residency/testing/fake_backend.hpp"

void use(residency::ModelSlot<residency::testing::FakeEmbeddingBackend>& slot) {
#if defined(CONTROL)
    const auto lease = slot.acquire("minilm");
    [[maybe_unused]] auto& model = *lease;
#else
    [[maybe_unused]] auto& model = *slot.acquire("minilm");
#endif
}

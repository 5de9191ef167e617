// A completion handler takes the result that the call gives: the compiler names the signature that is wanted.
// GNU: no matching function for call to
// GNU: completion_token_for<Token, void(std::__exception_ptr::exception_ptr, residency::ShutdownReport)>
// Clang: no matching member function for call to 'async_shutdown'
// Clang: void (std::exception_ptr,
// Clang: ShutdownReport)>' evaluated to false

#include "residency/model_slot.hpp"
#include "residency/testing/fake_backend.hpp"

#include <exception>

void use(residency::ModelSlot<residency::testing::FakeEmbeddingBackend>& slot) {
#if defined(CONTROL)
    slot.async_shutdown([](std::exception_ptr, const residency::ShutdownReport&) {});
#else
    slot.async_shutdown([](std::exception_ptr, bool) {});
#endif
}

// A completion handler takes the error, too.
// GNU: no matching function for call to
// GNU: completion_token_for<Token, void(std::__exception_ptr::exception_ptr, residency::Embeddings)>
// Clang: no matching member function for call to 'async_embed'
// Clang: void (std::exception_ptr,
// Clang: Embeddings)>' evaluated to false

#include "residency/model_manager.hpp"
#include "residency/testing/fake_backend.hpp"

#include <exception>

using residency::testing::FakeEmbeddingBackend;
using residency::testing::FakeRerankerBackend;

void use(residency::ModelManager<FakeEmbeddingBackend, FakeRerankerBackend>& models) {
#if defined(CONTROL)
    models.async_embed("minilm", {"text"}, [](std::exception_ptr, residency::Embeddings) {});
#else
    models.async_embed("minilm", {"text"}, [](residency::Embeddings) {});
#endif
}

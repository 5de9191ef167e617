// A request without a token is one for a coroutine: nothing happens until it is awaited, and who forgets that is warned.
// GNU: boost::asio::awaitable<residency::Embeddings
// GNU: declared with attribute 'nodiscard'
// Clang: declared with 'nodiscard' attribute

#include "residency/model_manager.hpp"
#include "residency/testing/fake_backend.hpp"

#include <string>
#include <vector>

using residency::testing::FakeEmbeddingBackend;
using residency::testing::FakeRerankerBackend;

residency::asio::awaitable<void> use(residency::ModelManager<FakeEmbeddingBackend, FakeRerankerBackend>& models,
                                     const residency::ModelKey& key, std::vector<std::string> texts) {
#if defined(CONTROL)
    co_await models.async_embed(key, texts);
#else
    models.async_embed(key, texts);
    co_return;
#endif
}

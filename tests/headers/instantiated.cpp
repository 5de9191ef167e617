// The class templates and their asynchronous calls with all that is in them, so that a compiler's warnings, and clang's
// check of what is guarded by which mutex, see the bodies too. Compiled on each compiler that is here, and never run.

#include "residency/residency.hpp"
#include "residency/testing/fake_backend.hpp"
#include "residency/testing/outcome.hpp"
#include "residency/testing/virtual_clock.hpp"

#include <chrono>
#include <exception>
#include <string>
#include <vector>

template class residency::ModelSlot<residency::LexicalEmbeddingBackend>;
template class residency::ModelSlot<residency::LexicalRerankerBackend>;
template class residency::Lease<residency::LexicalEmbedder>;
template class residency::ModelManager<residency::LexicalEmbeddingBackend, residency::LexicalRerankerBackend>;

template class residency::testing::Outcome<int>;
template class residency::ModelSlot<residency::testing::FakeEmbeddingBackend, residency::testing::VirtualClock>;

namespace residency::test {

template <class Result>
struct Ignore {
    void operator()(const std::exception_ptr&, const Result&) const {}
};

template <>
struct Ignore<void> {
    void operator()(const std::exception_ptr&) const {}
};

using Manager = ModelManager<LexicalEmbeddingBackend, LexicalRerankerBackend>;
using Lease = Manager::embedding_slot_type::lease_type;

asio::awaitable<void> await_each(Manager& models, ModelKey key, std::vector<std::string> texts) {
    auto& slot = models.embedding();
    const RequestOptions options;
    const Embeddings embeddings = co_await models.async_embed(key, texts, options);
    const Ranking ranking = co_await models.async_rerank(key, "query", texts, options);
    const Lease lease = co_await slot.async_acquire(key, options);
    const Generation generation = co_await slot.async_ensure_loaded(key, options);
    co_await slot.async_unload(key, UnloadMode::drain);
    co_await slot.async_unload();
    const ShutdownReport report = co_await models.async_shutdown(std::chrono::milliseconds{1});
    static_cast<void>(embeddings.size() + ranking.size() + generation.value() + report.leftovers.size());
}

void call_each(Manager& models, const ModelKey& key, const std::vector<std::string>& texts) {
    auto& slot = models.embedding();
    models.async_embed(key, texts, Ignore<Embeddings>{});
    models.async_rerank(key, "query", texts, Ignore<Ranking>{});
    slot.async_acquire(key, Ignore<Lease>{});
    slot.async_ensure_loaded(key, Ignore<Generation>{});
    slot.async_unload(UnloadMode::revoke, Ignore<void>{});
    models.async_shutdown(Ignore<ShutdownReport>{});
}

}  // namespace residency::test

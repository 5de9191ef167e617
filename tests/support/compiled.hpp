#pragma once

// What most tests make of the fakes and bench.hpp, compiled once, by compiled.cpp. Included by bench.hpp where the
// program has that: see residency_add_catch_test in CMakeLists.txt.

#include "residency/embeddings.hpp"
#include "residency/generation.hpp"
#include "residency/lease.hpp"
#include "residency/model_manager.hpp"
#include "residency/model_slot.hpp"
#include "residency/ranking.hpp"
#include "residency/status.hpp"
#include "residency/testing/fake_backend.hpp"
#include "residency/testing/outcome.hpp"
#include "residency/testing/virtual_clock.hpp"

#include "support/bench.hpp"

#include <chrono>

#if !defined(RESIDENCY_TESTS_TEMPLATE)
#define RESIDENCY_TESTS_TEMPLATE extern template
#endif

namespace residency::detail {

RESIDENCY_TESTS_TEMPLATE struct SlotState<testing::VirtualClock>;
RESIDENCY_TESTS_TEMPLATE class SlotMemory<SlotShell<testing::VirtualClock>>;
RESIDENCY_TESTS_TEMPLATE class SlotShell<testing::VirtualClock>;
RESIDENCY_TESTS_TEMPLATE class BackendSlot<testing::FakeEmbeddingBackend, std::chrono::steady_clock>;
RESIDENCY_TESTS_TEMPLATE class BackendSlot<testing::FakeEmbeddingBackend, testing::VirtualClock>;
RESIDENCY_TESTS_TEMPLATE class BackendSlot<testing::FakeRerankerBackend, std::chrono::steady_clock>;
RESIDENCY_TESTS_TEMPLATE class BackendSlot<testing::FakeRerankerBackend, testing::VirtualClock>;

}  // namespace residency::detail

namespace residency {

RESIDENCY_TESTS_TEMPLATE class ModelSlot<testing::FakeEmbeddingBackend>;
RESIDENCY_TESTS_TEMPLATE class ModelSlot<testing::FakeEmbeddingBackend, testing::VirtualClock>;
RESIDENCY_TESTS_TEMPLATE class ModelSlot<testing::FakeRerankerBackend>;
RESIDENCY_TESTS_TEMPLATE class ModelSlot<testing::FakeRerankerBackend, testing::VirtualClock>;
RESIDENCY_TESTS_TEMPLATE class ModelManager<testing::FakeEmbeddingBackend, testing::FakeRerankerBackend>;
RESIDENCY_TESTS_TEMPLATE class ModelManager<testing::FakeEmbeddingBackend, testing::FakeRerankerBackend,
                                            testing::VirtualClock>;

}  // namespace residency

namespace residency::testing {

RESIDENCY_TESTS_TEMPLATE class Outcome<Embeddings>;
RESIDENCY_TESTS_TEMPLATE class Outcome<Ranking>;
RESIDENCY_TESTS_TEMPLATE class Outcome<Lease<FakeEmbedder>>;
RESIDENCY_TESTS_TEMPLATE class Outcome<Generation>;
RESIDENCY_TESTS_TEMPLATE class Outcome<ShutdownReport>;
RESIDENCY_TESTS_TEMPLATE class Outcome<>;

}  // namespace residency::testing

namespace residency::test {

RESIDENCY_TESTS_TEMPLATE struct SlotCalls<Bench, VirtualClock>;
RESIDENCY_TESTS_TEMPLATE struct SlotCalls<Fakes, std::chrono::steady_clock>;
RESIDENCY_TESTS_TEMPLATE struct ManagerCalls<Bench, VirtualClock>;
RESIDENCY_TESTS_TEMPLATE struct ManagerCalls<Fakes, std::chrono::steady_clock>;

}  // namespace residency::test

// Mistakes that end the process: the last lines that it writes say what happened.

#include "residency/model_slot.hpp"

#include "support/bench.hpp"
#include "support/catch.hpp"
#include "support/last_words.hpp"

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace residency::test::fatal_test {

namespace {

#if !defined(NDEBUG)

TEST_CASE("bad input: an empty lease that is used says so where asserts are on", "[bad_input]") {
    using EmptyLease = Lease<FakeEmbedder>;
    const std::vector<std::function<void(EmptyLease&)>> uses{
        [](EmptyLease& lease) { (*lease).embed({}); },    [](EmptyLease& lease) { lease->embed({}); },
        [](EmptyLease& lease) { (void)lease.key(); },     [](EmptyLease& lease) { (void)lease.generation(); },
        [](EmptyLease& lease) { (void)lease.revoked(); },
    };
    for (const auto& use : uses) {
        CHECK_THAT(last_words([&] {
                       EmptyLease lease;
                       use(lease);
                   }),
                   contains_text("residency: the lease is empty"));
    }
}

TEST_CASE("bad input: a row that Embeddings do not have says so where asserts are on", "[bad_input]") {
    CHECK_THAT(last_words([] { (void)Embeddings(2, 3)[2]; }), contains_text("residency: there is no such row"));
    CHECK_THAT(last_words([] {
                   const Embeddings none;
                   (void)none[0];
               }),
               contains_text("residency: there is no such row"));
}

#endif

// Its destructor throws, although C++ has made it noexcept.
struct Unstable {
    int* broken = nullptr;
    ~Unstable() {
        if (broken == nullptr) {
            close_device();
        }
    }
    static void close_device() { throw std::runtime_error("cannot close the device"); }
};

struct UnstableBackend {
    using model_type = Unstable;
    std::unique_ptr<Unstable> load(const ModelKey&) { return std::make_unique<Unstable>(); }
};

TEST_CASE("bad input: a model that throws in its destructor ends the process", "[bad_input][H18]") {
    const std::string words = last_words_of_exception([] {
        ModelSlot<UnstableBackend> slot{UnstableBackend()};
        slot.ensure_loaded("a");
        slot.unload("a");
    });
    CHECK(words == "terminate: cannot close the device\n");
}

}  // namespace

}  // namespace residency::test::fatal_test

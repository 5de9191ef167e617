#include "residency/core/shared_key.hpp"
#include "residency/core/key_table.hpp"

#include "support/catch.hpp"
#include "support/memory.hpp"

#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace residency::core::shared_key_test {

static_assert(std::is_nothrow_copy_constructible_v<SharedKey> && std::is_nothrow_copy_assignable_v<SharedKey>);
static_assert(std::is_nothrow_move_constructible_v<SharedKey> && std::is_nothrow_move_assignable_v<SharedKey>);
// Every request and every key entry holds one.
static_assert(sizeof(SharedKey) == sizeof(void*));

TEST_CASE("a shared key is the key, however it is shared") {
    const SharedKey empty;
    const SharedKey first(ModelKey("a", "f16"));
    const SharedKey copy = first;
    const SharedKey other(ModelKey("a", "f16"));
    CHECK_FALSE(empty);
    CHECK(first);
    CHECK(*first == ModelKey("a", "f16"));
    CHECK(first->quantization == "f16");
    // A copy is the same object, another the same key.
    CHECK(&*copy == &*first);
    CHECK(copy == first);
    CHECK(&*other != &*first);
    CHECK(other == first);
    CHECK_FALSE(SharedKey(ModelKey("a")) == first);
    CHECK_FALSE(empty == first);
    CHECK_FALSE(first == empty);
    CHECK(empty == SharedKey());
}

TEST_CASE("a shared key is one block, freed with its last copy") {
    const ModelKey key("a");
    std::size_t shared = 0;
    bool is_key = false;
    // Blocks are counted before each CHECK, which allocates, too.
    const std::size_t before = test::Memory::here().blocks();
    {
        SharedKey first(key);
        SharedKey copy = first;
        first = SharedKey();
        const SharedKey moved = std::move(copy);
        is_key = *moved == key;
        shared = test::Memory::here().blocks() - before;
    }
    const std::size_t after = test::Memory::here().blocks() - before;
    CHECK(shared == 1);
    CHECK(is_key);
    CHECK(after == 0);
}

TEST_CASE("copies of a shared key are made and dropped on any thread") {
    std::vector<std::thread> threads;
    std::vector<std::size_t> lengths(4);
    {
        const SharedKey key(ModelKey("a name that is too long to be short"));
        for (std::size_t& length : lengths) {
            threads.emplace_back([key, &length] {
                for (int round = 0; round < 1'000; ++round) {
                    const SharedKey copy = key;
                    length += copy->name.size();
                }
            });
        }
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    CHECK(lengths == std::vector<std::size_t>(4, 35'000));
}

TEST_CASE("a table shares the keys that it knows") {
    KeyTable table;
    const SharedKey before = table.share("a");
    CHECK(*before == ModelKey("a"));
    // Asking makes no entry.
    CHECK(table.size() == 0);
    const Index a = table.intern(before);
    CHECK(&*table[a].key == &*before);
    CHECK(&*table.share("a") == &*before);
    CHECK(table.intern(SharedKey(ModelKey("a"))) == a);
    CHECK(&*table[a].key == &*before);
    CHECK(&*table.share("b") != &*before);
}

}  // namespace residency::core::shared_key_test

#include "residency/core/shared_key.hpp"
#include "residency/core/key_table.hpp"

#include "support/catch.hpp"

#include <type_traits>

namespace residency::core {

static_assert(std::is_nothrow_copy_constructible_v<SharedKey> && std::is_nothrow_copy_assignable_v<SharedKey>);

TEST_CASE("a shared key is the key, whoever shares it") {
    const SharedKey nobody;
    const SharedKey first(ModelKey("a", "f16"));
    const SharedKey copy = first;
    const SharedKey other(ModelKey("a", "f16"));
    CHECK_FALSE(nobody);
    CHECK(first);
    CHECK(*first == ModelKey("a", "f16"));
    CHECK(first->quantization == "f16");
    // A copy is the same object, another the same key.
    CHECK(&*copy == &*first);
    CHECK(copy == first);
    CHECK(&*other != &*first);
    CHECK(other == first);
    CHECK_FALSE(SharedKey(ModelKey("a")) == first);
    CHECK_FALSE(nobody == first);
    CHECK_FALSE(first == nobody);
    CHECK(nobody == SharedKey());
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

}  // namespace residency::core

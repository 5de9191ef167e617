#include "residency/core/deep_ptr.hpp"

#include "support/catch.hpp"

#include <memory>
#include <string>
#include <utility>

namespace residency::core::deep_ptr_test {

TEST_CASE("a copied deep pointer owns a copy of the object") {
    DeepPtr<std::string> first(std::make_unique<std::string>("one"));
    DeepPtr<std::string> copy = first;
    CHECK(&*copy != &*first);
    CHECK(copy == first);
    *copy = "two";
    CHECK(*first == "one");
    CHECK_FALSE(copy == first);
    const std::string* const object = &*copy;
    first = std::move(copy);
    CHECK(&*first == object);
    CHECK(first->size() == 3);
}

TEST_CASE("deep pointers that own nothing are equal to each other alone") {
    const DeepPtr<int> nothing;
    const DeepPtr<int> zero(std::make_unique<int>(0));
    CHECK_FALSE(nothing);
    CHECK(zero);
    CHECK(nothing == DeepPtr<int>(nothing));
    CHECK_FALSE(nothing == zero);
    CHECK_FALSE(zero == nothing);
}

}  // namespace residency::core::deep_ptr_test

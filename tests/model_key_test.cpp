#include "residency/model_key.hpp"

#include "support/catch.hpp"

#include <compare>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <type_traits>
#include <unordered_set>

namespace model_key_test {

using residency::ModelKey;

// g++ 12 destroys a braced aggregate twice inside `co_await` (H20).
static_assert(!std::is_aggregate_v<ModelKey>);
static_assert(std::is_nothrow_move_constructible_v<ModelKey> && std::is_nothrow_move_assignable_v<ModelKey>);
static_assert(std::is_convertible_v<const char*, ModelKey> && std::is_convertible_v<std::string, ModelKey>);

namespace {

std::string printed(const ModelKey& key) {
    std::ostringstream out;
    out << key;
    return out.str();
}

}  // namespace

TEST_CASE("A key is made from literals, from strings and from nothing") {
    const ModelKey empty;
    CHECK(empty.name.empty());
    CHECK(empty.quantization.empty());

    const ModelKey literal = "minilm";
    CHECK(literal.name == "minilm");
    CHECK(literal.quantization.empty());

    const ModelKey braced{"minilm", "f16"};
    CHECK(braced.name == "minilm");
    CHECK(braced.quantization == "f16");

    const std::string name = "bge-small-en-v1.5";
    CHECK(ModelKey(name, std::string("q8_0")) == ModelKey{"bge-small-en-v1.5", "q8_0"});
}

TEST_CASE("Two keys are equal only if both parts are") {
    CHECK(ModelKey{"a", "f16"} == ModelKey{"a", "f16"});
    CHECK(ModelKey{"a", "f16"} != ModelKey{"a", "q8_0"});
    CHECK(ModelKey{"a", "f16"} != ModelKey{"b", "f16"});
    CHECK(ModelKey{"a", "f16"} != ModelKey{"f16", "a"});
    // Where one part ends and the other begins counts.
    CHECK(ModelKey{"ab", "c"} != ModelKey{"a", "bc"});
}

TEST_CASE("Keys are ordered by name, then by quantization") {
    CHECK(ModelKey{"a", "z"} < ModelKey{"b", "a"});
    CHECK(ModelKey{"a", "f16"} < ModelKey{"a", "q8_0"});
    CHECK((ModelKey{"a", "f16"} <=> ModelKey{"a", "f16"}) == std::strong_ordering::equal);

    const std::map<ModelKey, int> ordered{{{"b", ""}, 3}, {{"a", "q8_0"}, 2}, {{"a", "f16"}, 1}};
    int expected = 0;
    for (const auto& [key, value] : ordered) {
        CHECK(value == ++expected);
    }
    CHECK(expected == 3);
}

TEST_CASE("A key prints as name@quantization, and as its name alone without one") {
    CHECK(printed({"minilm", "q8_0"}) == "minilm@q8_0");
    CHECK(printed("minilm") == "minilm");
    CHECK(printed({}).empty());
    CHECK(to_string(ModelKey{"minilm", "q8_0"}) == "minilm@q8_0");
    CHECK(to_string(ModelKey{"minilm"}) == "minilm");
}

TEST_CASE("to_string cuts what would not fit into a message; printing does not") {
    const ModelKey longest_uncut(std::string(80, 'n'));
    CHECK(to_string(longest_uncut) == std::string(80, 'n'));

    const ModelKey cut(std::string(78, 'n'), "f16");
    CHECK(to_string(cut) == std::string(78, 'n') + "@f...");
    CHECK(printed(cut) == std::string(78, 'n') + "@f16");

    CHECK(to_string(ModelKey(std::string(std::size_t{1} << 20U, 'n'))).size() == 83);
}

TEST_CASE("to_string cuts between characters, unless there is none to cut between") {
    // Two, three and four bytes, of which the 80th is one but the first.
    for (const std::string letter : {"\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"}) {
        for (std::size_t part = 1; part < letter.size(); ++part) {
            const std::string before(80 - part, 'n');
            CHECK(to_string(ModelKey(before + letter + "n")) == before + "...");
        }
        const std::string before(80 - letter.size(), 'n');
        CHECK(to_string(ModelKey(before + letter + "n")) == before + letter + "...");
    }
    CHECK(to_string(ModelKey(std::string(100, '\x80'))).size() == 80);
}

TEST_CASE("to_string leaves nothing that steers a terminal") {
    CHECK(to_string(ModelKey("a\n\x1b[31m\x7f", "\xc2\x9b\xc2\xa0")) == "a??[31m?@??\xc2\xa0");
}

TEST_CASE("Equal keys hash alike, and both parts and their order count") {
    const std::hash<ModelKey> hash;
    CHECK(hash({"a", "f16"}) == hash({"a", "f16"}));
    CHECK(hash({"a", "f16"}) != hash({"a", "q8_0"}));
    CHECK(hash({"a", "f16"}) != hash({"f16", "a"}));
    CHECK(hash({"a", "a"}) != hash({"b", "b"}));

    std::unordered_set<ModelKey> keys{{"a", "f16"}, {"a", "q8_0"}, {"a", "f16"}};
    CHECK(keys.size() == 2);
    CHECK(keys.contains({"a", "q8_0"}));
    CHECK_FALSE(keys.contains("a"));
}

}  // namespace model_key_test

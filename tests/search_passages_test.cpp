// How examples/search reads a file.

#include "../examples/search/passages.hpp"

#include "llama_cpp/support/folders.hpp"
#include "support/catch.hpp"

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string>

namespace search_passages_test {

TEST_CASE("A file is read to its end, or no further than its reader wants, however large it is") {
    const residency::test::TemporaryFolder folder;
    const std::filesystem::path path = folder.path() / "text";
    {
        std::ofstream file(path, std::ios::binary);
        for (int line = 0; line < 10'000; ++line) {
            file << "the quick brown fox jumps over the lazy dog again and again\n";
        }
    }
    const auto passages = [&path](std::size_t enough) {
        std::size_t count = 0;
        const search::ReadResult result = search::read_passages(
            path, [&count](const search::Passage& /*passage*/) { ++count; }, [&] { return count >= enough; });
        CHECK(result == search::ReadResult::text);
        return count;
    };
    const std::size_t all = passages(static_cast<std::size_t>(-1));
    CHECK(all > 500);
    // One block of the file, of some ten.
    CHECK(passages(1) < all / 5);
}

}  // namespace search_passages_test

// What a model's files say of the memory that it takes. How near that is, the program `openvino_sizes` shows.

#include "residency/backends/openvino/model_sizes.hpp"
#include "residency/backends/openvino/model_folder.hpp"
#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>

namespace model_sizes_test {

using namespace residency::detail::openvino;
using residency::test::TemporaryFolder;

namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20U;

std::string constant(const std::string& type, const std::string& shape, const std::string& size) {
    return "<layer id=\"1\" type=\"Const\"><data element_type=\"" + type + "\" shape=\"" + shape +
           "\" offset=\"0\" size=\"" + size + "\" /></layer>\n";
}

}  // namespace

TEST_CASE("the weights are those of all constants, whatever their types, and the largest gives the width") {
    const ModelSizes sizes = sizes_in(
        "<?xml version=\"1.0\"?>\n<net>" + constant("f16", "100, 16", "3200") + constant("f32", "8, 4", "128") +
        constant("i8", "64", "64") + constant("u4", "32", "16") + constant("i64", "", "8") +
        "<data element_type=\"i64\" shape=\"?,?\" /><data special_zero=\"true\" /></net>");
    CHECK(sizes.parameters == 1600 + 32 + 64 + 32 + 2);
    CHECK(sizes.width == 16);
}

TEST_CASE("an XML file may say anything") {
    CHECK(sizes_in("").parameters == 0);
    CHECK(sizes_in("<data ").parameters == 0);
    CHECK(sizes_in("<data offset=\"0\" size=\"").parameters == 0);
    CHECK(sizes_in("<data offset=\"0\" size=\"-4\" element_type=\"f32\"/>").parameters == 0);
    CHECK(sizes_in("<data offset=\"0\" size=\"99999999999999999999\"/>").parameters == 0);
    CHECK(sizes_in("<data xoffset=\"0\" offset=\"1\" size=\"8\" shape=\"\"/>").parameters == 2);
    const std::string whole = constant("f16", "100, 16", "3200");
    std::mt19937 random(1);
    for (int round = 0; round < 1000; ++round) {
        std::string broken = whole.substr(0, random() % (whole.size() + 1));
        for (int change = 0; change < 3 && !broken.empty(); ++change) {
            broken[random() % broken.size()] = static_cast<char>(random() % 256);
        }
        CHECK(sizes_in(broken).parameters >= 0);
    }
}

TEST_CASE("a folder's sizes: of the XML file or the ONNX file, with the width that config.json says") {
    const TemporaryFolder folder;
    const auto write = [&folder](const std::string& name, const std::string& text) {
        std::ofstream(folder.path() / name, std::ios::binary) << text;
    };
    const auto sizes = [&folder] { return ModelFolder(folder.path()).sizes(); };
    CHECK_THROWS_AS(sizes(), std::runtime_error);
    write("model.onnx", std::string(1000, 'x'));
    CHECK(sizes().parameters == 500);
    CHECK(sizes().width == 1024);
    write("model.onnx_data", std::string(3000, 'x'));
    CHECK(sizes().parameters == 2000);
    write("openvino_model.xml", "<net>" + constant("f16", "100, 16", "3200") + "</net>");
    CHECK(sizes().parameters == 1600);
    CHECK(sizes().width == 16);
    write("config.json", R"({"hidden_size": 48})");
    CHECK(sizes().width == 48);
    write("config.json", R"({"hidden_size": -1, "d_model": 64})");
    CHECK(sizes().width == 64);
    write("config.json", "{");
    CHECK_THROWS_AS(sizes(), std::runtime_error);
}

TEST_CASE("a model needs more with more streams, longer sub-batches and in f32, and less than the most that is known") {
    const ModelSizes sizes{20e6, 400};
    const auto memory = [&sizes](std::size_t streams, std::size_t tokens, bool half, bool most) {
        return model_memory(sizes, streams, tokens, memory_rates(half, most, Gives::tokens));
    };
    for (const bool half : {false, true}) {
        for (const bool most : {false, true}) {
            CHECK(memory(2, 512, half, most) > memory(1, 512, half, most) + 10 * mebibyte);
            CHECK(memory(1, 1024, half, most) > memory(1, 512, half, most) + 512 * 400 * 30);
        }
        for (const std::size_t streams : {1U, 2U, 8U, 256U}) {
            for (const std::size_t tokens : {16U, 512U, 8192U, 1'048'576U}) {
                CHECK(memory(streams, tokens, half, true) <= 2 * memory(streams, tokens, half, false));
            }
        }
        CHECK(memory(1, 512, half, true) > memory(1, 512, half, false));
        CHECK(memory(1, 512, half, true) > model_memory(sizes, 1, 512, memory_rates(half, true, Gives::less)));
    }
    CHECK(memory(1, 512, false, true) > memory(1, 512, true, true));
    CHECK(model_memory({1e300, 1}, 1, 1, memory_rates(true, true, Gives::less)) ==
          (std::numeric_limits<std::size_t>::max)());
}

}  // namespace model_sizes_test

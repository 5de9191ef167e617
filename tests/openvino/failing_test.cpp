// Inferences of OpenVINO that fail: each says so, and after one there are no wrong vectors.

#include "residency/backends/openvino.hpp"
#include "residency/residency.hpp"
#include "support/catch.hpp"
#include "support/comparing.hpp"
#include "support/failing_op.hpp"
#include "support/openvino_folders.hpp"
#include "support/temporary_folder.hpp"

#include <openvino/core/op_extension.hpp>
#include <openvino/op/parameter.hpp>

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace failing_test {

using namespace residency;
using namespace residency::test;
using detail::openvino::Tokens;

namespace {

// While it lives, the operations fail so.
class Failing {
public:
    explicit Failing(Failure how) { failure_of_ops = how; }
    ~Failing() { failure_of_ops = Failure::none; }
    Failing(const Failing&) = delete;
    Failing& operator=(const Failing&) = delete;
};

// Copies the embedder's folder, with an operation of its own after each activation.
void copy_with_operations(const std::filesystem::path& from, const std::filesystem::path& to) {
    ov::Core& core = detail::openvino::core();
    core.add_extension(std::make_shared<ov::OpExtension<PassesOn>>());
    std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
    const auto model = core.read_model((from / "openvino_model.xml").string());
    std::size_t added = 0;
    for (const auto& node : model->get_ordered_ops()) {
        if (node->get_type_name() == std::string_view("Gelu")) {
            const auto targets = node->output(0).get_target_inputs();
            const auto operation = std::make_shared<PassesOn>(node->output(0));
            for (auto target : targets) {
                target.replace_source_output(operation->output(0));
            }
            ++added;
        }
    }
    REQUIRE(added != 0);
    ov::save_model(model, (to / "openvino_model.xml").string(), false);
}

}  // namespace

TEST_CASE("a tokenizer of OpenVINO that fails says so") {
    const auto texts = std::make_shared<ov::op::v0::Parameter>(ov::element::string, ov::PartialShape{-1});
    const auto operation = std::make_shared<Sevens>(texts->output(0));
    operation->output(0).set_names({"input_ids"});
    operation->output(1).set_names({"attention_mask"});
    ov::CompiledModel compiled = detail::openvino::core().compile_model(
        std::make_shared<ov::Model>(operation->outputs(), ov::ParameterVector{texts}), "CPU",
        {ov::num_streams(1), ov::inference_num_threads(1)});
    const detail::openvino::Tokenizer tokenizer(compiled);
    CHECK(tokenizer.opening() == Tokens{1});
    CHECK(tokenizer.closing() == Tokens{2});
    ov::InferRequest request = compiled.create_infer_request();
    const std::vector<std::string> both{"a", ""};
    const auto tokenize = [&] { return tokenizer.tokenize(request, both, [] {}); };
    CHECK(tokenize() == std::vector<Tokens>{{7}, {}});
    const Failing failing(Failure::exception);
    CHECK_THROWS_WITH(tokenize(), contains_text("the operation failed"));
}

TEST_CASE("after an inference of OpenVINO that failed the model refuses, and loaded anew it is right") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    const TemporaryFolder copies;
    copy_with_operations(*folder / "all-minilm-l6-v2-f16", copies.path() / "copy");
    const OpenVinoEmbeddingBackend backend({.model = {.folders = copies.path(), .streams = 1}});
    const std::vector<std::string> few{"lift of a wing", "drag"};
    const std::vector<std::string> others{"a", "text of other lengths", "and of more words than those before it"};
    for (const Failure how : {Failure::exception, Failure::shape}) {
        LoadContext context;
        const auto model = backend.load("copy", context);
        const Embeddings expected = model->embed(few);
        {
            const Failing failing(how);
            const Error error = error_of(make_error_code(errc::inference_failed), [&] { (void)model->embed(others); });
            CHECK_THAT(error.what(), contains_text("OpenVINO could not compute it"));
        }
        for (const auto& texts : {few, others}) {
            const Error error = error_of(make_error_code(errc::inference_failed), [&] { (void)model->embed(texts); });
            CHECK_THAT(error.what(), contains_text("unload it"));
        }
        CHECK(backend.load("copy", context)->embed(few) == expected);
    }
}

}  // namespace failing_test

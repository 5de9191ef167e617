// How fast the library is with OpenVINO, beside a bare loop over OpenVINO with the same streams and, where it is built
// in, the library with llama.cpp: texts per second. The variants take turns, and each figure is the median over the
// rounds. Models and texts are those of RESIDENCY_OPENVINO_MODELS, RESIDENCY_MODELS and RESIDENCY_CORPUS.
//
//   speed [ROUNDS [TEXTS]]   5 rounds, 225 queries and 128 abstracts, or as many texts as that

#include "residency/backends/lexical.hpp"
#include "residency/backends/openvino.hpp"
#include "residency/model_manager.hpp"
#include "residency/runtime/processors.hpp"
#include "support/parallel.hpp"
#include "support/references.hpp"

#if defined(RESIDENCY_WITH_LLAMA_CPP)
#include "residency/backends/llama_cpp.hpp"
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <filesystem>
#include <functional>
#include <iostream>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace residency;
using namespace residency::test;
using Texts = std::vector<std::string>;
using Clock = std::chrono::steady_clock;

const ModelKey key("all-minilm-l6-v2", "f16");

struct Variant {
    std::string name;
    std::function<void()> run;
    std::vector<double> seconds{};
    std::vector<double> processor_seconds{};
};

double quantile(std::vector<double> values, double share) {
    std::sort(values.begin(), values.end());
    return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
}

void compare(const std::string& title, std::size_t texts, std::size_t rounds, std::vector<Variant> variants) {
    for (Variant& variant : variants) {
        variant.run();
    }
    for (std::size_t round = 0; round < rounds; ++round) {
        for (std::size_t turn = 0; turn < variants.size(); ++turn) {
            Variant& variant = variants[(round + turn) % variants.size()];
            const auto begin = Clock::now();
            const std::clock_t busy = std::clock();
            variant.run();
            variant.seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
            variant.processor_seconds.push_back(static_cast<double>(std::clock() - busy) / CLOCKS_PER_SEC);
        }
    }
    std::cout << title << '\n';
    for (const Variant& variant : variants) {
        std::vector<double> ratios;
        for (std::size_t round = 0; round < rounds; ++round) {
            ratios.push_back(variants.front().seconds[round] / variant.seconds[round]);
        }
        std::cout << "  " << variant.name << ": " << static_cast<double>(texts) / quantile(variant.seconds, 0.5)
                  << " texts/s, " << quantile(ratios, 0.5) << " of the first; "
                  << 1e3 * quantile(variant.processor_seconds, 0.5) / static_cast<double>(texts)
                  << " ms of processors a text" << std::endl;
    }
}

// OpenVINO called with nothing around it: texts sorted by bytes, so many in a batch, a thread for each stream.
class Bare {
public:
    Bare(const std::filesystem::path& folder, std::size_t streams)
        : streams_(streams),
          tokenizer_(compile(folder / "openvino_tokenizer.xml")),
          model_(compile(folder / "openvino_model.xml")) {}

    void embed(const Texts& texts, std::size_t batch) {
        Texts sorted = texts;
        std::sort(sorted.begin(), sorted.end(),
                  [](const std::string& left, const std::string& right) { return left.size() > right.size(); });
        std::atomic<std::size_t> next{0};
        std::vector<std::jthread> threads;
        for (std::size_t stream = 0; stream < streams_; ++stream) {
            threads.emplace_back([&] {
                ov::InferRequest reader = tokenizer_.create_infer_request();
                ov::InferRequest request = model_.create_infer_request();
                for (std::size_t at = next++ * batch; at < sorted.size(); at = next++ * batch) {
                    const std::span<const std::string> part(&sorted[at], (std::min)(batch, sorted.size() - at));
                    embed_part(reader, request, part);
                }
            });
        }
    }

private:
    ov::CompiledModel compile(const std::filesystem::path& file) const {
        namespace openvino = detail::openvino;
        openvino::add_extension_once(openvino::find_tokenizers());
        return openvino::core().compile_model(
            file.string(), "CPU",
            {ov::num_streams(static_cast<std::int32_t>(streams_)),
             ov::inference_num_threads(static_cast<std::int32_t>(usable_processors()))});
    }

    static void embed_part(ov::InferRequest& reader, ov::InferRequest& request, std::span<const std::string> texts) {
        ov::Tensor input(ov::element::string, {texts.size()});
        std::copy(texts.begin(), texts.end(), input.data<std::string>());
        reader.set_input_tensor(0, input);
        reader.infer();
        for (const char* const name : {"input_ids", "attention_mask", "token_type_ids"}) {
            request.set_tensor(name, reader.get_tensor(name));
        }
        request.infer();
        const ov::Tensor output = request.get_output_tensor();
        const ov::Tensor mask = reader.get_tensor("attention_mask");
        const ov::Shape shape = output.get_shape();
        std::vector<float> row(shape[2]);
        for (std::size_t text = 0; text < shape[0]; ++text) {
            for (std::size_t token = 0; token < shape[1]; ++token) {
                if (mask.data<std::int64_t>()[text * shape[1] + token] != 0) {
                    const float* const from = output.data<float>() + (text * shape[1] + token) * shape[2];
                    std::transform(row.begin(), row.end(), from, row.begin(), std::plus<>());
                }
            }
        }
    }

    std::size_t streams_;
    ov::CompiledModel tokenizer_;
    ov::CompiledModel model_;
};

void run(const std::string& name, const Texts& texts, std::size_t rounds, const std::filesystem::path& folder) {
    const OpenVinoModelOptions options{.folders = folder, .truncate = true};
    const std::size_t streams = detail::openvino::checked(options).streams;
    using Manager = ModelManager<OpenVinoEmbeddingBackend, LexicalRerankerBackend>;
    // One call is alone in its slot, which would else keep a stream for other callers for a while after they have gone.
    Manager alone(OpenVinoEmbeddingBackend({.model = options}), {}, {.embedding = {.max_calls = streams}});
    Manager shared(OpenVinoEmbeddingBackend({.model = options}), {}, {.embedding = {.max_calls = streams}});
    Bare bare(folder / "all-minilm-l6-v2-f16", streams);
    std::vector<Variant> calls;
    for (const std::size_t batch : {std::size_t{4}, std::size_t{8}, std::size_t{16}, std::size_t{32}}) {
        calls.push_back({"a bare loop, " + std::to_string(batch) + " texts a batch",
                         [&bare, &texts, batch] { bare.embed(texts, batch); }});
    }
    std::vector<double> milliseconds(texts.size());
    calls.push_back({"the library, one call", [&] { (void)alone.embed(key, texts); }});
    calls.push_back({"the library, 64 callers of one text", [&] {
                         in_parallel(64, texts.size(), [&](std::size_t index) {
                             const auto begin = Clock::now();
                             (void)shared.embed(key, {texts[index]});
                             milliseconds[index] =
                                 std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
                         });
                     }});
#if defined(RESIDENCY_WITH_LLAMA_CPP)
    const std::filesystem::path files(std::getenv("RESIDENCY_MODELS"));
    ModelManager<LlamaCppEmbeddingBackend, LexicalRerankerBackend> llama(
        LlamaCppEmbeddingBackend({.model = {.files = files, .truncate = true}}), {},
        {.embedding = {.max_calls = streams}});
    calls.push_back({"the library with llama.cpp, one call", [&] { (void)llama.embed(key, texts); }});
    calls.push_back(
        {"the library with llama.cpp, 64 callers of one text",
         [&] { in_parallel(64, texts.size(), [&](std::size_t index) { (void)llama.embed(key, {texts[index]}); }); }});
#endif
    compare(name, texts.size(), rounds, std::move(calls));
    std::cout << "  64 callers: p50 " << quantile(milliseconds, 0.5) << " ms, p99 " << quantile(milliseconds, 0.99)
              << " ms" << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
    const char* const folder = std::getenv("RESIDENCY_OPENVINO_MODELS");
    const char* const models = std::getenv("RESIDENCY_MODELS");
    const char* const corpus = std::getenv("RESIDENCY_CORPUS");
    if (folder == nullptr || models == nullptr || corpus == nullptr) {
        std::cout << "skipped: RESIDENCY_OPENVINO_MODELS, RESIDENCY_MODELS or RESIDENCY_CORPUS is not set\n";
        return 77;
    }
    try {
        const std::size_t rounds = argc > 1 ? std::stoul(argv[1]) : 5;
        const std::size_t most = argc > 2 ? std::stoul(argv[2]) : 225;
        const Collection collection = read_collection(corpus);
        const auto first = [](const std::vector<NumberedText>& from, std::size_t count) {
            Texts texts;
            for (std::size_t index = 0; index < (std::min)(count, from.size()); ++index) {
                texts.push_back(from[index].text);
            }
            return texts;
        };
        run("queries", first(collection.queries, most), rounds, folder);
        run("abstracts", first(collection.documents, std::min<std::size_t>(most, 128)), rounds, folder);
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
    return 0;
}

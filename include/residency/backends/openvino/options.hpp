#pragma once

#include "residency/backends/openvino/folders.hpp"
#include "residency/model_key.hpp"
#include "residency/runtime/processors.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace residency {

/// How a text's vector is made of those of its tokens.
enum class OpenVinoPooling : std::uint8_t {
    /// As the folder says, or not at all.
    from_model,
    /// The mean of all tokens.
    mean,
    /// The first token.
    cls,
    /// The last token.
    last,
};

/// What a reranker's score is.
enum class OpenVinoScore : std::uint8_t {
    /// The head's output as it is.
    logit,
    /// Its logistic function, from 0 to 1. It changes no order.
    logistic,
};

/// In which precision a model is computed.
enum class OpenVinoPrecision : std::uint8_t {
    /// As the device does it best: bf16 on a processor with AMX.
    of_device,
    f32,
    f16,
    bf16,
};

/// What the options of embedders and rerankers have in common.
struct OpenVinoModelOptions {
    /// Where a key's folder is: in a folder of models, which holds it as `NAME-QUANTIZATION` (`NAME` for an empty
    /// quantization); or a function from ModelKey to path. Must be set. A model's folder holds `openvino_model.xml` or
    /// `model.onnx`, by itself or in its folder `openvino` or `onnx`, and `openvino_tokenizer.xml` there or beside.
    OpenVinoFolders folders{};

    /// The library `libopenvino_tokenizers.so`, of exactly OpenVINO's version. Empty: where the package
    /// openvino-tokenizers puts it, and then beside OpenVINO's own library. Default empty.
    std::string tokenizers{};

    /// The device, in OpenVINO's words. What it refuses fails the load, with its words.
    /// Default `CPU`: what every machine has.
    std::string device = "CPU";

    /// In which precision to compute. Default `of_device`: several times as fast as f32 where the processor has AMX,
    /// at a cosine of 0.9999 to f32.
    OpenVinoPrecision precision = OpenVinoPrecision::of_device;

    /// How many inferences may run at once on a model; each is a stream of OpenVINO's. `max_concurrency()` gives the
    /// slot their number, which OpenVINO may have lowered to that of the threads. Zero: one for each processor that
    /// this process may use when the backend is made (`usable_processors()`: affinity and CPU quota), but at most 4. At
    /// most 256. Default 0: one thread each is the best use of few processors, and each stream costs memory.
    std::size_t streams = 0;

    /// How many threads the streams share. Zero: one for each processor that this process may use when the backend is
    /// made, but at least one for each stream. At most 512. Default 0: all processors.
    std::size_t threads = 0;

    /// How many tokens the texts of a call that share a sub-batch may have together, each counted as long as the
    /// longest of them; a longer text has one of its own. Requests share calls up to what fills one: 4 bytes for each
    /// of these tokens (`batch_limits()`). At least 16, at most 1,048,576.
    /// Default 512: a bare loop is as fast with 8 to 16 short texts a batch, and more take longer to stop.
    std::size_t batch_tokens = 512;

    /// How many tokens a text, or a query with its document, may have. Zero: as many as the folder says that the model
    /// takes; more than that is refused when the model is loaded. Default 0.
    std::size_t context_tokens = 0;

    /// Whether a text that is too long is cut at its end; of a pair, the document is. The closing token stays.
    /// Default false: it is `invalid_request`, so that nothing is lost unnoticed.
    bool truncate = false;

    /// Further properties of OpenVINO's for the device, by name. They override what the options above set, but for
    /// the number of streams. Default none.
    std::map<std::string, std::string> properties{};

    /// Whether the C library is asked to give freed memory back to the system after a model was unloaded or could not
    /// be loaded. Only glibc is. Default true: unloading is there to get memory back.
    bool trim_memory = true;
};

/// What a model was trained to see before a text. Either may be empty.
struct OpenVinoPrefixes {
    /// Before a text that is embedded as `EmbedAs::query`.
    std::string query{};
    /// Before one that is embedded as `EmbedAs::document`.
    std::string document{};
};

/// How `OpenVinoEmbeddingBackend` loads and embeds.
struct OpenVinoEmbeddingOptions {
    /// Where the folders are, how many streams, how long a text may be, and so on.
    OpenVinoModelOptions model{};

    /// How a text's vector is made of those of its tokens where the folder does not say. It says by an output
    /// `sentence_embedding` of the model, or by a file `1_Pooling/config.json`, which converters often leave behind.
    /// Default `from_model`: a folder that does not say is refused, as any guess is wrong for many models.
    OpenVinoPooling pooling = OpenVinoPooling::from_model;

    /// Whether vectors are scaled to length 1 (L2), so that a dot product is their cosine.
    /// Default true: what searching needs.
    bool normalise = true;

    /// Gives the prefixes of the model that a key means, once for each load, or none if queries and documents do not
    /// differ for it: it then accepts `EmbedAs::as_is` alone. What it throws fails the load. Default: the prompts in
    /// the folder's `config_sentence_transformers.json`, or none if there are none.
    std::function<std::optional<OpenVinoPrefixes>(const ModelKey&)> prefixes{};
};

/// How `OpenVinoRerankerBackend` loads and scores.
struct OpenVinoRerankerOptions {
    /// Where the folders are, how many streams, how long a pair may be, and so on.
    OpenVinoModelOptions model{};

    /// What a score is. Default `logit`: it separates good documents from very good ones.
    OpenVinoScore score = OpenVinoScore::logit;
};

namespace detail::openvino {

/// The most streams a model may have.
inline constexpr std::size_t max_streams = 256;
/// The most threads.
inline constexpr std::size_t max_threads = 512;
/// The smallest and the largest sub-batch.
inline constexpr std::size_t min_batch_tokens = 16;
inline constexpr std::size_t max_batch_tokens = 1'048'576;

/// Throws std::invalid_argument, naming the field, unless the options hold what their docs demand. Gives them back with
/// the numbers of streams and threads decided.
inline OpenVinoModelOptions checked(OpenVinoModelOptions options) {
    const auto demand = [](bool holds, std::string_view field, std::string_view rule) {
        if (!holds) {
            throw std::invalid_argument("residency: option model." + std::string(field) + " " + std::string(rule));
        }
    };
    demand(options.folders.known(), "folders", "must be set: a folder or a function from ModelKey to path");
    demand(!options.device.empty(), "device", "must name a device");
    demand(options.streams <= max_streams, "streams", "must be at most 256 (zero decides by the processors)");
    demand(options.threads <= max_threads, "threads", "must be at most 512 (zero decides by the processors)");
    demand(options.batch_tokens >= min_batch_tokens && options.batch_tokens <= max_batch_tokens, "batch_tokens",
           "must be between 16 and 1048576");
    const std::size_t processors = usable_processors();
    if (options.streams == 0) {
        options.streams = std::min<std::size_t>(4, processors);
    }
    if (options.threads == 0) {
        options.threads = std::clamp(processors, options.streams, max_threads);
    }
    return options;
}

}  // namespace detail::openvino
}  // namespace residency

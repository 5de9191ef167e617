#pragma once

#include "residency/backends/llama_cpp/files.hpp"
#include "residency/model_key.hpp"
#include "residency/runtime/processors.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace residency {

/// How a text's vector is made of those of its tokens.
enum class LlamaCppPooling : std::uint8_t {
    /// As the file says. A file that says nothing, or `none`, is refused with this.
    from_model,
    /// The mean of all tokens.
    mean,
    /// The first token.
    cls,
    /// The last token.
    last,
};

/// How weights come into memory.
enum class LlamaCppLoadMode : std::uint8_t {
    /// The file is mapped, and its pages are shared with other processes. It must not be changed while it is in use:
    /// write a new one and rename it.
    mmap,
    /// The same, and the pages are locked into memory.
    mmap_locked,
    /// The file is read into memory of the process.
    read,
    /// The same, past the page cache where the system can do so.
    direct_io,
};

/// What a reranker's score is.
enum class LlamaCppScore : std::uint8_t {
    /// The head's output as it is.
    logit,
    /// Its logistic function, from 0 to 1. It changes no order.
    logistic,
};

/// What the options of embedders and rerankers have in common.
struct LlamaCppModelOptions {
    /// Where a key's file is: a folder, which holds it as `NAME-QUANTIZATION.gguf` (`NAME.gguf` for an empty
    /// quantization) or split, as `NAME-QUANTIZATION-00001-of-00003.gguf` and so on; or a function from ModelKey to
    /// path, which names the first part of a split model. Must be set.
    LlamaCppFiles files{};

    /// How many inferences may run at once on a model; each has a context of its own, and `max_concurrency()` gives
    /// the slot their number. Zero: one for each processor that this process may use when the backend is made
    /// (`usable_processors()`: affinity and CPU quota), but at most 4. At most 256.
    /// Default 0: one thread each is the best use of few processors, and each context costs memory.
    std::size_t contexts = 0;

    /// Threads per inference. Zero: the processors that this process may use when the model is loaded, divided by the
    /// calls that run, at least 1, decided for each batch anew; and never more than one for each 32 tokens of a batch,
    /// as threads cost more than they bring there. At most 512. With more than one, ggml starts threads while it
    /// computes, through OpenMP as a rule; libgomp ends the process if one cannot be made. Where threads may run out,
    /// use 1, with which ggml starts none.
    /// Default 0: a lone call gets all of them, and many calls do not fight for them.
    std::size_t threads = 0;

    /// How many tokens the texts of a call that share a batch may have together; a longer text has a batch of its own.
    /// Requests share calls up to what fills one batch: 4 bytes for each of these tokens (`batch_limits()`).
    /// At least 16, at most 1,048,576. A context takes tokens x (vocabulary + dimensions) x 4 bytes for its outputs:
    /// when it is loaded for batch_tokens, of which those beyond 256 only once a batch has them; and as much more for a
    /// longer text, for which a context is made anew, larger, and then stays so. Its graph, and a decoder's memory,
    /// come on top.
    /// Default 256: measured fastest or within 3 % of it for short and for long texts, at half the memory of 512.
    std::size_t batch_tokens = 256;

    /// How many tokens a text, or a query with its document, may have. Zero: as many as the model was trained for; more
    /// than that is refused when the model is loaded. Default 0.
    std::size_t context_tokens = 0;

    /// Whether a text that is too long is cut at its end; of a pair, the document is. The closing token stays.
    /// Default false: it is `invalid_request`, so that nothing is lost unnoticed.
    bool truncate = false;

    /// How many layers go to the GPU, if llama.cpp was built for one. Negative: all. Default -1: llama.cpp's own.
    std::int32_t gpu_layers = -1;

    /// How the weights come into memory. Default `mmap`: the fastest, and unloading gives the pages back.
    LlamaCppLoadMode load_mode = LlamaCppLoadMode::mmap;

    /// Whether the C library is asked to give freed memory back to the system after a model was unloaded or could not
    /// be loaded, and when a context's outputs have grown for a longer text. Only glibc is; it keeps much of what
    /// llama.cpp frees otherwise. Default true: unloading is there to get memory back, and `memory_needed` bounds what
    /// a model takes only with it.
    bool trim_memory = true;
};

/// What a model was trained to see before a text. Either may be empty.
struct LlamaCppPrefixes {
    /// Before a text that is embedded as `EmbedAs::query`.
    std::string query{};
    /// Before one that is embedded as `EmbedAs::document`.
    std::string document{};
};

/// How `LlamaCppEmbeddingBackend` loads and embeds.
struct LlamaCppEmbeddingOptions {
    /// Where the files are, how many contexts, how long a text may be, and so on.
    LlamaCppModelOptions model{};

    /// How a text's vector is made of those of its tokens. Default `from_model`: any other is wrong for most models.
    LlamaCppPooling pooling = LlamaCppPooling::from_model;

    /// Whether vectors are scaled to length 1 (L2), so that a dot product is their cosine.
    /// Default true: what searching needs.
    bool normalise = true;

    /// Gives the prefixes of the model that a key means, once for each load, or none if queries and documents do not
    /// differ for it: it then accepts `EmbedAs::as_is` alone. A GGUF file does not say; the model's card does. What it
    /// throws fails the load. Default none: no model has any.
    std::function<std::optional<LlamaCppPrefixes>(const ModelKey&)> prefixes{};
};

/// How `LlamaCppRerankerBackend` loads and scores.
struct LlamaCppRerankerOptions {
    /// Where the files are, how many contexts, how long a pair may be, and so on.
    LlamaCppModelOptions model{};

    /// What a score is. A model that answers yes or no (Qwen3) gives the probability of yes either way.
    /// Default `logit`: it separates good documents from very good ones.
    LlamaCppScore score = LlamaCppScore::logit;
};

namespace detail::llama_cpp {

/// The most contexts a model may have.
inline constexpr std::size_t max_contexts = 256;
/// The most threads that ggml takes.
inline constexpr std::size_t max_threads = 512;
/// The smallest and the largest batch.
inline constexpr std::size_t min_batch_tokens = 16;
inline constexpr std::size_t max_batch_tokens = 1'048'576;

/// How many threads compute a batch of `tokens` on `processors` while `calls` calls run, that one included, where
/// `option` is `LlamaCppModelOptions::threads`.
inline std::size_t threads_for(std::size_t option, std::size_t tokens, std::size_t calls,
                               std::size_t processors) noexcept {
    // Fewer tokens than this for a thread, and starting it costs more than it brings.
    constexpr std::size_t tokens_per_thread = 32;
    if (option != 0) {
        return option;
    }
    const std::size_t share = processors / std::max<std::size_t>(1, calls);
    return std::clamp<std::size_t>((std::min)(share, tokens / tokens_per_thread), 1, max_threads);
}

/// Throws std::invalid_argument, naming the field, unless the options hold what their docs demand. Gives them back with
/// the number of contexts decided.
inline LlamaCppModelOptions checked(LlamaCppModelOptions options) {
    const auto demand = [](bool holds, std::string_view field, std::string_view rule) {
        if (!holds) {
            throw std::invalid_argument("residency: option model." + std::string(field) + " " + std::string(rule));
        }
    };
    demand(options.files.known(), "files", "must be set: a folder or a function from ModelKey to path");
    demand(options.contexts <= max_contexts, "contexts", "must be at most 256 (zero decides by the processors)");
    demand(options.threads <= max_threads, "threads", "must be at most 512 (zero decides for each batch)");
    demand(options.batch_tokens >= min_batch_tokens && options.batch_tokens <= max_batch_tokens, "batch_tokens",
           "must be between 16 and 1048576");
    if (options.contexts == 0) {
        options.contexts = std::min<std::size_t>(4, usable_processors());
    }
    return options;
}

}  // namespace detail::llama_cpp
}  // namespace residency

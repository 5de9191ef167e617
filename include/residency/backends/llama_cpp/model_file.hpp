#pragma once

#include "residency/backends/llama_cpp/handles.hpp"
#include "residency/backends/llama_cpp/llama.hpp"
#include "residency/backends/llama_cpp/log.hpp"
#include "residency/backends/llama_cpp/model_sizes.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace residency::detail::llama_cpp {

/// What a GGUF file says of its model, read without the weights.
struct ModelFile {
    /// The name of its architecture: "bert", "qwen3".
    std::string architecture{};
    /// Its pooling, as the number that it has in `llama_pooling_type`; none if the file does not say.
    std::optional<std::uint32_t> pooling{};
    /// How many scores its head gives; none if it has no head, and so does not rerank.
    std::optional<std::int64_t> head_outputs{};
    /// Which part of a split model the file is, from 0; 0 if the model is not split.
    std::uint32_t part = 0;
    /// The paths of a split model's other parts, if this is the first.
    std::vector<std::string> other_parts{};
    /// What decides how much memory the model takes.
    ModelSizes sizes{};
};

namespace model_file {

// The getters of gguf.h end the process when a value is of another type than asked for.
inline std::string text(const gguf_context& file, const std::string& key) {
    const std::int64_t id = gguf_find_key(&file, key.c_str());
    return id >= 0 && gguf_get_kv_type(&file, id) == GGUF_TYPE_STRING ? gguf_get_val_str(&file, id) : "";
}

inline std::optional<std::uint32_t> number(const gguf_context& file, const std::string& key) {
    const std::int64_t id = gguf_find_key(&file, key.c_str());
    if (id < 0) {
        return {};
    }
    switch (gguf_get_kv_type(&file, id)) {
        case GGUF_TYPE_UINT16: return gguf_get_val_u16(&file, id);
        case GGUF_TYPE_UINT32: return gguf_get_val_u32(&file, id);
        case GGUF_TYPE_INT32: return static_cast<std::uint32_t>(gguf_get_val_i32(&file, id));
        default: return {};
    }
}

inline GgufHandle open(const std::string& path) {
    return GgufHandle(gguf_init_from_file(path.c_str(), gguf_init_params{.no_alloc = true, .ctx = nullptr}));
}

// How many elements an array has, and the bytes of its texts if these are what is in it.
struct ArraySize {
    std::size_t count = 0;
    std::size_t text_bytes = 0;
};
inline ArraySize array_size(const gguf_context& file, const char* key) {
    const std::int64_t id = gguf_find_key(&file, key);
    if (id < 0 || gguf_get_kv_type(&file, id) != GGUF_TYPE_ARRAY) {
        return {};
    }
    ArraySize size{gguf_get_arr_n(&file, id), 0};
    if (gguf_get_arr_type(&file, id) == GGUF_TYPE_STRING) {
        for (std::size_t index = 0; index < size.count; ++index) {
            size.text_bytes += std::strlen(gguf_get_arr_str(&file, id, index));
        }
    }
    return size;
}

inline double weights(const gguf_context& file) {
    double bytes = 0;
    for (std::int64_t id = 0; id < gguf_get_n_tensors(&file); ++id) {
        bytes += static_cast<double>(gguf_get_tensor_size(&file, id));
    }
    return bytes;
}

// llama.cpp knows by the architecture's name whether it computes a next token and keeps keys and values.
inline bool is_encoder(std::string_view architecture) {
    return architecture.find("bert") != std::string_view::npos || architecture == "gemma-embedding";
}

// What the file does not say, or says for each layer apart, is assumed to be as usual.
inline ModelSizes sizes(const gguf_context& file, const std::string& architecture) {
    const auto value = [&](const char* key, double otherwise) {
        const std::optional<std::uint32_t> found = number(file, architecture + '.' + key);
        return found && *found != 0 ? static_cast<double>(*found) : otherwise;
    };
    ModelSizes sizes;
    sizes.weights = weights(file);
    const ArraySize tokens = array_size(file, "tokenizer.ggml.tokens");
    sizes.tokens = (std::max)(static_cast<double>(tokens.count), value("vocab_size", 0));
    sizes.token_bytes = static_cast<double>(tokens.text_bytes);
    sizes.merges = static_cast<double>(array_size(file, "tokenizer.ggml.merges").count);
    sizes.token_tree = text(file, "tokenizer.ggml.model") == "t5";
    sizes.width = value("embedding_length", 0);
    sizes.row = value("embedding_length_out", sizes.width);
    sizes.inner = (std::max)(value("feed_forward_length", 4 * sizes.width),
                             value("expert_feed_forward_length", 0) * value("expert_used_count", 0));
    const double heads = value("attention.head_count", 1);
    const double shared_heads = value("attention.head_count_kv", heads);
    const double key = value("attention.key_length", sizes.width / heads);
    sizes.queries = heads * key;
    sizes.keys_and_values = shared_heads * (key + value("attention.value_length", sizes.width / heads));
    sizes.layers = value("block_count", 0);
    sizes.decoder = !is_encoder(architecture);
    sizes.context = value("context_length", 0);
    return sizes;
}

// How many rows the head's last matrix has.
inline std::optional<std::int64_t> head_outputs(const gguf_context& file) {
    for (const char* const name : {"cls.output.weight", "cls.weight"}) {
        if (const std::int64_t id = gguf_find_tensor(&file, name); id >= 0) {
            return gguf_get_tensor_ne(&file, id)[1];
        }
    }
    return {};
}

// The path of part `index` of a model in `count` files; empty if `first` is not named like the first of them.
inline std::string part_path(const std::string& first, int index, int count) {
    std::vector<char> prefix(first.size() + 1);
    if (llama_split_prefix(prefix.data(), prefix.size(), first.c_str(), 0, count) <= 0) {
        return {};
    }
    std::vector<char> path(first.size() + 64);
    llama_split_path(path.data(), path.size(), prefix.data(), index, count);
    return path.data();
}

}  // namespace model_file

/// Reads what `path` says, of a split model its first part alone; none if it is not a GGUF file, and llama.cpp's lines
/// say why.
///
/// The head is looked for among the tensors: the number of outputs that llama.cpp reports for a loaded model is 1 also
/// where there is no head.
inline std::optional<ModelFile> read_model_file(const std::string& path) {
    const GgufHandle file = model_file::open(path);
    if (!file) {
        return {};
    }
    ModelFile facts;
    facts.architecture = model_file::text(*file, "general.architecture");
    facts.pooling = model_file::number(*file, facts.architecture + ".pooling_type");
    facts.head_outputs = model_file::head_outputs(*file);
    facts.sizes = model_file::sizes(*file, facts.architecture);
    facts.part = model_file::number(*file, "split.no").value_or(0);
    constexpr std::uint32_t most_parts = 65'535;  // llama.cpp's.
    const auto parts = static_cast<int>((std::min)(model_file::number(*file, "split.count").value_or(1), most_parts));
    for (int part = 1; part < parts; ++part) {
        std::string other = model_file::part_path(path, part, parts);
        if (other.empty()) {
            break;  // The load itself says that the file is not named like a first part.
        }
        facts.other_parts.push_back(std::move(other));
    }
    return facts;
}

/// Reads what the other parts say, all of which must be there.
inline void read_other_parts(ModelFile& facts) {
    for (const std::string& path : facts.other_parts) {
        if (const GgufHandle file = model_file::open(path)) {  // If not, the load itself says why.
            facts.sizes.weights += model_file::weights(*file);
            if (!facts.head_outputs) {
                facts.head_outputs = model_file::head_outputs(*file);
            }
        }
    }
}

}  // namespace residency::detail::llama_cpp

#include "tiny_model.hpp"

#include <llama.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <stdexcept>

namespace residency::test {
namespace {

constexpr std::int64_t width = 64;
constexpr std::int64_t heads = 2;
constexpr std::int64_t head_width = width / heads;
constexpr std::int64_t inner = 96;
constexpr int layers = 2;

// The letters that byte-level vocabularies write bytes with: those that can be printed as themselves, the rest from 256
// on.
std::string letter_of(unsigned byte, unsigned& next) {
    const bool printed = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const unsigned point = printed ? byte : next++;
    if (point < 0x80) {
        return {static_cast<char>(point)};
    }
    return {static_cast<char>(0xC0U | (point >> 6U)), static_cast<char>(0x80U | (point & 0x3FU))};
}

struct Vocabulary {
    std::vector<std::string> texts{};
    std::vector<std::int32_t> types{};

    void add(const std::string& text, llama_token_type type) {
        texts.push_back(text);
        types.push_back(static_cast<std::int32_t>(type));
    }
};

Vocabulary make_vocabulary() {
    Vocabulary vocabulary;
    unsigned next = 256;
    for (unsigned byte = 0; byte < 256; ++byte) {
        vocabulary.add(letter_of(byte, next), LLAMA_TOKEN_TYPE_NORMAL);
    }
    vocabulary.add("th", LLAMA_TOKEN_TYPE_NORMAL);
    vocabulary.add("the", LLAMA_TOKEN_TYPE_NORMAL);
    for (const char* const special : {"<|im_start|>", "<|im_end|>", "<|begin|>", "<|end|>"}) {
        vocabulary.add(special, LLAMA_TOKEN_TYPE_CONTROL);
    }
    return vocabulary;
}

void set_strings(gguf_context* file, const char* key, const std::vector<std::string>& texts) {
    std::vector<const char*> pointers;
    for (const std::string& text : texts) {
        pointers.push_back(text.c_str());
    }
    gguf_set_arr_str(file, key, pointers.data(), pointers.size());
}

void set_vocabulary(gguf_context* file, const TinyModel& model, const Vocabulary& vocabulary) {
    if (model.no_vocabulary) {
        gguf_set_val_str(file, "tokenizer.ggml.model", "no_vocab");
        gguf_set_val_u32(file, (model.architecture + ".vocab_size").c_str(),
                         static_cast<std::uint32_t>(vocabulary.texts.size()));
        return;
    }
    gguf_set_val_str(file, "tokenizer.ggml.model", "gpt2");
    gguf_set_val_str(file, "tokenizer.ggml.pre", model.pre_tokenizer.c_str());
    set_strings(file, "tokenizer.ggml.tokens", vocabulary.texts);
    gguf_set_arr_data(file, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, vocabulary.types.data(),
                      vocabulary.types.size());
    set_strings(file, "tokenizer.ggml.merges", {"t h", "th e"});
    const auto count = static_cast<std::uint32_t>(vocabulary.texts.size());
    gguf_set_val_u32(file, "tokenizer.ggml.bos_token_id", count - 2);
    gguf_set_val_u32(file, "tokenizer.ggml.eos_token_id", count - 1);
    gguf_set_val_bool(file, "tokenizer.ggml.add_bos_token", model.adds_begin);
    gguf_set_val_bool(file, "tokenizer.ggml.add_eos_token", model.adds_end);
    if (!model.rerank_template.empty()) {
        gguf_set_val_str(file, "tokenizer.chat_template.rerank", model.rerank_template.c_str());
    }
}

class Weights {
public:
    explicit Weights(gguf_context* file) : file_(file), memory_(ggml_init({16U << 20U, nullptr, false}), &ggml_free) {
        if (!memory_) {
            throw std::runtime_error("no memory for the weights");
        }
    }

    // Random numbers around `centre`; those of a row depend on nothing but the order of calls.
    ggml_tensor* add(const std::string& name, const std::vector<std::int64_t>& shape, float centre, float spread) {
        ggml_tensor* const tensor =
            ggml_new_tensor(memory_.get(), GGML_TYPE_F32, static_cast<int>(shape.size()), shape.data());
        ggml_set_name(tensor, name.c_str());
        float* const values = ggml_get_data_f32(tensor);
        std::normal_distribution<float> random(centre, spread);
        for (std::int64_t index = 0; index < ggml_nelements(tensor); ++index) {
            values[index] = random(engine_);
        }
        gguf_add_tensor(file_, tensor);
        return tensor;
    }

private:
    gguf_context* file_;
    std::unique_ptr<ggml_context, void (*)(ggml_context*)> memory_;
    std::mt19937 engine_{1};
};

void add_head(Weights& weights, const std::vector<std::string>& labels) {
    ggml_tensor* const head =
        weights.add("cls.output.weight", {width, static_cast<std::int64_t>(labels.size())}, 0.0F, 0.3F);
    // The row of `yes` is the same wherever its label stands.
    for (std::size_t row = 0; row < labels.size(); ++row) {
        std::mt19937 engine(labels[row] == "yes" ? 2U : 3U);
        std::normal_distribution<float> random(0.0F, 0.3F);
        for (std::int64_t column = 0; column < width; ++column) {
            ggml_get_data_f32(head)[static_cast<std::int64_t>(row) * width + column] = random(engine);
        }
    }
}

}  // namespace

void write_tiny_model(const std::filesystem::path& path, const TinyModel& model) {
    const std::unique_ptr<gguf_context, void (*)(gguf_context*)> file(gguf_init_empty(), &gguf_free);
    const Vocabulary vocabulary = make_vocabulary();
    const auto key = [&model](const char* name) { return model.architecture + "." + name; };
    const auto number = [&](const char* name, std::uint32_t value) {
        gguf_set_val_u32(file.get(), key(name).c_str(), value);
    };

    gguf_set_val_str(file.get(), "general.architecture", model.architecture.c_str());
    number("context_length", model.context_length);
    number("embedding_length", static_cast<std::uint32_t>(width));
    number("block_count", layers);
    number("feed_forward_length", static_cast<std::uint32_t>(inner));
    number("attention.head_count", static_cast<std::uint32_t>(heads));
    number("attention.head_count_kv", static_cast<std::uint32_t>(heads));
    gguf_set_val_f32(file.get(), key("attention.layer_norm_rms_epsilon").c_str(), 1e-6F);
    if (model.pooling) {
        number("pooling_type", static_cast<std::uint32_t>(*model.pooling));
    }
    if (!model.labels.empty()) {
        set_strings(file.get(), key("classifier.output_labels").c_str(), model.labels);
    }
    set_vocabulary(file.get(), model, vocabulary);

    Weights weights(file.get());
    weights.add("token_embd.weight", {width, static_cast<std::int64_t>(vocabulary.texts.size())}, 0.0F, 1.0F);
    weights.add("output_norm.weight", {width}, 1.0F, 0.1F);
    for (int layer = 0; layer < layers; ++layer) {
        const auto add = [&](const char* name, const std::vector<std::int64_t>& shape, bool norm) {
            weights.add("blk." + std::to_string(layer) + "." + name + ".weight", shape, norm ? 1.0F : 0.0F,
                        norm ? 0.1F : 0.15F);
        };
        add("attn_norm", {width}, true);
        add("attn_q", {width, width}, false);
        add("attn_k", {width, width}, false);
        add("attn_v", {width, width}, false);
        add("attn_output", {width, width}, false);
        add("attn_q_norm", {head_width}, true);
        add("attn_k_norm", {head_width}, true);
        add("ffn_norm", {width}, true);
        add("ffn_gate", {width, inner}, false);
        add("ffn_up", {width, inner}, false);
        add("ffn_down", {inner, width}, false);
    }
    if (!model.labels.empty()) {
        add_head(weights, model.labels);
    }
    if (!gguf_write_to_file(file.get(), path.c_str(), false)) {
        throw std::runtime_error("cannot write " + path.string());
    }
}

void write_split_model(const std::filesystem::path& prefix, int parts, const std::filesystem::path& file) {
    ggml_context* tensors = nullptr;
    const std::unique_ptr<gguf_context, void (*)(gguf_context*)> whole(
        gguf_init_from_file(file.c_str(), {false, &tensors}), &gguf_free);
    const std::unique_ptr<ggml_context, void (*)(ggml_context*)> memory(tensors, &ggml_free);
    if (!whole) {
        throw std::runtime_error("cannot read " + file.string());
    }
    const std::int64_t count = gguf_get_n_tensors(whole.get());
    for (int part = 0; part < parts; ++part) {
        const std::unique_ptr<gguf_context, void (*)(gguf_context*)> piece(gguf_init_empty(), &gguf_free);
        if (part == 0) {
            gguf_set_kv(piece.get(), whole.get());
        }
        gguf_set_val_u16(piece.get(), "split.no", static_cast<std::uint16_t>(part));
        gguf_set_val_u16(piece.get(), "split.count", static_cast<std::uint16_t>(parts));
        gguf_set_val_i32(piece.get(), "split.tensors.count", static_cast<std::int32_t>(count));
        for (std::int64_t index = count * part / parts; index < count * (part + 1) / parts; ++index) {
            gguf_add_tensor(piece.get(), ggml_get_tensor(tensors, gguf_get_tensor_name(whole.get(), index)));
        }
        std::string path(prefix.string().size() + 64, '\0');
        llama_split_path(path.data(), path.size(), prefix.c_str(), part, parts);
        if (!gguf_write_to_file(piece.get(), path.c_str(), false)) {
            throw std::runtime_error("cannot write " + path);
        }
    }
}

}  // namespace residency::test

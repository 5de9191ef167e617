#pragma once

#include "residency/backend.hpp"
#include "residency/backends/filesystem.hpp"
#include "residency/backends/openvino/engine.hpp"
#include "residency/backends/openvino/loaded_model.hpp"
#include "residency/backends/openvino/model_folder.hpp"
#include "residency/backends/openvino/model_sizes.hpp"
#include "residency/backends/openvino/options.hpp"
#include "residency/backends/openvino/pair_template.hpp"
#include "residency/backends/openvino/runtime.hpp"
#include "residency/backends/openvino/tokenizer.hpp"
#include "residency/backends/openvino/words.hpp"
#include "residency/backends/trim_memory.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"
#include "residency/runtime/processors.hpp"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <dlfcn.h>
#endif

namespace residency::detail::openvino {

/// Where the library of tokenizers is: beside OpenVINO's own, as the packages of PyPI put them, or in the same folder.
/// Empty if it is in neither.
inline std::string find_tokenizers() {
#if defined(__unix__) || defined(__APPLE__)
    Dl_info library{};
    const ov::Version (*const symbol)() = &ov::get_openvino_version;
    if (::dladdr(reinterpret_cast<const void*>(symbol), &library) != 0 && library.dli_fname != nullptr) {
        const std::filesystem::path folder = std::filesystem::path(library.dli_fname).parent_path();
        for (const char* const other : {"../../openvino_tokenizers/lib", "."}) {
            const std::filesystem::path path = folder / other / "libopenvino_tokenizers.so";
            std::error_code ignored;
            if (std::filesystem::exists(path, ignored)) {
                return path.string();
            }
        }
    }
#endif
    return {};
}

/// One load of a model, step by step on one thread.
class Loading {
public:
    Loading(const OpenVinoModelOptions& options, const ModelKey& key, LoadContext& context)
        : options_(options),
          key_(key),
          context_(context),
          path_(options.folders.path_of(key)),
          folder_(path_),
          trim_(options.trim_memory) {
        require_engine(use_, key, Stage::load);
    }

    /// What is beside the model.
    [[nodiscard]] const ModelFolder& folder() const noexcept { return folder_; }

    /// How the tokenizer joins a query and a document; none if it does not say. Once the tokenizer is there: in `run`.
    [[nodiscard]] const std::optional<PairTemplate>& pair_template() const noexcept { return pair_template_; }

    /// Loads. `output_of(model)` gives the number of the output to read, and calls `fail` if there is none. `gives` is
    /// what the memory that the model takes is counted by.
    ///
    /// Throws Error: `operation_aborted` if stop was requested; `load_failed` with the path and OpenVINO's words.
    template <class OutputOf>
    std::unique_ptr<LoadedModel> run(Gives gives, const OutputOf& output_of) {
        stop_if_requested();
        const std::filesystem::path model_file = guarded([this] { return folder_.model(); });
        const std::filesystem::path tokenizer_file = guarded([this] { return folder_.tokenizer(); });
        LoadedModel::Use use;
        use.limit = limit();
        add_tokenizers();
        ov::CompiledModel tokenizer = guarded([&] { return compile_tokenizer(tokenizer_file); });
        const Tokenizer texts = guarded([&] { return Tokenizer(tokenizer); });
        require_room_for_text(texts, use.limit);
        if (!pair_template_ && texts.inputs() == 2) {
            pair_template_ = guarded([&] { return learn(texts, tokenizer); });
        }
        step(0.1F);
        const auto model = guarded([&] { return core().read_model(model_file.string()); });
        use.inputs = guarded([&] { return inputs_of(*model); });
        use.output = output_of(*model);
        require_floats(*model, use.output);
        step(0.2F);
        const ov::CompiledModel compiled = guarded([&] { return compile(model); });
        step(0.9F);
        auto made = guarded([&] {
            const auto streams = compiled.get_property(ov::num_streams).num;
            return Handle<Compiled>(
                std::make_unique<Compiled>(
                    tokenizer, compiled,
                    std::clamp<std::size_t>(static_cast<std::size_t>((std::max)(1, streams)), 1, options_.streams))
                    .release());
        });
        use.memory =
            model_memory(guarded([this] { return folder_.sizes(); }), made->workers.size(),
                         (std::max)(options_.batch_tokens, use.limit),
                         memory_rates(is_half([&] { return compiled.get_property(precision); }), false, gives));
        step(1.0F);
        trim_.keep();  // From here on the model itself sees to it.
        return std::make_unique<LoadedModel>(key_, std::move(made), texts, std::move(use), options_);
    }

    /// Throws `load_failed` with the path and `why`; or `operation_aborted` if stop was requested.
    [[noreturn]] void fail(const std::string& why) const {
        stop_if_requested();
        throw Error(errc::load_failed, key_, Stage::load, "cannot load '" + path_.string() + "': " + why);
    }

    /// What `call()` gives; what it throws becomes `load_failed`.
    template <class Call>
    auto guarded(const Call& call) const {
        try {
            return call();
        } catch (const Error&) {
            throw;
        } catch (const std::bad_alloc&) {
            throw;
        } catch (const std::exception& failure) {
            fail(words_of(failure.what()));
        }
    }

    /// How many bytes the model would take at most, loaded; throws as `run` does for what the files say.
    [[nodiscard]] std::size_t memory_needed(Gives gives) {
        trim_.keep();  // It is about a few files alone.
        const ModelSizes sizes = guarded([this] { return folder_.sizes(); });
        guarded([this] { return folder_.tokenizer(); });
        const std::size_t tokens = (std::max)(options_.batch_tokens, limit());
        return model_memory(sizes, most_streams(), tokens, memory_rates(will_be_half(), true, gives));
    }

private:
    // On processors OpenVINO makes a stream of at least one thread, and has no more threads than processors to run on.
    [[nodiscard]] std::size_t most_streams() const {
        if (options_.device != "CPU" || !options_.properties.empty()) {
            return options_.streams;
        }
#if defined(__linux__)
        const std::size_t processors = runtime::affinity_processors();
#else
        const std::size_t processors = runtime::system_processors();
#endif
        return (std::min)({options_.streams, options_.threads, processors});
    }

    void stop_if_requested() const {
        if (context_.stop_token().stop_requested() || Engine::closed()) {
            throw Error(operation_aborted(), key_, Stage::load, "the load was asked to stop");
        }
    }

    void step(float done) {
        stop_if_requested();
        context_.progress(done);
    }

    [[nodiscard]] std::size_t limit() const {
        const auto of_folder = guarded([this] { return folder_.limit(); });
        if (!of_folder && options_.context_tokens == 0) {
            fail("no file beside it says how many tokens a text may have; option model.context_tokens does");
        }
        if (of_folder && options_.context_tokens > *of_folder) {
            fail("option model.context_tokens is " + std::to_string(options_.context_tokens) + ", but it takes " +
                 std::to_string(*of_folder));
        }
        return options_.context_tokens != 0 ? options_.context_tokens : *of_folder;
    }

    void require_room_for_text(const Tokenizer& tokenizer, std::size_t limit) const {
        const std::size_t added = tokenizer.opening().size() + tokenizer.closing().size();
        if (limit <= added) {
            fail("a text may have " + std::to_string(limit) + " tokens, and the tokenizer adds " +
                 std::to_string(added) + " to each: there is no room for the text");
        }
    }

    void add_tokenizers() const {
        const std::string library = options_.tokenizers.empty() ? find_tokenizers() : options_.tokenizers;
        if (library.empty()) {
            fail(
                "there is no libopenvino_tokenizers.so where the package openvino-tokenizers puts it, nor beside "
                "OpenVINO; option model.tokenizers names it");
        }
        guarded([&library] { add_extension_once(library); });
    }

    static constexpr auto& precision = ov::hint::inference_precision;

    // Whether that is a precision of two bytes; f32, which takes more memory, if OpenVINO does not say.
    template <class PrecisionOf>
    static bool is_half(const PrecisionOf& precision_of) {
        try {
            const ov::element::Type type = precision_of();
            return type == ov::element::bf16 || type == ov::element::f16;
        } catch (const std::exception&) {
            return false;
        }
    }

    // Whether the model will be computed so. Where an option asks for it and the device would not do it by itself, that
    // is not certain.
    [[nodiscard]] bool will_be_half() const {
        return options_.precision != OpenVinoPrecision::f32 && options_.properties.count(precision.name()) == 0 &&
               is_half([this] { return core().get_property(options_.device, precision); });
    }

    [[nodiscard]] ov::CompiledModel compile_tokenizer(const std::filesystem::path& file) {
        const auto model = core().read_model(file.string());
        constexpr const char* name = "processed_post_processor_template";
        if (model->has_rt_info(name)) {
            pair_template_ = PairTemplate::parse(model->get_rt_info<std::string>(name));
        }
        make_special_tokens_text(*model, folder_.added_text_tokens());
        keep_whole_texts(*model);
        return core().compile_model(model, "CPU",
                                    {ov::num_streams(static_cast<std::int32_t>(options_.streams)),
                                     ov::inference_num_threads(static_cast<std::int32_t>(options_.streams))});
    }

    static std::optional<PairTemplate> learn(const Tokenizer& texts, ov::CompiledModel& tokenizer) {
        ov::InferRequest request = tokenizer.create_infer_request();
        const std::vector<std::string> both{"a", "b"};
        const auto own = texts.tokenize(request, both, [] {});
        return PairTemplate::learn(texts.pair(request, both[0], both[1]), own[0], own[1]);
    }

    [[nodiscard]] ov::CompiledModel compile(const std::shared_ptr<ov::Model>& model) const {
        ov::AnyMap properties{ov::num_streams(static_cast<std::int32_t>(options_.streams))};
        if (options_.device == "CPU") {
            properties.insert(ov::inference_num_threads(static_cast<std::int32_t>(options_.threads)));
        }
        switch (options_.precision) {
            case OpenVinoPrecision::of_device: break;
            case OpenVinoPrecision::f32: properties.insert(ov::hint::inference_precision(ov::element::f32)); break;
            case OpenVinoPrecision::f16: properties.insert(ov::hint::inference_precision(ov::element::f16)); break;
            case OpenVinoPrecision::bf16: properties.insert(ov::hint::inference_precision(ov::element::bf16)); break;
        }
        for (const auto& [name, value] : options_.properties) {
            properties[name] = value;
        }
        return core().compile_model(model, options_.device, properties);
    }

    [[nodiscard]] std::vector<Input> inputs_of(const ov::Model& model) const {
        std::vector<Input> found;
        for (const auto& input : model.inputs()) {
            const auto name = std::find_if(input_names.begin(), input_names.end(), [&input](std::string_view each) {
                return input.get_names().count(std::string(each)) != 0;
            });
            if (name == input_names.end()) {
                fail("it has an input that is none of input_ids, attention_mask, token_type_ids and position_ids");
            }
            const ov::PartialShape shape = input.get_partial_shape();
            if (shape.rank().is_dynamic() || shape.size() != 2 || shape[0].is_static() || shape[1].is_static()) {
                fail("its input " + std::string(*name) + " has the shape " + shape.to_string() +
                     ", and must take any number of texts of any length");
            }
            if (input.get_element_type() != ov::element::i64 && input.get_element_type() != ov::element::i32) {
                fail("its input " + std::string(*name) + " is neither of i64 nor of i32");
            }
            found.push_back(static_cast<Input>(name - input_names.begin()));
        }
        for (const Input needed : {Input::ids, Input::mask}) {
            if (std::find(found.begin(), found.end(), needed) == found.end()) {
                fail("it has no input " + std::string(input_names[static_cast<std::size_t>(needed)]));
            }
        }
        return found;
    }

    void require_floats(const ov::Model& model, std::size_t output) const {
        if (model.output(output).get_element_type() != ov::element::f32) {
            fail("its output is of " + model.output(output).get_element_type().get_type_name() + ", not of f32");
        }
    }

    const OpenVinoModelOptions& options_;
    const ModelKey& key_;
    LoadContext& context_;
    std::filesystem::path path_;
    ModelFolder folder_;
    const Engine::Scope use_{};
    TrimMemory trim_;
    std::optional<PairTemplate> pair_template_{};
};

/// The number of the model's output of this name; none if it has none.
inline std::optional<std::size_t> output_named(const ov::Model& model, const std::string& name) {
    const auto outputs = model.outputs();
    for (std::size_t index = 0; index < outputs.size(); ++index) {
        if (outputs[index].get_names().count(name) != 0) {
            return index;
        }
    }
    return {};
}

}  // namespace residency::detail::openvino

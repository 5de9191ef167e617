#pragma once

#include "residency/backends/openvino/batch.hpp"
#include "residency/backends/openvino/engine.hpp"
#include "residency/backends/openvino/inference.hpp"
#include "residency/backends/openvino/options.hpp"
#include "residency/backends/openvino/request_pool.hpp"
#include "residency/backends/openvino/runtime.hpp"
#include "residency/backends/openvino/tokenizer.hpp"
#include "residency/backends/openvino/words.hpp"
#include "residency/backends/trim_memory.hpp"
#include "residency/batch_limits.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <new>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace residency::detail::openvino {

/// What one inference at a time runs in.
struct Worker {
    /// Of the tokenizer.
    ov::InferRequest tokenizer{};
    /// Of the model.
    ov::InferRequest model{};
};

/// What a model's output has for one sequence.
struct Row {
    /// The values: `width` of them, or as many for each token.
    const float* values = nullptr;
    /// How many tokens the sequence has.
    std::size_t tokens = 0;
    /// How many values there are, for each token where the output is of tokens.
    std::size_t width = 0;
};

/// Which input of a model is which; only the first two are in every model.
enum class Input : std::uint8_t { ids, mask, types, positions };

/// What OpenVINO made of a folder.
struct Compiled {
    /// Makes a request of each model for each stream.
    Compiled(ov::CompiledModel of_texts, ov::CompiledModel of_tokens, std::size_t streams)
        : tokenizer(std::move(of_texts)), model(std::move(of_tokens)), workers(make_workers(streams)) {}

    /// Texts to tokens.
    ov::CompiledModel tokenizer;
    /// Tokens to vectors or scores.
    ov::CompiledModel model;
    /// Whether an inference of either failed: what later ones give may be wrong.
    std::atomic<bool> failed{false};
    /// The requests.
    RequestPool<Worker> workers;

private:
    std::vector<Worker> make_workers(std::size_t streams) {
        std::vector<Worker> made(streams);
        for (Worker& worker : made) {
            worker = {tokenizer.create_infer_request(), model.create_infer_request()};
            note_failures(worker.tokenizer, failed);
            note_failures(worker.model, failed);
        }
        return made;
    }
};

/// The names of the inputs that a model may have, in the order of `Input`.
inline constexpr std::array<std::string_view, 4> input_names{"input_ids", "attention_mask", "token_type_ids",
                                                             "position_ids"};

/// Tokenizer, weights and requests of one model: what embedders and rerankers are made of. Any number of threads at
/// once.
class LoadedModel {
public:
    /// How a model is used.
    struct Use {
        /// The inputs, as the model numbers them.
        std::vector<Input> inputs{};
        /// The output that is read.
        std::size_t output = 0;
        /// How many tokens a sequence may have.
        std::size_t limit = 0;
        /// How many bytes it takes once each stream has computed the largest sub-batch.
        std::size_t memory = 0;
    };

    /// Takes what was compiled.
    LoadedModel(ModelKey key, Handle<Compiled> compiled, Tokenizer tokenizer, Use use,
                const OpenVinoModelOptions& options)
        : key_(std::move(key)),
          trim_(options.trim_memory),
          compiled_(std::move(compiled)),
          tokenizer_(std::move(tokenizer)),
          use_(std::move(use)),
          batch_tokens_(options.batch_tokens),
          streams_(compiled_->workers.size()) {}

    /// The model's key.
    [[nodiscard]] const ModelKey& key() const noexcept { return key_; }
    /// The tokenizer.
    [[nodiscard]] const Tokenizer& tokenizer() const noexcept { return tokenizer_; }
    /// How many tokens a sequence may have.
    [[nodiscard]] std::size_t limit() const noexcept { return use_.limit; }
    /// How many inferences may run at once.
    [[nodiscard]] std::size_t streams() const noexcept { return streams_; }
    /// How many bytes it takes once each stream has computed the largest sub-batch.
    [[nodiscard]] std::size_t memory_used() const noexcept { return use_.memory; }
    /// How much one call does best with.
    [[nodiscard]] BatchLimits batch_limits() const noexcept { return batch_limits_for(batch_tokens_); }

    /// An error of a request.
    [[nodiscard]] Error error(errc code, const std::string& detail) const {
        return {code, key_, Stage::inference, detail};
    }

    /// Throws Error shutting_down if OpenVINO must not be used any more.
    void demand_engine(const Engine::Scope& use) const { require_engine(use, key_, Stage::inference); }

    /// Throws Error operation_aborted if `stop` was requested, or OpenVINO is being closed.
    void go_on_unless(const std::stop_token& stop) const {
        if (stop.stop_requested() || Engine::closed()) {
            throw aborted();
        }
    }

    /// Throws Error invalid_request if `text` has too many bytes to be read.
    void require_readable(const std::string& text, std::size_t index, std::string_view noun) const {
        if (text.size() > most_bytes) {
            throw error(errc::invalid_request, "it has " + std::to_string(text.size()) + " bytes, and the limit is " +
                                                   std::to_string(most_bytes))
                .at_text(index, noun);
        }
    }

    /// Waits for a free worker and calls `call(worker)`, in which OpenVINO may be used. Throws Error operation_aborted
    /// if `stop` was requested, inference_failed with OpenVINO's words if that throws, or if an inference of the model
    /// has failed before `call` was at its end.
    template <class Call>
    void with_worker(const std::stop_token& stop, const Call& call) {
        const auto turn = compiled_->workers.take(stop);
        if (!turn) {
            throw aborted();
        }
        require_no_failure();
        try {
            call(turn.request());
        } catch (const Error&) {
            throw;
        } catch (const std::bad_alloc&) {
            throw;
        } catch (const std::exception& failure) {
            throw error(errc::inference_failed, "OpenVINO could not compute it: " + words_of(failure.what()));
        }
        require_no_failure();
    }

    /// Computes the sequences and calls `on_row(index, row)` for each, in any order; `row` is valid during the call.
    ///
    /// Precondition: no sequence is empty or longer than limit(); in `with_worker`, with its worker.
    template <class OnRow>
    void compute(Worker& worker, std::span<const Sequence> sequences, const std::stop_token& stop,
                 const OnRow& on_row) const {
        const BatchPlan plan = plan_batches(sequences, batch_tokens_);
        std::size_t begin = 0;
        for (const std::size_t end : plan.ends) {
            go_on_unless(stop);
            const std::span<const std::size_t> batch(plan.order.data() + begin, end - begin);
            fill(worker.model, sequences, batch);
            infer(worker.model);
            read(worker.model, sequences, batch, on_row);
            begin = end;
        }
    }

private:
    void require_no_failure() const {
        if (compiled_->failed) {
            throw error(errc::inference_failed,
                        "an inference of the model has failed, after which OpenVINO may give wrong results: unload it");
        }
    }

    [[nodiscard]] Error aborted() const {
        return {operation_aborted(), key_, Stage::inference, "the inference was asked to stop"};
    }

    // The tensors of a sub-batch whose first sequence is its longest.
    void fill(ov::InferRequest& request, std::span<const Sequence> sequences,
              std::span<const std::size_t> batch) const {
        const std::size_t width = sequences[batch.front()].tokens.size();
        const ov::Shape shape{batch.size(), width};
        for (std::size_t input = 0; input < use_.inputs.size(); ++input) {
            const ov::Tensor old = request.get_input_tensor(input);
            ov::Tensor tensor(old.get_element_type(), shape);
            if (tensor.get_element_type() == ov::element::i32) {
                fill(tensor.data<std::int32_t>(), use_.inputs[input], width, sequences, batch);
            } else {
                fill(tensor.data<std::int64_t>(), use_.inputs[input], width, sequences, batch);
            }
            request.set_input_tensor(input, tensor);
        }
    }

    template <class Integer>
    static void fill(Integer* to, Input input, std::size_t width, std::span<const Sequence> sequences,
                     std::span<const std::size_t> batch) {
        const auto as_integer = [](std::int64_t value) { return static_cast<Integer>(value); };
        for (const std::size_t index : batch) {
            const Sequence& sequence = sequences[index];
            const std::size_t count = sequence.tokens.size();
            // Padding has the id 0: the mask keeps it out of everything.
            std::fill_n(to, width, Integer{0});
            switch (input) {
                case Input::ids: std::transform(sequence.tokens.begin(), sequence.tokens.end(), to, as_integer); break;
                case Input::mask: std::fill_n(to, count, Integer{1}); break;
                case Input::types: std::transform(sequence.types.begin(), sequence.types.end(), to, as_integer); break;
                case Input::positions:
                    for (std::size_t position = 0; position < width; ++position) {
                        to[position] = static_cast<Integer>(position);
                    }
                    break;
            }
            to += width;
        }
    }

    template <class OnRow>
    void read(ov::InferRequest& request, std::span<const Sequence> sequences, std::span<const std::size_t> batch,
              const OnRow& on_row) const {
        const ov::Tensor output = request.get_output_tensor(use_.output);
        const ov::Shape shape = output.get_shape();
        const std::size_t width = sequences[batch.front()].tokens.size();
        if (shape.size() < 2 || shape.size() > 3 || shape[0] != batch.size() ||
            (shape.size() == 3 && shape[1] != width)) {
            throw error(errc::inference_failed, "OpenVINO gave an output of the shape " + shape.to_string() + " for " +
                                                    std::to_string(batch.size()) + " sequences of " +
                                                    std::to_string(width) + " tokens");
        }
        const auto* values = output.data<float>();
        const std::size_t stride = output.get_size() / batch.size();
        for (const std::size_t index : batch) {
            on_row(index, Row{values, sequences[index].tokens.size(), shape.back()});
            values += stride;
        }
    }

    ModelKey key_;
    // Destroyed in the reverse order: what OpenVINO made, and then the memory goes back.
    TrimMemory trim_;
    Handle<Compiled> compiled_;
    Tokenizer tokenizer_;
    Use use_;
    std::size_t batch_tokens_;
    std::size_t streams_;
};

}  // namespace residency::detail::openvino

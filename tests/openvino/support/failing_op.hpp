#pragma once

#include "residency/backends/openvino/runtime.hpp"

#include <openvino/op/op.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>

namespace residency::test {

/// How the operations below fail.
enum class Failure : std::uint8_t { none, exception, shape };

/// How they fail now.
inline std::atomic<Failure> failure_of_ops{Failure::none};

/// Gives what it is given, a row of floats for each token of each text. It may throw, or give a token more.
class PassesOn : public ov::op::Op {
public:
    OPENVINO_OP("PassesOn", "residency")
    PassesOn() = default;
    explicit PassesOn(const ov::Output<ov::Node>& input) : Op({input}) { constructor_validate_and_infer_types(); }

    void validate_and_infer_types() override {
        set_output_type(0, get_input_element_type(0), {-1, -1, get_input_partial_shape(0)[2]});
    }
    std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
        return std::make_shared<PassesOn>(inputs.at(0));
    }
    bool has_evaluate() const override { return true; }
    bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
        if (failure_of_ops == Failure::exception) {
            throw std::runtime_error("the operation failed");
        }
        ov::Shape shape = inputs[0].get_shape();
        shape[1] += failure_of_ops == Failure::shape ? 1 : 0;
        outputs[0].set_shape(shape);
        std::memcpy(outputs[0].data(), inputs[0].data(), inputs[0].get_byte_size());
        return true;
    }
};

/// A tokenizer: the token 7 for a text that is not empty, between 1 and 2. It may throw.
class Sevens : public ov::op::Op {
public:
    OPENVINO_OP("Sevens", "residency")
    Sevens() = default;
    explicit Sevens(const ov::Output<ov::Node>& texts) : Op({texts}) { constructor_validate_and_infer_types(); }

    void validate_and_infer_types() override {
        set_output_size(2);
        set_output_type(0, ov::element::i64, {-1, -1});
        set_output_type(1, ov::element::i64, {-1, -1});
    }
    std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
        return std::make_shared<Sevens>(inputs.at(0));
    }
    bool has_evaluate() const override { return true; }
    bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
        if (failure_of_ops != Failure::none) {
            throw std::runtime_error("the operation failed");
        }
        const std::size_t count = inputs[0].get_size();
        for (ov::Tensor& output : outputs) {
            output.set_shape({count, 3});
            std::fill_n(output.data<std::int64_t>(), count * 3, std::int64_t{1});
        }
        for (std::size_t text = 0; text < count; ++text) {
            const bool empty = inputs[0].data<std::string>()[text].empty();
            outputs[0].data<std::int64_t>()[3 * text + 1] = empty ? 2 : 7;
            outputs[0].data<std::int64_t>()[3 * text + 2] = empty ? 0 : 2;
            outputs[1].data<std::int64_t>()[3 * text + 2] = empty ? 0 : 1;
        }
        return true;
    }
};

}  // namespace residency::test

#pragma once

#include "residency/backends/openvino/runtime.hpp"

#include <atomic>
#include <exception>

namespace residency::detail::openvino {

/// Computes `request`, to its end. Throws what OpenVINO throws.
///
/// Not by its infer(), which loses errors: the outputs then are those of before, or anything. Nor is it stopped in its
/// middle by cancel(): see `note_failures`.
inline void infer(ov::InferRequest& request) {
    request.start_async();
    request.wait();
}

/// Lets `failed` be true from when an inference of `request` fails, and before its stream begins another one. Of an
/// inference that did not come to its end OpenVINO keeps shapes in the stream, with which the next ones there fail, or
/// give wrong results, in whichever request they are. `failed` outlives `request`.
inline void note_failures(ov::InferRequest& request, std::atomic<bool>& failed) {
    request.set_callback([&failed](const std::exception_ptr& failure) {
        if (failure != nullptr) {
            failed = true;
        }
    });
}

}  // namespace residency::detail::openvino

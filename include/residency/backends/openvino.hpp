#pragma once

// Real models: embedders and rerankers from OpenVINO and ONNX folders, computed by OpenVINO. Link with
// residency::openvino.

#include "residency/backends/openvino/embedding.hpp"
#include "residency/backends/openvino/reranker.hpp"

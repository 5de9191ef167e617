#pragma once

// Real models: embedders and rerankers from GGUF files, computed by llama.cpp. Link with residency::llama_cpp.

#include "residency/backends/llama_cpp/embedding.hpp"
#include "residency/backends/llama_cpp/reranker.hpp"

#pragma once

// Models that another process or machine computes: vLLM, text-embeddings-inference, llama-server, Ray Serve, OpenAI,
// Cohere. Link with residency::remote.

#include "residency/backends/remote/embedding.hpp"
#include "residency/backends/remote/reranker.hpp"

#pragma once

// All of the library but the leaves that need a library of their own (observe/spdlog.hpp, backends/llama_cpp.hpp),
// backends/any.hpp, pressure/, and the helpers for tests (testing/).

#include "residency/backend.hpp"
#include "residency/backends/lexical.hpp"
#include "residency/embed_as.hpp"
#include "residency/embeddings.hpp"
#include "residency/error.hpp"
#include "residency/error_code.hpp"
#include "residency/event.hpp"
#include "residency/generation.hpp"
#include "residency/lease.hpp"
#include "residency/model_key.hpp"
#include "residency/model_manager.hpp"
#include "residency/model_slot.hpp"
#include "residency/options.hpp"
#include "residency/ranking.hpp"
#include "residency/runtime/executors.hpp"
#include "residency/status.hpp"
#include "residency/version.hpp"

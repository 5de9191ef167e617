#!/usr/bin/env bash
# Starts an embedder and a reranker of llama-server, asks them through residency::remote, and stops them. Fails if a vector or the order of
# scores is not that of the references.
#
# Usage: tests/remote/llama_server.sh [SECONDS of load]
#
#   RESIDENCY_MODELS  the folder of the tests' models
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tests/remote/support/real_peers.sh
. tests/remote/support/llama_server.sh
build_program

read -r embedder reranker < <(free_ports 2)
# One thread to compute, since several that wait for one another get in the way of the load; as many for HTTP as option `connections`, since
# each keeps one of them for as long as it is open.
threads=(--threads 1 --threads-http 16 --parallel 4)
start_server "$models/all-minilm-l6-v2-f16.gguf" "$embedder" "${threads[@]}" --embeddings --pooling mean
start_server "$models/qa-reranker-l6-f16.gguf" "$reranker" "${threads[@]}" --rerank

timeout 300 "$asks" vectors "$models/all-minilm-l6-v2.reference.json" "http://127.0.0.1:$embedder/v1"
timeout 300 "$asks" scores "$models/qa-reranker-l6.reference.json" "http://127.0.0.1:$reranker/v1"
timeout 300 "$asks" load "${1:-10}" all-minilm-l6-v2 "http://127.0.0.1:$embedder/v1"

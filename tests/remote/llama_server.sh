#!/usr/bin/env bash
# Builds llama-server (once, outside the checkout, which takes half an hour), starts an embedder and a reranker on loopback, asks
# them through residency::remote, and stops them. Fails if a vector or the order of scores is not that of the references.
#
# Usage: tests/remote/llama_server.sh [SECONDS of load]
#
#   RESIDENCY_MODELS  the folder of the tests' models
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tests/remote/support/real_peers.sh

server=$(.ci/llama_cpp --server)
build_program
room=$(mktemp -d)
processes=()
stop() {
    kill "${processes[@]}" 2>/dev/null || true
    wait
    rm -rf "$room"
}
trap stop EXIT

read -r embedder reranker < <(python3 -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(each.getsockname()[1] for each in sockets))')

# start NAME PORT OPTION...: one thread to compute, since several that wait for one another get in the way of the load; as many for HTTP
# as option `connections`, since each keeps one of them for as long as it is open.
start() {
    local name=$1 port=$2
    shift 2
    "$server" --model "$models/$name-f16.gguf" --host 127.0.0.1 --port "$port" --threads 1 --threads-http 16 --parallel 4 "$@" > "$room/$name.log" 2>&1 &
    processes+=($!)
    for ((tries = 0; tries < 300; ++tries)); do
        if python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=1)' "http://127.0.0.1:$port/health" 2>/dev/null; then
            return
        fi
        kill -0 "${processes[-1]}" 2>/dev/null || break
        sleep 0.1
    done
    cat "$room/$name.log"
    fail "llama-server does not answer"
}
start all-minilm-l6-v2 "$embedder" --embeddings --pooling mean
start qa-reranker-l6 "$reranker" --rerank

timeout 300 "$asks" vectors "$models/all-minilm-l6-v2.reference.json" "http://127.0.0.1:$embedder/v1"
timeout 300 "$asks" scores "$models/qa-reranker-l6.reference.json" "http://127.0.0.1:$reranker/v1"
timeout 300 "$asks" load "${1:-10}" all-minilm-l6-v2 "http://127.0.0.1:$embedder/v1"

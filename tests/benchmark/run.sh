#!/usr/bin/env bash
# Builds the benchmarks optimised, runs them, prints one table.
set -euo pipefail

usage="Usage: tests/benchmark/run.sh [OPTION OF report.py...]
       tests/benchmark/run.sh instructions [--write | --profile PATH | --under-lock]
       tests/benchmark/run.sh policy
       tests/benchmark/run.sh engines [--server]

Builds the benchmarks under build/benchmark, runs them, prints one table, and writes it to build/benchmark/costs.json and the scaling
curves to tests/benchmark/scaling.svg. Takes some minutes; on a machine that does nothing else. With --repetitions N: N instead of 11.

\`instructions\` counts the instructions of the hot paths by callgrind and compares them with tests/benchmark/instructions.json, as a test
does. --write keeps them there; --profile prints where those of one path go, --under-lock how much of status() runs under a lock.

\`policy\` prints what the slot's decisions are worth, in virtual time, and draws tests/benchmark/sharing.svg: texts a second and waiting
times with and without shared calls.

\`engines\` draws the same of real engines, tests/benchmark/engines.svg, and prints the figures: those of llama.cpp and OpenVINO that
RESIDENCY_LLAMA_CPP=ON and RESIDENCY_OPENVINO=ON build in, as for tests/run.sh; with --server also those of llama-server, which is built
for it once. Takes some minutes; on a machine that does nothing else.

CXX chooses the compiler (g++). What is missing on a Debian 12, a Ubuntu 24.04 or newer is installed, as root or with sudo."

case ${1-} in
    -h | --help)
        echo "$usage"
        exit 0
        ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. cmake/machine.sh

need g++ cmake ninja-build python3 libboost catch2 libbenchmark-dev valgrind
use_ccache

build=build/benchmark${CXX:+-$(basename "$CXX")}
cmake --preset release -B "$build" -D RESIDENCY_BUILD_EXAMPLES=OFF >/dev/null
if [ "${1-}" = instructions ]; then
    shift
    cmake --build "$build" --target instructions instructions_under_lock
    exec python3 -B tests/benchmark/instructions.py "$build/tests/benchmark/instructions" "$@"
fi
if [ "${1-}" = policy ]; then
    cmake --build "$build" --target policy
    "$build/tests/benchmark/policy" --curves | python3 -B tests/benchmark/chart.py > tests/benchmark/sharing.svg
    exec "$build/tests/benchmark/policy"
fi
if [ "${1-}" = engines ]; then
    server=()
    if [ "${2-}" = --server ]; then
        : "${RESIDENCY_MODELS:?names the folder of the models}"
        # What residency::remote needs, which asks it.
        need boost-json
        . tests/remote/support/llama_server.sh
        port=$(free_ports 1)
        # A thread for HTTP for each caller: it has one until the answer is there.
        start_server "$RESIDENCY_MODELS/all-minilm-l6-v2-f16.gguf" "$port" --threads "$(nproc)" --threads-http 260 --parallel 64 --ctx-size 32768 \
            --embeddings --pooling mean
        server=("http://127.0.0.1:$port/v1")
    fi
    cmake "$build" ${RESIDENCY_LLAMA_CPP:+"-DRESIDENCY_LLAMA_CPP=$RESIDENCY_LLAMA_CPP"} \
        ${RESIDENCY_OPENVINO:+"-DRESIDENCY_OPENVINO=$RESIDENCY_OPENVINO"} >/dev/null
    cmake --build "$build" --target engines
    "$build/tests/benchmark/engines" "${server[@]}" > "$build/engines.json"
    cat "$build/engines.json"
    python3 -B tests/benchmark/chart.py < "$build/engines.json" > tests/benchmark/engines.svg
    exit 0
fi
cmake --build "$build" --target benchmarks benchmark_facts instructions instructions_under_lock
exec python3 -B tests/benchmark/report.py "$build" --json "$build/costs.json" --svg tests/benchmark/scaling.svg "$@"

#!/usr/bin/env bash
# Builds the benchmarks optimised, runs them, prints one table.
set -euo pipefail

usage="Usage: tests/benchmark/run.sh [OPTION OF report.py...]

Builds the benchmarks under build/benchmark, runs them, prints one table, and writes it to build/benchmark/costs.json and the scaling
curves to tests/benchmark/scaling.svg. Takes some minutes; on a machine that does nothing else. With --repetitions N: N instead of 11.

CXX chooses the compiler (g++). What is missing on a Debian 12, a Ubuntu 24.04 or newer is installed, as root or with sudo."

case ${1-} in
    -h | --help)
        echo "$usage"
        exit 0
        ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. cmake/machine.sh

need g++ cmake ninja-build python3 libboost catch2 libbenchmark-dev
use_ccache

build=build/benchmark${CXX:+-$(basename "$CXX")}
cmake --preset release -B "$build" -D RESIDENCY_BUILD_EXAMPLES=OFF >/dev/null
cmake --build "$build" --target benchmarks benchmark_facts
exec python3 -B tests/benchmark/report.py "$build" --json "$build/costs.json" --svg tests/benchmark/scaling.svg "$@"

#!/usr/bin/env bash
# Builds everything with warnings as errors and runs all tests.
set -euo pipefail

usage="Usage: tests/run.sh [debug|release|asan|tsan] [CTEST OPTION...]
       tests/run.sh reference

Builds residency with its tests and examples under build/ and runs all tests; debug unless said otherwise.
asan is AddressSanitizer with UndefinedBehaviorSanitizer, tsan is ThreadSanitizer. Options after it go to ctest, for
instance: tests/run.sh tsan -R behaviour

reference installs doxygen, too, and writes the reference of the public headers to build/debug/tests/reference/html. It builds nothing else.

With RESIDENCY_LLAMA_CPP=ON in the environment the llama.cpp backend is built and tested, too; CMAKE_PREFIX_PATH says where llama.cpp
is installed, RESIDENCY_MODELS and RESIDENCY_CORPUS where real models and texts are (tests/llama_cpp/README.md). With RESIDENCY_OPENVINO=ON
the same holds for OpenVINO; OpenVINO_DIR says where it is, RESIDENCY_OPENVINO_MODELS where its models are (tests/openvino/README.md).

CXX chooses the compiler (g++). What is missing on a Debian 12, a Ubuntu 24.04 or newer is installed, as root or with sudo."

case ${1-} in
    -h | --help)
        echo "$usage"
        exit 0
        ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. cmake/machine.sh

preset=debug
reference=
case ${1-} in
    debug | release | asan | tsan)
        preset=$1
        shift
        ;;
    reference) reference=doxygen ;;
    -* | "") ;;
    *) fail "tests/run.sh: \`$1\` is not debug, release, asan, tsan or reference." "" "$usage" ;;
esac

need g++ cmake ninja-build git python3 libboost boost-json catch2 libspdlog-dev nlohmann-json3-dev libcli11-dev libbenchmark-dev ${reference:+doxygen}
use_ccache

build=build/$preset${CXX:+-$(basename "$CXX")}

# ThreadSanitizer of g++ 12 and clang 14 does not start where addresses are randomised by more than 28 bits.
run=()
if [ "$preset" = tsan ] && [ "$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 0)" -gt 28 ] && setarch -R true 2>/dev/null; then
    run=(setarch -R)
fi

cmake --preset "$preset" -B "$build" ${RESIDENCY_LLAMA_CPP:+"-DRESIDENCY_LLAMA_CPP=$RESIDENCY_LLAMA_CPP"} \
    ${RESIDENCY_OPENVINO:+"-DRESIDENCY_OPENVINO=$RESIDENCY_OPENVINO"}
if [ -n "$reference" ]; then
    doxygen "$build/tests/reference/Doxyfile"
    echo "The reference: $build/tests/reference/html/index.html"
    exit 0
fi
"${run[@]}" cmake --build "$build" -j "$(nproc)"
"${run[@]}" ctest --test-dir "$build" --output-on-failure --no-tests=error -j "$(nproc)" "$@"

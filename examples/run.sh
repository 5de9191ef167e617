#!/usr/bin/env bash
# Builds the main example, semantic search over a folder, and runs it on this repository.
set -euo pipefail

usage="Usage: examples/run.sh [SEARCH ARGUMENT...]

Builds examples/search under build/ and lets it search this repository: one sees both models load, the leases, and, two seconds
after the last of them, the models unload. With arguments it runs the search with those instead, for instance:
examples/run.sh --top 3 \"who may destroy a model\" include

With RESIDENCY_LLAMA_CPP=ON in the environment the search can take real models, --models FOLDER; CMAKE_PREFIX_PATH says where llama.cpp
is installed, else its sources are built.

CXX chooses the compiler (g++). What is missing on a Debian 12, a Ubuntu 24.04 or newer is installed, as root or with sudo.
Once it has been built, build/examples/examples/search --help lists the options of the search itself."

case ${1-} in
    -h | --help)
        echo "$usage"
        exit 0
        ;;
esac

here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. cmake/machine.sh

need g++ cmake ninja-build libboost libspdlog-dev nlohmann-json3-dev libcli11-dev
use_ccache

build=build/examples${CXX:+-$(basename "$CXX")}
cmake --preset release -B "$build" -DRESIDENCY_BUILD_TESTS=OFF ${RESIDENCY_LLAMA_CPP:+"-DRESIDENCY_LLAMA_CPP=$RESIDENCY_LLAMA_CPP"}
cmake --build "$build" -j "$(nproc)" --target search

search=$PWD/$build/examples/search
if [ $# -gt 0 ]; then
    cd "$here"
    exec "$search" "$@"
fi

# The repository without what has been built in it, and without this script, which would be the best answer to its own question.
repository=$build/repository
rm -rf "$repository"
mkdir -p "$repository"
tar -c --exclude=./examples/run.sh --exclude=./build --exclude=./out --exclude=./.cache --exclude=./.git . | tar -x -C "$repository"
cd "$repository"

query="when is an idle model unloaded"
printf '\n$ search --events --watch-idle --keep-alive 2s "%s" .\n\n' "$query"
exec "$search" --events --watch-idle --keep-alive 2s "$query" .

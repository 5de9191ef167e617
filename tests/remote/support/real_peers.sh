# Shared by llama_server.sh and ray_serve.sh. To be sourced, with bash, in the folder of the repository.

. cmake/machine.sh
need g++ cmake ninja-build git python3 libboost boost-json
use_ccache

models=${RESIDENCY_MODELS:-}
if [ -z "$models" ] && [ -d ../shared/models ]; then models=$(cd ../shared/models && pwd); fi
[ -e "$models/all-minilm-l6-v2-f16.gguf" ] || fail "RESIDENCY_MODELS must name the folder of the tests' models."

# Builds the program that asks, and sets `asks` to it.
build_program() {
    cmake --preset release -DRESIDENCY_REMOTE=ON
    cmake --build build/release --target remote_real_peers
    asks=$PWD/build/release/tests/remote/remote_real_peers
}

# Shared by examples/run.sh, tests/run.sh and .ci/run: sees that what they need is on this machine. To be sourced, with bash.

# What each Debian package is needed for, and how to see that it is there (it may come from elsewhere): a command, a header, or a library.
declare -A needed_for=(
    [g++]="command g++" [cmake]="command cmake" [ninja-build]="command ninja" [git]="command git" [python3]="command python3"
    [libboost]="header boost/version.hpp" [catch2]="header catch2" [libspdlog-dev]="header spdlog/spdlog.h"
    [nlohmann-json3-dev]="header nlohmann/json.hpp" [libcli11-dev]="header CLI/CLI.hpp" [npm]="command npm"
    [clang]="command clang++" [libclang-rt-14-dev]="sanitizers clang++" [clang-format]="command clang-format"
    [clang-tidy]="command clang-tidy" [doxygen]="command doxygen"
    [boost-json]="library boost_json"
    [libbenchmark-dev]="header benchmark/benchmark.h" [valgrind]="command valgrind"
)

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

compiles() {
    "${CXX:-g++}" -std=c++20 -fsyntax-only -x c++ - >/dev/null 2>&1 <<<"$1"
}

is_there() {
    local kind name
    read -r kind name <<<"${needed_for[$1]}"
    case $kind:$name in
        command:g++) command -v "${CXX:-g++}" >/dev/null ;;
        command:cmake) command -v cmake >/dev/null && at_least "$(cmake --version | head -n 1 | tr -dc 0-9.)" 3.25 ;;
        command:*) command -v "$name" >/dev/null ;;
        sanitizers:*) "$name" -fsanitize=thread -x c++ - -o /dev/null 2>/dev/null <<<"int main() {}" ;;
        header:boost/*) compiles $'#include <boost/version.hpp>\n#if BOOST_VERSION < 108100\n#error too old\n#endif' ;;
        header:catch2) compiles '#include <catch2/catch_test_macros.hpp>' || compiles '#include <catch2/catch.hpp>' ;;
        library:*) "${CXX:-g++}" -x c++ - "-l$name" -o /dev/null 2>/dev/null <<<"int main() {}" ;;
        header:*) compiles "#include <$name>" ;;
    esac
}

# Whether version $1 is $2 or newer.
at_least() {
    [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]
}

# Installs what is missing of the packages named, or says what is missing and why it cannot install it.
need() {
    local system="" version="" name="this system" package missing=()
    for package in "$@"; do
        is_there "$package" || missing+=("$package")
    done

    if [ -r /etc/os-release ]; then
        # shellcheck disable=SC1091
        system=$(. /etc/os-release && echo "${ID:-}")
        # shellcheck disable=SC1091
        version=$(. /etc/os-release && echo "${VERSION_ID:-}")
        # shellcheck disable=SC1091
        name=$(. /etc/os-release && echo "${PRETTY_NAME:-$ID}")
    fi
    # A Debian without a number is the one that is being made, and newer than all.
    if { [ "$system" = debian ] && [ -n "$version" ] && ! at_least "$version" 12; } ||
        { [ "$system" = ubuntu ] && ! at_least "$version" 24.04; }; then
        fail "$name is not supported: its compiler, CMake or Boost is too old." "Needed: Debian 12, Ubuntu 24.04, or newer."
    fi

    [ ${#missing[@]} -eq 0 ] && return

    # Debian 12's plain libboost-dev is Boost 1.74.
    local boost=libboost-dev json=libboost-json-dev
    [ "$system:$version" = debian:12 ] && boost=libboost1.81-dev json=libboost-json1.81-dev
    missing=("${missing[@]/#libboost/$boost}")
    missing=("${missing[@]/#boost-json/$json}")

    local as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    if [ "$system" != debian ] && [ "$system" != ubuntu ]; then
        fail "Missing here: ${missing[*]} (Debian's names; Boost 1.81, CMake 3.25 or newer)." "This script installs only on Debian and Ubuntu, and $name is neither."
    elif [ ${#as_root[@]} -gt 0 ] && ! command -v sudo >/dev/null; then
        fail "Missing here: ${missing[*]}." "Installing them takes root or sudo: apt-get install ${missing[*]}"
    fi
    echo "Installing: ${missing[*]}"
    # --no-remove: nothing that is on this machine already may have to go for it.
    if ! { "${as_root[@]}" apt-get update -q && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends --no-remove "${missing[@]}"; }; then
        fail "Could not install what is missing: ${missing[*]}."
    fi
}

# Compiling again what was compiled before is quick where ccache is.
use_ccache() {
    if command -v ccache >/dev/null; then
        export CMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER-ccache}
    fi
}

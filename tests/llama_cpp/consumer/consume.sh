#!/usr/bin/env bash
# Takes residency::llama_cpp into a consumer's project in one way, and runs its program.
#
# Usage: consume.sh WAY SOURCE WORK PREFIXES LLAMA_PREFIX [CMAKE OPTION...]
#   WAY           find_package     the installed package and its component
#                 add_subdirectory residency's sources, and an installed llama.cpp
#                 existing_target  residency's sources, and a target `llama` of the consumer's
#                 old_target       the same with a llama.cpp that is too old: it is said so
#                 sources          residency's sources and llama.cpp's, only configured, and so is residency by itself;
#                                  RESIDENCY_LLAMA_CPP_SOURCE names the sources of llama.cpp
#   SOURCE        residency's own folder
#   WORK          a folder for what is built; what was in it goes
#   PREFIXES      where packages are installed, besides the system
#   LLAMA_PREFIX  where llama.cpp is installed
set -euo pipefail

way=$1 source=$2 work=$3 prefixes=$4 llama=$5
shift 5
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() {
    echo "$way: $*" >&2
    exit 1
}

unset CXXFLAGS CPPFLAGS LDFLAGS
rm -rf "$work"
mkdir -p "$work"
configure=(cmake -S "$here/project" "-DWAY=$way" "-DRESIDENCY_SOURCE=$source" "-DLLAMA_PREFIX=$llama" "$@")

run() { # CMAKE OPTION...
    "${configure[@]}" -B "$work/build" "$@"
    cmake --build "$work/build"
    "$work/build/consumer" | grep -F 'unknown_model'
}

case $way in
    find_package)
        cmake -S "$source" -B "$work/residency" "$@" "-DCMAKE_PREFIX_PATH=$prefixes;$llama" \
            -DRESIDENCY_LLAMA_CPP=ON -DRESIDENCY_BUILD_TESTS=OFF -DRESIDENCY_BUILD_EXAMPLES=OFF
        cmake --install "$work/residency" --prefix "$work/staged"
        mv "$work/staged" "$work/prefix"
        if grep -rlF -e "$source" -e "$work" -e "$llama" "$work/prefix"; then
            fail "the installed files above name a folder of this machine"
        fi
        # Without a llama.cpp the component is not there, and that is said.
        if "${configure[@]}" -B "$work/without" "-DCMAKE_PREFIX_PATH=$work/prefix" -DCMAKE_DISABLE_FIND_PACKAGE_llama=ON >"$work/without.log" 2>&1; then
            fail "the component was found without llama.cpp"
        fi
        tr -s '[:space:]' ' ' <"$work/without.log" | grep -q 'component `llama_cpp` is not part of this installation, or a library that it needs is missing' ||
            fail "not said why: $(cat "$work/without.log")"
        run "-DCMAKE_PREFIX_PATH=$work/prefix;$prefixes;$llama"
        ;;

    add_subdirectory)
        run "-DCMAKE_PREFIX_PATH=$prefixes;$llama"
        ;;

    existing_target)
        run "-DCMAKE_PREFIX_PATH=$prefixes" -DCMAKE_DISABLE_FIND_PACKAGE_llama=ON
        ;;

    old_target)
        if "${configure[@]}" -B "$work/build" "-DCMAKE_PREFIX_PATH=$prefixes" >"$work/log" 2>&1; then
            fail "an old llama.cpp was taken"
        fi
        tr -s '[:space:]' ' ' <"$work/log" | grep -q 'the target `llama` is not a llama.cpp that residency::llama_cpp can use' ||
            fail "not said why: $(cat "$work/log")"
        ;;

    sources)
        if [ -z "${RESIDENCY_LLAMA_CPP_SOURCE:-}" ]; then
            echo "skipped: RESIDENCY_LLAMA_CPP_SOURCE names no folder of llama.cpp's sources"
            exit 77
        fi
        options=("-DCMAKE_PREFIX_PATH=$prefixes" -DCMAKE_DISABLE_FIND_PACKAGE_llama=ON
            "-DFETCHCONTENT_SOURCE_DIR_LLAMA_CPP=$RESIDENCY_LLAMA_CPP_SOURCE")
        # Whether the consumer decided or not.
        "${configure[@]}" -B "$work/undecided" "${options[@]}"
        "${configure[@]}" -B "$work/decided" "${options[@]}" -DCMAKE_BUILD_TYPE=Debug -DBUILD_SHARED_LIBS=ON
        flags=$work/undecided/_deps/llama_cpp-build/src/CMakeFiles/llama.dir/flags.make
        [ -e "$flags" ] || flags=$work/undecided/build.ninja
        grep -q -- 'FLAGS = .*-O[23]' "$flags" || fail "llama.cpp would be built without optimisation"
        # Twice the same: nothing is left in the cache that changes it.
        "${configure[@]}" -B "$work/undecided" "${options[@]}"
        # A target of the same build is nothing that our own package could export.
        cmake -S "$source" -B "$work/installable" "$@" "${options[@]}" -DRESIDENCY_LLAMA_CPP=ON -DRESIDENCY_BUILD_TESTS=OFF -DRESIDENCY_BUILD_EXAMPLES=OFF
        ;;

    *) fail "unknown way" ;;
esac

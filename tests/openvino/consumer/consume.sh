#!/usr/bin/env bash
# Takes residency::openvino into a consumer's project in one way, and runs its program.
#
# Usage: consume.sh WAY SOURCE WORK PREFIXES OPENVINO_DIR [CMAKE OPTION...]
#   WAY           find_package     the installed package and its component
#                 add_subdirectory residency's sources
#                 existing_target  residency's sources, and a target `openvino::runtime` of the consumer's
#   SOURCE        residency's own folder
#   WORK          a folder for what is built; what was in it goes
#   PREFIXES      where packages are installed, besides the system
#   OPENVINO_DIR  the folder of OpenVINOConfig.cmake
set -euo pipefail

way=$1 source=$2 work=$3 prefixes=$4 openvino=$5
shift 5
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() {
    echo "$way: $*" >&2
    exit 1
}

# The environment would say where OpenVINO is where it is not to be found.
unset CXXFLAGS CPPFLAGS LDFLAGS OpenVINO_DIR
rm -rf "$work"
mkdir -p "$work"
configure=(cmake -S "$here/project" "-DWAY=$way" "-DRESIDENCY_SOURCE=$source" "-DCONSUMED_OPENVINO=$openvino" "$@")

run() { # CMAKE OPTION...
    "${configure[@]}" -B "$work/build" "$@"
    cmake --build "$work/build"
    "$work/build/consumer" | grep -F 'unknown_model'
}

# refused PACKAGE WHY CMAKE OPTION...: without that package
refused() {
    local package=$1 why=$2
    shift 2
    rm -rf "$work/without"
    if "${configure[@]}" -B "$work/without" "$@" "-DCMAKE_DISABLE_FIND_PACKAGE_$package=ON" >"$work/without.log" 2>&1; then
        fail "it was taken without $package"
    fi
    tr -s '[:space:]' ' ' <"$work/without.log" | grep -qF "$why" || fail "not said why: $(cat "$work/without.log")"
}

case $way in
    find_package)
        cmake -S "$source" -B "$work/residency" "$@" "-DCMAKE_PREFIX_PATH=$prefixes" "-DOpenVINO_DIR=$openvino" \
            -DRESIDENCY_OPENVINO=ON -DRESIDENCY_BUILD_TESTS=OFF -DRESIDENCY_BUILD_EXAMPLES=OFF
        cmake --install "$work/residency" --prefix "$work/staged"
        mv "$work/staged" "$work/prefix"
        if grep -rlF -e "$source" -e "$work" -e "${openvino%/cmake}" "$work/prefix"; then
            fail "the installed files above name a folder of this machine"
        fi
        # Without OpenVINO or Boost.JSON the component is not there, and that is said.
        why='component `openvino` is not part of this installation, or a library that it needs is missing'
        refused OpenVINO "$why" "-DCMAKE_PREFIX_PATH=$work/prefix;$prefixes"
        refused boost_json "$why" "-DCMAKE_PREFIX_PATH=$work/prefix;$prefixes" "-DOpenVINO_DIR=$openvino"
        run "-DCMAKE_PREFIX_PATH=$work/prefix;$prefixes" "-DOpenVINO_DIR=$openvino"
        ;;

    add_subdirectory)
        refused OpenVINO 'no OpenVINO is installed; OpenVINO_DIR names the folder of its OpenVINOConfig.cmake' "-DCMAKE_PREFIX_PATH=$prefixes"
        refused boost_json 'residency::openvino need Boost.JSON' "-DCMAKE_PREFIX_PATH=$prefixes" "-DOpenVINO_DIR=$openvino"
        run "-DCMAKE_PREFIX_PATH=$prefixes" "-DOpenVINO_DIR=$openvino"
        ;;

    existing_target)
        run "-DCMAKE_PREFIX_PATH=$prefixes"
        ;;

    *) fail "unknown way" ;;
esac

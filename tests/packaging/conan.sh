#!/usr/bin/env bash
# Makes the Conan package from this checkout, without any registry, and runs its test package.
#
# Usage: conan.sh CONAN SOURCE WORK
#   CONAN    the program, Conan 2
#   SOURCE   residency's own folder
#   WORK     a folder for what is made; what was in it goes
set -euo pipefail

conan=$1 source=$2 work=$3
rm -rf "$work"
mkdir -p "$work/recipe"
export CONAN_HOME=$work/home

"$conan" profile detect
before=$(ls -R "$source/cmake/packaging")
create=("$conan" create "$source/cmake/packaging/conan" --no-remote -s compiler.cppstd=20 -c "tools.cmake.cmake_layout:test_folder=$work/test")
"${create[@]}"
# The component `remote`, if Boost.JSON is on this machine.
if "${CXX:-g++}" -x c++ - -lboost_json -o /dev/null 2>/dev/null <<<'int main() {}'; then
    "${create[@]}" -o 'residency/*:remote=True'
fi
# The component `openvino`, if the environment says where OpenVINO is.
if [ -n "${OpenVINO_DIR:-}" ]; then
    "${create[@]}" -o 'residency/*:openvino=True'
fi
# Nothing is written beside the sources.
diff <(echo "$before") <(ls -R "$source/cmake/packaging")

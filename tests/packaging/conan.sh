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
"$conan" create "$source/cmake/packaging/conan" --no-remote -s compiler.cppstd=20 -c "tools.cmake.cmake_layout:test_folder=$work/test"
# Nothing is written beside the sources.
diff <(echo "$before") <(ls -R "$source/cmake/packaging")

#!/usr/bin/env bash
# The compilers, standards and libraries that residency is said to work with, a cell a line with what ran.
set -euo pipefail

usage="Usage: tests/matrix.sh [--corners] [--only TEXT] [--install]

Builds a part of the tests in each cell of compilers x standards x Boost x build types x checks of the standard library, runs it, and prints a
line for each. What is not on this machine is \`not available\`, which is no failure.

  --corners    the cells that differ most from each other and from what tests/run.sh builds, and fewer tests in each: for every change
  --only TEXT  cells whose name contains TEXT; ' g++' is g++ and not clang++
  --install    installs what is missing first, where apt-get and pip have it: clang++ in its oldest and newest version, the newest Boost"

corners="" only="" install=""
while [ $# -gt 0 ]; do
    case $1 in
        --corners) corners=yes ;;
        --only) only=${2?"$usage"}; shift ;;
        --install) install=yes ;;
        -h | --help) echo "$usage"; exit 0 ;;
        *) echo "tests/matrix.sh: \`$1\` is no option of mine." "" "$usage" >&2; exit 2 ;;
    esac
    shift
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. cmake/machine.sh
use_ccache

# Where to find Boost's newest headers: a package for Python brings them.
newest_boost=1.90.0
boost_folder=${XDG_CACHE_HOME:-$HOME/.cache}/residency/boost-$newest_boost
newest_clang=22

if [ -n "$install" ]; then
    needed_for+=([clang]="command clang++" ["clang-$newest_clang"]="command clang++-$newest_clang" [python3-pip]="command pip3")
    need g++ cmake ninja-build git python3 libboost boost-json catch2 libspdlog-dev nlohmann-json3-dev libcli11-dev
    # Whatever cannot be had is 'not available' below.
    for what in clang "clang-$newest_clang" python3-pip; do
        (need "$what") || true
    done
    if [ ! -e "$boost_folder/cmeel.prefix/include/boost/version.hpp" ]; then
        wheel=$(mktemp -d)
        if python3 -m pip download -q --no-deps -d "$wheel" "cmeel-boost==$newest_boost"; then
            mkdir -p "$boost_folder"
            python3 -m zipfile -e "$wheel"/cmeel_boost-*.whl "$boost_folder"
        fi
        rm -rf "$wheel"
    fi
fi

some="core_slot_scheduler_test behaviour_lease_test behaviour_idle_test model_manager_test tokens_test"
all="$some core_slot_scheduler_hard_cases_test core_slot_scheduler_memory_test behaviour_load_test behaviour_switch_test behaviour_admission_test
     behaviour_errors_test behaviour_shutdown_test behaviour_language_test behaviour_handlers_test lease_test model_slot_test
     associations_test error_test backend_test lexical_test"
# Where Boost.JSON is built: the newest Boost is headers alone.
remote="remote_dialects_test remote_embedding_test remote_hostile_answers_test"

jobs=$(nproc)
width=58

# cell COMPILER STANDARD BOOST BUILD_TYPE CHECKS: prints its line, and fails if the cell does.
cell() {
    local compiler=$1 standard=$2 boost=$3 type=$4 checks=$5 name="$1 c++$2 boost-$3 $4${5:+ $5}"
    [[ " $name" == *"$only"* ]] || return 0
    local line
    line=$(printf "%-${width}s" "$name")
    if ! command -v "$compiler" >/dev/null; then
        echo "$line not available: no $compiler"
        return 0
    fi
    local tests=() programs=(test_programs)
    # shellcheck disable=SC2206
    [ -n "$corners" ] && tests=($some) || tests=($all)
    # Debug information would be a third of what each takes.
    local options=(-G Ninja "-DCMAKE_CXX_COMPILER=$compiler" "-DCMAKE_CXX_STANDARD=$standard" "-DCMAKE_BUILD_TYPE=$type"
        -DCMAKE_CXX_FLAGS_DEBUG= -DRESIDENCY_BUILD_EXAMPLES=OFF "-DRESIDENCY_TESTS_ONLY=$(IFS=';'; echo "${tests[*]}")")
    [ -z "$checks" ] || options+=("-DCMAKE_CXX_FLAGS=-D$checks")
    if [ "$boost" = newest ]; then
        if [ ! -e "$boost_folder/cmeel.prefix/include/boost/version.hpp" ]; then
            echo "$line not available: no Boost $newest_boost in $boost_folder (--install)"
            return 0
        fi
        # Its headers alone.
        options+=(-DBoost_NO_BOOST_CMAKE=ON -DBoost_NO_SYSTEM_PATHS=ON "-DBOOST_ROOT=$boost_folder/cmeel.prefix")
    fi
    if [ -z "$corners" ]; then
        tests+=(simulation)
        programs+=(simulate)
        # shellcheck disable=SC2206
        [ "$boost" = newest ] || { tests+=($remote); programs+=(remote_tests); }
    fi
    local build=build/matrix/${name//[ +]/_} log
    mkdir -p "$build"
    log=$build/log
    local pattern
    pattern="^($(IFS='|'; echo "${tests[*]}"))(\$|: |\\.)"
    if cmake -S . -B "$build" "${options[@]}" >"$log" 2>&1 && cmake --build "$build" -j "$jobs" --target "${programs[@]}" >>"$log" 2>&1 &&
        ctest --test-dir "$build" --no-tests=error -j "$jobs" -R "$pattern" >>"$log" 2>&1; then
        echo "$line $(grep -E '^[0-9]+% tests passed' "$log" | tail -n 1)"
    else
        echo "$line FAILED: the end of $log is
$(tail -n 25 "$log" | sed 's/^/    /')"
        return 1
    fi
}

failed=0
compilers=(g++ clang++ "clang++-$newest_clang")
if [ -n "$corners" ]; then
    # All at once, as each is one long compilation or two.
    jobs=$(((jobs + 2) / 3))
    cell g++ 23 newest Release "" & cells=($!)
    cell clang++ 20 system Debug _GLIBCXX_DEBUG & cells+=($!)
    cell "clang++-$newest_clang" 23 newest Debug _GLIBCXX_ASSERTIONS & cells+=($!)
    for each in "${cells[@]}"; do
        wait "$each" || failed=1
    done
else
    for compiler in "${compilers[@]}"; do
        for standard in 20 23; do
            for boost in system newest; do
                for type in Debug Release; do
                    cell "$compiler" "$standard" "$boost" "$type" "" || failed=1
                done
            done
        done
        cell "$compiler" 20 system Debug _GLIBCXX_ASSERTIONS || failed=1
        cell "$compiler" 20 system Debug _GLIBCXX_DEBUG || failed=1
    done
fi

# Catch2 is the one that find_package finds: both versions cannot be installed at once from Debian's packages.
printf "%-${width}s " "Catch2"
grep -hE '^Catch2_DIR:' build/matrix/*/CMakeCache.txt 2>/dev/null | sort -u | sed 's/.*=/found in /' || echo "no cell was built"
exit "$failed"

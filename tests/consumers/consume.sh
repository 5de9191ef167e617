#!/usr/bin/env bash
# Builds and runs one of the projects beside this script, which takes in residency in one way.
#
# Usage: consume.sh WAY SOURCE WORK PREFIXES [CMAKE OPTION...]
#   WAY       add_subdirectory, fetch_content, find_package; or boost_sources: the first, where no Boost is installed
#   SOURCE    residency's own folder
#   WORK      a folder for what is built; what was in it goes
#   PREFIXES  where packages are installed, besides the system
set -euo pipefail

way=$1 source=$2 work=$3 prefixes=$4
shift 4
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() {
    echo "$way: $*" >&2
    exit 1
}

# Flags of the environment would look like flags of ours.
unset CXXFLAGS CPPFLAGS LDFLAGS

rm -rf "$work"
mkdir -p "$work"

project=$here/$way
options=("-DCMAKE_PREFIX_PATH=$prefixes")
case $way in
    add_subdirectory)
        options+=("-DCONSUMED_SOURCE=$source")
        ;;

    boost_sources)
        project=$here/add_subdirectory
        options+=("-DCONSUMED_SOURCE=$source" -DCMAKE_DISABLE_FIND_PACKAGE_Boost=ON "-DFETCHCONTENT_SOURCE_DIR_BOOST=$here/boost_sources")
        ;;

    fetch_content)
        # A checkout that belongs to another user (in a container, say) may be cloned too.
        printf '[safe]\n\tdirectory = *\n[user]\n\tname = consumer\n\temail = consumer@localhost\n' >"$work/gitconfig"
        export GIT_CONFIG_GLOBAL=$work/gitconfig
        if [ "$(git -C "$source" rev-parse --show-toplevel 2>/dev/null)" = "$source" ]; then
            # What is committed: a file that was forgotten is missing here.
            git clone -q --bare "file://$source" "$work/residency.git"
        else
            mkdir "$work/copy"
            cp -r "$source/CMakeLists.txt" "$source/LICENSE" "$source/cmake" "$source/include" "$work/copy"
            git -C "$work/copy" init -q
            git -C "$work/copy" add .
            git -C "$work/copy" commit -q -m "What was unpacked"
            git clone -q --bare "file://$work/copy" "$work/residency.git"
        fi
        options+=("-DCONSUMED_REPOSITORY=file://$work/residency.git" "-DCONSUMED_TAG=$(git -C "$work/residency.git" rev-parse HEAD)")
        ;;

    find_package)
        cmake -S "$source" -B "$work/residency" "$@" "-DCMAKE_PREFIX_PATH=$prefixes" -DRESIDENCY_BUILD_TESTS=OFF -DRESIDENCY_BUILD_EXAMPLES=OFF
        cmake --install "$work/residency" --prefix "$work/staged"
        # The package works wherever it is put.
        mv "$work/staged" "$work/prefix"
        if grep -rlF -e "$source" -e "$work" "$work/prefix"; then
            fail "the installed files above name a folder of this machine"
        fi
        options+=("-DCMAKE_PREFIX_PATH=$work/prefix;$prefixes" "-DCONSUMED_HEADERS=$source/include")
        ;;

    *) fail "unknown way" ;;
esac

cmake -S "$project" -B "$work/build" "$@" "${options[@]}" -DCMAKE_EXPORT_COMPILE_COMMANDS=ON
cmake --build "$work/build"
# Its one test, and none of ours.
ctest --test-dir "$work/build" --output-on-failure --no-tests=error
listed=$(ctest --test-dir "$work/build" -N)
grep -qx 'Total Tests: 1' <<<"$listed" || fail "the project has tests that it did not make: $listed"

# careless.cpp is compiled as the project says: without any warning, definition or sanitizer.
command=$(grep '"command".*careless.cpp' "$work/build/compile_commands.json") || fail "careless.cpp was not compiled"
if grep -qE -- ' -(W|D|fsanitize|O)' <<<"$command"; then
    fail "flags that the project did not ask for: $command"
fi

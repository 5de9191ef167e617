#!/usr/bin/env bash
# The stress in its full dose: every variant that is built, one after the other, with models of both kinds, a line each.
set -euo pipefail

usage="Usage: tests/stress/full.sh [SECONDS [BUILD_FOLDER]]

Builds the stress programs in BUILD_FOLDER (build/debug, as tests/run.sh makes it), runs each for SECONDS (600) with
models that answer synchronously and for as long with others, prints what each run has done in one line, and all that one which fails has
to say. Ends with 1 if one failed, with 2 if there is none."

case ${1-} in
    -h | --help)
        echo "$usage"
        exit 0
        ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seconds=${1-600}
build=${2-build/debug}

if ! [[ $seconds =~ ^[1-9][0-9]*$ ]] || [ $# -gt 2 ]; then
    printf '%s\n' "tests/stress/full.sh: \`$*\` is not a number of seconds and a build folder." "" "$usage" >&2
    exit 2
fi

[ ! -f "$build/CMakeCache.txt" ] || cmake --build "$build" --target stress_programs

programs=()
for program in "$build"/tests/stress/stress_* "$build"/tests/stress/clang/stress_*; do
    if [ -f "$program" ] && [ -x "$program" ]; then programs+=("$program"); fi
done
if [ ${#programs[@]} -eq 0 ]; then
    echo "tests/stress/full.sh: no stress program in $build; tests/run.sh -R stress builds them." >&2
    exit 2
fi

# ThreadSanitizer of g++ 12 and clang 14 does not start where addresses are randomised by more than 28 bits.
run=()
if [ "$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 0)" -gt 28 ] && setarch -R true 2>/dev/null; then
    run=(setarch -R)
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
result=0
for program in "${programs[@]}"; do
    for models in synchronous asynchronous; do
        if "${run[@]}" "$program" --models $models --seconds "$seconds" >"$log" 2>&1; then
            echo "$(basename "$program"), $models: $(tail -n 1 "$log")"
        else
            echo "$(basename "$program"), $models: FAILED"
            cat "$log"
            result=1
        fi
    done
done
exit $result

#!/usr/bin/env bash
# The full doses of what the tests run in small ones.
set -euo pipefail

usage="Usage: tests/prove.sh PART...

  states      every state of the scheduler within the explorer's full bounds: half an hour on two cores
  simulation  a million managers on the virtual clock: two minutes
  stress      real threads, 10 minutes for each variant: two hours
  fuzzing     an hour of random histories; what it finds stays in build/debug/tests/fuzz/found
  mutants     300 faults, and the classical ones, put into the library one at a time: an hour and more
  all         one after the other

Builds what they need, as tests/run.sh does, and runs them; ends with the first that fails, and what it prints repeats the failure.
tests/README.md says what each proves, and what not."

case ${1--h} in
    -h | --help)
        echo "$usage"
        exit 0
        ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. cmake/machine.sh
parts=("$@")
[ "$*" != all ] || parts=(states simulation stress fuzzing mutants)
for part in "${parts[@]}"; do
    case $part in
        states | simulation | stress | fuzzing | mutants) ;;
        *)
            printf '%s\n' "tests/prove.sh: \`$part\` is none of its parts." "" "$usage" >&2
            exit 2
            ;;
    esac
done

build=build/debug
# Builds everything, and sees that the small doses hold.
tests/run.sh -R '^(proof|simulation|fuzz\.scheduler_corpus)'
for part in "${parts[@]}"; do
    echo "== $part"
    case $part in
        states)
            "$build/tests/ledger_explorer"
            "$build/tests/budget_explorer"
            "$build/tests/explorer" --dose full --jobs "$(nproc)"
            ;;
        simulation) "$build/tests/simulate" --seeds 1000000 ;;
        stress) tests/stress/full.sh ;;
        fuzzing)
            fuzzer=$build/tests/fuzz/clang/scheduler_fuzzer
            [ -x "$fuzzer" ] || fail "tests/prove.sh: fuzzing needs clang++ with its sanitizers (libclang-rt-14-dev)."
            "$fuzzer" -max_total_time=3600 -max_len=512 -print_final_stats=1 -artifact_prefix="$build/tests/fuzz/" \
                "$build/tests/fuzz/found" tests/fuzz/corpus/scheduler
            ;;
        mutants) tests/mutation/mutate.py ;;
    esac
done

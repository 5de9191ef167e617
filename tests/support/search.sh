# Shared by the tests of examples/search: a room for its files, and checks of what it prints. To be sourced, with bash, with the path of
# search as the first argument. A test ends with `finish`.

if [ $# -lt 1 ] || [ ! -x "$1" ]; then
    echo "usage: ${0##*/} PATH_OF_SEARCH" >&2
    exit 2
fi

room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
chmod 755 "$room"
# Where a user without rights can run it, too, with the libraries that are not the system's.
cp "$1" "$room/search"
mkdir "$room/lib"
ldd "$1" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | grep -v -e '^/lib' -e '^/usr/lib' | xargs -r cp -t "$room/lib"
export LD_LIBRARY_PATH=$room/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
search=$room/search
failures=0

# check WHAT COMMAND...: the command succeeds.
check() {
    local what=$1
    shift
    if "$@" > "$room/check.log" 2>&1; then
        echo "ok      $what"
    else
        echo "FAILED  $what"
        sed 's/^/        /' "$room/check.log"
        for stream in out err; do
            [ -s "$room/$stream" ] && sed "s/^/        $stream: /" "$room/$stream" | head -n 40
        done
        failures=$((failures + 1))
    fi
}

# run ARGUMENTS...: leaves stdout in out, stderr in err and the exit code in $code.
run() {
    "$search" "$@" > "$room/out" 2> "$room/err" < /dev/null
    code=$?
}

ends_with() { test "$code" -eq "$1"; }
says() { grep -q -e "$2" "$room/$1"; }
is_silent() { test ! -s "$room/$1"; }
is_one_sentence() { test "$(wc -l < "$room/err")" -eq 1 && grep -q '^search: ' "$room/err"; }
# json EXPRESSION: what Python finds true of the document `j` on stdout.
json() { python3 -c 'import json, sys; j = json.load(open(sys.argv[1], encoding="utf-8")); assert eval(sys.argv[2]), j' "$room/out" "$1"; }

# refuses WHAT WORD ARGUMENTS...
refuses() {
    local what=$1 word=$2
    shift 2
    run "$@"
    check "$what: exit code 2" ends_with 2
    check "$what: one sentence on stderr" is_one_sentence
    check "$what: it says what" says err "$word"
    check "$what: nothing on stdout" is_silent out
}
finish() {
    if [ "$failures" -ne 0 ]; then
        echo "$failures checks failed"
        exit 1
    fi
    echo "all checks passed"
}

#!/usr/bin/env bash
# Runs examples/search as a user would and checks what it prints and how it ends.
#
# Usage: search_test.sh PATH_OF_SEARCH
#
# Nothing here waits for a time to pass: where the program has to be somewhere, its own output says that it is.
set -u

. "$(dirname "$0")/support/search.sh"

# ---- a folder to search

folder=$room/folder
mkdir -p "$folder/deep/er" "$folder/.git" "$room/outside"
cat > "$folder/bread.txt" <<'END'
How to bake bread.

Knead the dough until it is smooth, let it rise for an hour,
and bake the loaf until its crust is brown.
END
cat > "$folder/deep/er/models.md" <<'END'
# Models

A model is loaded on first use.
An idle model is unloaded after its keep-alive, and its memory given back.
END
printf 'Die Straße nach München ist gesperrt.\r\n' > "$folder/german.txt"
printf 'sailing \xff\xfe boats \x1b[31m on \x80 the lake\n' > "$folder/broken.txt"
printf 'no line feed at the end: penguin' > "$folder/last.txt"
: > "$folder/empty.txt"
printf 'bread\0bread' > "$folder/binary.bin"
printf 'bread in a repository\n' > "$folder/.git/description"
printf 'bread outside\n' > "$room/outside/bread.txt"
ln -s "$room/outside/bread.txt" "$folder/link-to-file"
ln -s "$room/outside" "$folder/link-to-folder"
ln -s bread.txt "$folder/link-within"
ln -s .. "$folder/deep/loop"
ln -s none "$folder/dangling"
mkfifo "$folder/pipe"
for number in $(seq 1 40); do
    printf 'Note %s: bread and water, number %s.\n' "$number" "$((number % 4))" > "$folder/note$number.txt"
done

# ---- help and usage

run --help
check "--help ends with 0" ends_with 0
check "--help is on stdout" is_silent err
for option in --top --threads --keep-alive --memory --models --embedding --reranker --json --events --watch-idle --help; do
    check "--help names $option" says out "$option"
done

mkdir "$room/no-text"
printf '\0' > "$room/no-text/binary"
refuses "a missing folder" "$room/none" bread "$room/none"
refuses "a file for a folder" "bread.txt" bread "$folder/bread.txt"
refuses "a folder without text" "holds no text" bread "$room/no-text"
refuses "an empty query" "query is empty" "" "$folder"
refuses "a blank query" "query is empty" "  " "$folder"
refuses "no query" "QUERY"
refuses "an unknown option" "--bogus" bread "$folder" --bogus
refuses "one argument too many" "extra" bread "$folder" extra
refuses "--top 0" "--top" bread "$folder" --top 0
refuses "--threads 0" "--threads" bread "$folder" --threads 0
refuses "--memory 0" "--memory" bread "$folder" --memory 0
refuses "--memory that is no size" "--memory" bread "$folder" --memory much
refuses "--threads that is no number" "--threads" bread "$folder" --threads many
refuses "a keep-alive without a unit" "keep-alive" bread "$folder" --keep-alive 30
refuses "a negative keep-alive" "keep-alive" bread "$folder" --keep-alive=-1s
refuses "a keep-alive past all numbers" "keep-alive" bread "$folder" --keep-alive 99999999999999999999s
refuses "waiting for ever" "--watch-idle" bread "$folder" --watch-idle --keep-alive forever
refuses "a model without a name" "@f32" bread "$folder" --embedding @f32
refuses "models without llama.cpp, or that are not there" "RESIDENCY_LLAMA_CPP\\|holds no NAME-QUANT.gguf" bread "$folder" --models "$room/outside"
refuses "an empty folder of models" "--models" bread "$folder" --models ""
refuses "two rerankers for three searches" "one for each" bread "$folder" --embedding a --embedding b --embedding c --reranker d --reranker e
refuses "another quantization" "q8_0" bread "$folder" --embedding lexical@q8_0
refuses "another quantization for the reranker" "q8_0" bread "$folder" --reranker bm25@q8_0

# ---- results

run "when is an idle model unloaded" "$folder"
check "it ends with 0" ends_with 0
check "the best result comes first, with its line" says out "^1  $folder/deep/er/models.md:4  score [0-9.]*, similarity [0-9.]*$"
check "the matching line is shown with its number" says out "^ *4  An idle model is unloaded"
check "it says what it searched" says out "^Searched 45 passages of 46 text files"
check "it says what it skipped" says out "^Skipped 1 binary file, 1 unreadable, 2 links out of the folder, 2 links within it, 1 version control folder, 1 special file"
check "both slots' status: loads" test "$(grep -c 'loads     1 started, 1 ready' "$room/out")" -eq 2
check "both slots' status: leases" test "$(grep -c 'leases    [0-9]* granted, at most [0-9]* at once' "$room/out")" -eq 2
check "both slots' status: generation and why it was unloaded" test "$(grep -c 'generation 1, was unloaded: shutdown' "$room/out")" -eq 2
check "no progress bar where there is no terminal" is_silent err

run "STRASSE MÜNCHEN" "$folder" --top 1
check "letters beyond ASCII are found in either case" says out "^1  $folder/german.txt:1 "
check "--top 1 prints one result" test "$(grep -c '^[0-9]*  .*score' "$room/out")" -eq 1
run "penguin" "$folder" --top 1
check "the last line need not end" says out "^1  $folder/last.txt:1 "
run "sailing boats" "$folder" --top 1
check "a file that is not UTF-8 is searched" says out "^1  $folder/broken.txt:1 "
check "nothing in a file steers the terminal" bash -c "! grep -q \$'\\x1b' '$room/out'"
run "???" "$folder"
check "nothing found: exit code 1" ends_with 1
check "nothing found: it says so" is_one_sentence
run "bread" "$folder" --top 100
check "nothing outside the folder is read, and nothing twice" bash -c "! grep -qE 'outside|link|loop|\.git' <(grep score '$room/out')"
(cd "$folder" && "$search" penguin --top 1) > "$room/out" 2> "$room/err"
check "the current folder is searched by default" says out "^1  last.txt:1 "

# ---- JSON

run "bread" "$folder" --json --top 3
check "--json ends with 0" ends_with 0
check "--json: three results of --top 3" json 'len(j["results"]) == 3'
check "--json: file, line, score and lines" json 'all(r["file"] and r["line"] > 0 and r["score"] > 0 and r["lines"] for r in j["results"])'
check "--json: best first" json '[r["score"] for r in j["results"]] == sorted((r["score"] for r in j["results"]), reverse=True)'
check "--json: what was skipped" json 'j["skipped"] == {"binary": 1, "unreadable": 1, "links_outside": 2, "links_inside": 2, "version_control": 1, "not_files": 1}'
check "--json: each model was loaded once and unloaded once" json '[(m["loads"], [u["reason"] for u in m["unloads"]]) for m in j["models"]] == [(1, ["shutdown"])] * 2'
run "sailing" "$folder" --json
check "--json is valid though the file is not UTF-8" json 'j["results"][0]["file"].endswith("broken.txt")'
run "???" "$folder" --json
check "--json is valid though nothing is found" json 'j["results"] == []'

run bread "$folder" --json --top 3 --embedding lexical@f32 --embedding lexical --watch-idle --keep-alive 0
check "two searches at once: exit code 0" ends_with 0
check "two searches at once: each has its results" json '[r["embedding"] for r in j["results"]] == ["lexical@f32"] * 3 + ["lexical"] * 3'
check "two searches at once: they are the same" json '[(r["file"], r["score"]) for r in j["results"][:3]] == [(r["file"], r["score"]) for r in j["results"][3:]]'
check "two searches at once: the files are counted once" json 'j["searched"]["searches"] == 2 and j["searched"]["files"] == 46'
check "two searches at once: models of both keys were loaded" json '{u["model"] for u in j["models"][0]["unloads"]} == {"lexical@f32", "lexical"}'
run bread "$folder" --top 3 --embedding lexical@f32 --embedding lexical
check "two searches at once: results under the models' names" test "$(grep -c '^lexical.*, reranked by bm25@f32:$' "$room/out")" -eq 2
check "two searches at once: places are counted anew" test "$(grep -c '^1  ' "$room/out")" -eq 2

run bread "$folder" --json --memory 1MB
check "--memory 1MB: the built-in models fit" json 'j["results"]'
run bread "$folder" --memory 100
check "--memory 100: exit code 1" ends_with 1
check "--memory 100: it says why" says err insufficient_memory
run bread "$folder" --json --threads 3
check "--threads 3: three threads" json 'j["searched"]["threads"] == 3'
if processor=$(taskset -cp $$ 2> "$room/check.log" | sed 's/.*: *\([0-9]*\).*/\1/') && [ -n "$processor" ]; then
    taskset -c "$processor" "$search" bread "$folder" --json > "$room/out" 2> "$room/err" < /dev/null
    check "by default as many threads as processors that may be used" json 'j["searched"]["threads"] == 1'
else
    echo "skipped the default of --threads: there is no taskset"
fi

results=
for threads in 1 2 3 7 32; do
    run "number 3 bread and water" "$folder" --json --top 45 --threads "$threads"
    now=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1], encoding="utf-8"))["results"])' "$room/out")
    results=${results:-$now}
    check "--threads $threads gives the same results in the same order" test -n "$now" -a "$now" = "$results"
done

# ---- long lines, many lines, large files

mkdir "$room/long"
python3 - "$room/long" <<'END'
import sys
folder = sys.argv[1]
with open(folder + "/line.txt", "w") as file:
    file.write("ordinary words " * 20000 + "walrus " + "ordinary words " * 20000 + "\nsecond line with a narwhal\n")
with open(folder + "/unbroken.txt", "w", encoding="utf-8") as file:
    file.write("ä" * 100000 + "\n")
with open(folder + "/lines.txt", "w") as file:
    for number in range(1, 20001):
        file.write("the heron\n" if number == 12345 else "\n" if number % 10 == 0 else f"line number {number}\n")
END
run walrus "$room/long" --top 1
check "a line of 600,000 bytes is cut, and found" says out "line.txt:1 "
run narwhal "$room/long" --top 1
check "line numbers go on behind a line that was cut" says out "line.txt:2 "
run heron "$room/long" --top 1
check "a line far down has its number" says out "lines.txt:12345 "

# ---- events and idleness

run bread "$folder" --events
check "--events: loads and unloads are lines on stderr" test "$(grep -cE 'load_started|ready|unload_started|unloaded' "$room/err")" -ge 8
run bread "$folder" --watch-idle --keep-alive 50ms
check "--watch-idle ends with 0" ends_with 0
for slot in embedding reranker; do # On a slow machine more than once each.
    check "--watch-idle: the $slot model was unloaded because it was idle" says out "^$slot: .* was unloaded: idle"
    check "--watch-idle: one sees it happen" says err "$slot: unloaded .*(idle)"
done
check "--watch-idle: none was left for the shutdown" bash -c "! grep -q 'was unloaded: shutdown' '$room/out'"
run bread "$folder" --watch-idle --keep-alive 0 --json
check "--keep-alive 0 unloads as soon as a model is free" json 'all(len(m["unloads"]) == m["loads"] >= 1 and {u["reason"] for u in m["unloads"]} == {"idle"} for m in j["models"])'

# ---- a file that may not be read

if [ "$(id -u)" -ne 0 ]; then
    as_user=()
elif command -v setpriv > /dev/null; then
    as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
else
    as_user=(false)
    echo "skipped a file without permission: root can read it, and there is no setpriv"
fi
if [ "${as_user[*]:-}" != false ]; then
    printf 'bread without permission to read\n' > "$folder/secret.txt"
    mkdir "$folder/locked"
    chmod 000 "$folder/secret.txt" "$folder/locked"
    ${as_user[@]+"${as_user[@]}"} "$search" bread "$folder" --json > "$room/out" 2> "$room/err"
    code=$?
    chmod 755 "$folder/secret.txt" "$folder/locked"
    rm -r "$folder/secret.txt" "$folder/locked"
    check "a file and a folder without permission: exit code 0" ends_with 0
    check "a file and a folder without permission are counted" json 'j["skipped"]["unreadable"] == 3'
fi

# ---- Ctrl-C

# interrupt SIGNAL WORD ARGUMENTS...: sends the signal once WORD is on stderr.
interrupt() {
    local signal=$1 word=$2 line
    shift 2
    rm -f "$room/talk"
    mkfifo "$room/talk"
    "$search" "$@" > "$room/out" 2> "$room/talk" < /dev/null &
    local process=$!
    {
        while read -r line; do
            printf '%s\n' "$line"
            case $line in *"$word"*) kill -s "$signal" "$process" ;; esac
        done < "$room/talk"
    } > "$room/err"
    wait "$process"
    code=$?
}
interrupt INT "waiting until both" bread "$folder" --watch-idle --keep-alive 1h
check "Ctrl-C while waiting: exit code 130" ends_with 130
check "Ctrl-C while waiting: the models were unloaded" test "$(grep -c 'was unloaded: shutdown' "$room/out")" -eq 2
interrupt TERM "waiting until both" bread "$folder" --watch-idle --keep-alive 1h
check "SIGTERM while waiting: exit code 143" ends_with 143

# Enough text for the signal to come long before its end.
mkdir "$room/large"
python3 -c 'import sys; open(sys.argv[1], "w").write("the quick brown fox jumps over the lazy dog again and again\n" * 800000)' "$room/large/text"
interrupt INT "ready lexical" fox "$room/large" --events
check "Ctrl-C while searching: exit code 130" ends_with 130
check "Ctrl-C while searching: it did not go on to the end" bash -c "! grep -q Searched '$room/out'"
check "Ctrl-C while searching: the model was unloaded" says out "was unloaded: shutdown"
check "Ctrl-C while searching: no lease was left" bash -c "! grep -q 'left:' '$room/err'"

# ---- a terminal

python3 - "$search" "$folder" > "$room/out" 2> "$room/err" <<'END'
import os, pty, subprocess, sys
ours, theirs = pty.openpty()
process = subprocess.Popen([sys.argv[1], "bread", sys.argv[2]], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs)
os.close(theirs)
seen = b""
try:
    while piece := os.read(ours, 4096):
        seen += piece
except OSError:  # Linux's way to say that the other end is closed.
    pass
sys.stdout.write(seen.decode(errors="replace"))
sys.exit(process.wait())
END
code=$?
check "on a terminal: exit code 0" ends_with 0
check "on a terminal: a progress bar with rate and time left" says out "%.* MB/s, .* s left"

finish

#!/usr/bin/env bash
# Runs examples/search with tables of models, some computed here and some by an engine on loopback. With RESIDENCY_OPENVINO_MODELS also
# with an OpenVINO model beside it, if the program was built with OpenVINO.
#
# Usage: search_table_test.sh PATH_OF_SEARCH
set -u
. "$(dirname "$0")/support/search.sh"
# Not the copy: OpenVINO looks for its plugins beside its library.
search=$1
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH#"$room"/lib}

folder=$room/folder
mkdir "$folder"
printf 'Knead the dough until it is smooth, let it rise for an hour, and bake the loaf until its crust is brown.\n' > "$folder/bread.txt"
printf 'The ship left the harbour at dawn and sailed along the coast with all its cargo.\n' > "$folder/ship.txt"
printf 'Interest rates rose again, and the shares of most banks fell.\n' > "$folder/money.txt"

# table LINES: makes it $table.
table=$room/table.json
table() { printf '%s\n' "$1" > "$table"; }

# ---- bad tables

refused() {
    table "$2"
    refuses "a table $1" "$3" loaf "$folder" --models "$table"
}
refuses "a table that is not there" "none.json' is not there" loaf "$folder" --models "$room/none.json"
refused "that is no JSON" '[{' "cannot be read as JSON"
refused "that is no list" '{"keys": "*"}' "is no list of lines"
refused "without lines" '[]' "is no list of lines"
refused "with a line that is no object" '[7]' "line 1 is no object"
refused "with a line without keys" '[{"built_in": true}]' "line 1 has no 'keys'"
refused "with a line without an engine" '[{"keys": "a", "built_in": true}, {"keys": "*"}]' "line 2 has none of built_in, llama_cpp, openvino and remote"
refused "with two engines in a line" '[{"keys": "*", "built_in": true, "remote": "http://127.0.0.1:1"}]' "line 1 has more than one of"
refused "with what no line has" '[{"keys": "*", "built_in": true, "colour": "red"}]' "line 1 has a 'colour', which no line has"
refused "with a number for a text" '[{"keys": 7, "built_in": true}]' "line 1 has a 'keys' that is no text"
refused "with a folder of no name" '[{"keys": "*", "llama_cpp": ""}]' "line 1 has a 'llama_cpp' that is no text, or empty"
refused "with a built_in that is false" '[{"keys": "*", "built_in": false}]' "line 1 has a built_in that is not true"
refused "with a dialect of a local line" '[{"keys": "*", "built_in": true, "dialect": "tei"}]' "line 1 has a 'dialect' and is not remote"
refused "with a dialect that there is not" '[{"keys": "*", "remote": "http://127.0.0.1:1", "dialect": "latin"}]' "dialect 'latin'; there are openai, tei and cohere"
refused "with a variable that is not set" '[{"keys": "*", "remote": "http://127.0.0.1:1", "api_key_variable": "NOT_SET_ANYWHERE"}]' "'NOT_SET_ANYWHERE', which is not set"
refused "without the models of the search" '[{"keys": "a*", "built_in": true}]' "no model 'lexical@f32' for --embedding in '$table'"
table '[{"keys": "*", "built_in": true}]'
run loaf "$folder" --models "$table"
check "a table of built-in models: exit code 0" ends_with 0
check "a table of built-in models: found" says out "^1  $folder/bread.txt:1"

table '[{"keys": "*", "remote": "ftp://127.0.0.1"}]'
run loaf "$folder" --models "$table"
if says err "RESIDENCY_REMOTE=ON"; then
    echo "skipped the rest: this search was built without residency::remote"
    finish
    exit
fi
refused "with a URL that is none" '[{"keys": "*", "remote": "ftp://127.0.0.1"}]' "models of '\*' cannot be had: .*http"
refused "with a URL that is a number" '[{"keys": "*", "remote": [1]}]' "models of '\*' cannot be had: .*http"
refused "with no URL" '[{"keys": "*", "remote": []}]' "models of '\*' cannot be had: .*at least one endpoint"

# ---- an engine elsewhere

export FAKE_KEY=fake-secret
exec 3< <(exec python3 "$(dirname "$0")/support/fake_engine.py" "$room/asked")
engine=$!
trap 'kill "$engine"; rm -rf "$room"' EXIT
read -r port <&3 || exit 1
asked() { grep -q "^$1\$" "$room/asked"; }
url=http://127.0.0.1:$port/v1

table '[{"keys": "lexical", "built_in": true}, {"keys": "bm25@*", "built_in": true},
        {"keys": "far-*", "remote": ["'"$url"'"], "name": "org/far", "api_key_variable": "FAKE_KEY"},
        {"keys": "none", "remote": "'"$url"'", "api_key_variable": "FAKE_KEY"}]'
run "bake the loaf" "$folder" --json --models "$table" --embedding far-embedder --reranker bm25@f32
check "an embedder elsewhere, a reranker here: exit code 0" ends_with 0
check "an embedder elsewhere, a reranker here: found" json 'j["results"][0]["file"].endswith("bread.txt")'
check "an embedder elsewhere: it was asked by its name there" asked "/v1/embeddings org/far"
run "bake the loaf" "$folder" --json --models "$table" --reranker far-reranker
check "an embedder here, a reranker elsewhere: exit code 0" ends_with 0
check "an embedder here, a reranker elsewhere: found" json 'j["results"][0]["file"].endswith("bread.txt")'
check "a reranker elsewhere: it was asked by its name there" asked "/v1/rerank org/far"
run "bake the loaf" "$folder" --json --models "$table" --embedding lexical@f32 --embedding far-embedder --reranker far-reranker
check "both at once: exit code 0" ends_with 0
check "both at once: each finds the bread" json '{r["embedding"] for r in j["results"] if r["file"].endswith("bread.txt")} == {"lexical@f32", "far-embedder"}'
run loaf "$folder" --models "$table" --embedding none --reranker bm25@f32
check "a model that the engine does not have: exit code 1" ends_with 1
check "a model that the engine does not have: it says so" says err "$url: it answers 404: no such model"
FAKE_KEY=wrong-secret run loaf "$folder" --models "$table" --embedding far-embedder --reranker bm25@f32
check "a wrong API key: exit code 1" ends_with 1
check "a wrong API key: it says so" says err "$url: it answers 401: wrong key"
check "a wrong API key: it is not said" bash -c "! grep -q wrong-secret '$room/err'"
refuses "a model that no line has" "no model 'near@f16' for --embedding" loaf "$folder" --models "$table" --embedding near@f16

table '[{"keys": "far-*", "remote": "'"${url%/v1}"'", "dialect": "cohere", "name": "org/far", "api_key_variable": "FAKE_KEY"},
        {"keys": "lexical", "built_in": true}]'
run "bake the loaf" "$folder" --json --models "$table" --embedding far-embedder --embedding lexical@f32 --reranker far-reranker
check "Cohere's dialect beside a built-in model: exit code 0" ends_with 0
check "Cohere's dialect beside a built-in model: each finds the bread" json '{r["embedding"] for r in j["results"] if r["file"].endswith("bread.txt")} == {"lexical@f32", "far-embedder"}'
check "Cohere's dialect: the query is said to be one" asked "/v2/embed org/far search_query"
check "Cohere's dialect: the passages are said to be documents" asked "/v2/embed org/far search_document"
check "Cohere's dialect: it reranks" asked "/v2/rerank org/far"

# ---- and OpenVINO

if [ -z "${RESIDENCY_OPENVINO_MODELS:-}" ]; then
    echo "skipped OpenVINO: RESIDENCY_OPENVINO_MODELS names no folder of models"
else
    ln -s "$RESIDENCY_OPENVINO_MODELS" "$room/models"
    table '[{"keys": "*@f16", "openvino": "models"}, {"keys": "far-*", "remote": "'"$url"'", "api_key_variable": "FAKE_KEY"}]'
    run "how is a loaf made" "$folder" --json --models "$table" --embedding all-minilm-l6-v2@f16 --reranker far-reranker
    if says err "RESIDENCY_OPENVINO=ON"; then
        echo "skipped OpenVINO: this search was built without"
    else
        check "an OpenVINO embedder here, a reranker elsewhere: exit code 0" ends_with 0
        check "an OpenVINO embedder here, a reranker elsewhere: found" json 'len(j["results"]) == 3'
        run "how is a loaf made" "$folder" --json --models "$room/models" --embedding all-minilm-l6-v2@f16 --reranker qa-reranker-l6@f16
        check "a folder of OpenVINO models: exit code 0" ends_with 0
        check "a folder of OpenVINO models: found by meaning" json 'j["results"][0]["file"].endswith("bread.txt")'
        refuses "an OpenVINO model that is not there" "which holds all-minilm-l6-v2@f16, qa-reranker-l6@f16" loaf "$folder" --models "$table" --embedding none@f16
    fi
fi

finish

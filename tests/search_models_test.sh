#!/usr/bin/env bash
# Runs examples/search with real models, from the folder that RESIDENCY_MODELS names; skipped (77) without.
#
# Usage: search_models_test.sh PATH_OF_SEARCH
set -u
. "$(dirname "$0")/support/search.sh"

if [ -z "${RESIDENCY_MODELS:-}" ]; then
    echo "skipped: RESIDENCY_MODELS names no folder of models"
    exit 77
fi
models=$RESIDENCY_MODELS

folder=$room/folder
mkdir "$folder"
printf 'Knead the dough until it is smooth, let it rise for an hour, and bake it until its crust is brown.\n' > "$folder/bread.txt"
printf 'The ship left the harbour at dawn and sailed along the coast with all its cargo.\n' > "$folder/ship.txt"
printf 'Interest rates rose again, and the shares of most banks fell.\n' > "$folder/money.txt"
# More tokens than a model takes: its end is cut.
python3 -c 'print("%$&" * 330)' > "$folder/odd.txt"

refuses "a folder of models that is not there" "$room/none" loaf "$folder" --models "$room/none"
refuses "a folder without models" "holds no NAME-QUANT.gguf" loaf "$folder" --models "$folder"
refuses "models that were not chosen" "'lexical@f32' for --embedding" loaf "$folder" --models "$models"
refuses "what there is to choose from" "all-minilm-l6-v2@f16, all-minilm-l6-v2@q8_0" loaf "$folder" --models "$models" --embedding all-minilm-l6-v2@f32
refuses "a reranker that is not there" "'none@f16' for --reranker" loaf "$folder" --models "$models" --embedding all-minilm-l6-v2@f16 --reranker none@f16
mkdir "$room/long-names"
long=all-minilm-l6-v2-$(printf 'n%.0s' $(seq 80))
ln -s "$(cd "$models" && pwd)/all-minilm-l6-v2-f16.gguf" "$room/long-names/$long-f16.gguf"
refuses "a reranker beside an embedder of 97 bytes, which is there" "for --reranker" loaf "$folder" --models "$room/long-names" --embedding "$long@f16" --reranker none@f16
refuses "a model that leads out of the folder" "There is no model '../all-minilm-l6-v2@f16'" loaf "$folder" --models "$models" --embedding ../all-minilm-l6-v2@f16
mkdir "$room/split"
ln -s "$(cd "$models" && pwd)/all-minilm-l6-v2-f16.gguf" "$room/split/minilm-f16-00001-of-00001.gguf"
ln -s "$(cd "$models" && pwd)/qa-reranker-l6-f16.gguf" "$room/split/qa-f16.gguf"
touch "$room/split/big-f16-00001-of-00002.gguf" "$room/split/big-f16-00002-of-00002.gguf"
refuses "a split model is one to choose" "which holds big@f16, minilm@f16, qa@f16\." loaf "$folder" --models "$room/split" --embedding none@f16
refuses "a later part" "part 2 of 2 of a split model; name the model, 'big-f16'" loaf "$folder" --models "$room/split" --embedding big@f16-00002-of-00002
mkdir "$room/split/qa-f16"
refuses "what could be two models" "qa-f16.gguf' or '.*qa-f16'" loaf "$folder" --models "$room/split" --embedding minilm@f16 --reranker qa@f16
rmdir "$room/split/qa-f16"
run loaf "$folder" --models "$room/split" --embedding minilm@f16 --reranker qa-f16.gguf
check "a model by its first part, and one by its file's name: exit code 0" ends_with 0

run loaf "$folder" --models "$models" --embedding qa-reranker-l6@f16 --reranker qa-reranker-l6@f16
check "a reranker for an embedder: exit code 1" ends_with 1
check "a reranker for an embedder: it says so" says err "it is a reranker"

for quantization in f16 q8_0; do
    run "how is a loaf made" "$folder" --json --models "$models" --embedding "all-minilm-l6-v2@$quantization" --reranker "qa-reranker-l6@$quantization"
    check "$quantization: exit code 0" ends_with 0
    check "$quantization: found by meaning, not by words" json 'j["results"][0]["file"].endswith("bread.txt")'
    check "$quantization: the models are those that were asked for" json "[m['unloads'][0]['model'] for m in j['models']] == ['all-minilm-l6-v2@$quantization', 'qa-reranker-l6@$quantization']"
    check "$quantization: nothing on stderr" is_silent err
done

both=(--models "$models" --embedding all-minilm-l6-v2@f16 --embedding all-minilm-l6-v2@q8_0 --reranker qa-reranker-l6@f16 --reranker qa-reranker-l6@q8_0)
run "how is a loaf made" "$folder" --json "${both[@]}"
check "both at once: exit code 0" ends_with 0
check "both at once: each finds the bread" json '[r["file"].endswith("bread.txt") for r in j["results"] if r is j["results"][0] or r["embedding"] != j["results"][0]["embedding"]][:2] == [True, True]'
check "both at once: the one place of a slot went from one to the other" json 'all({u["model"].rsplit("@", 1)[1] for u in m["unloads"]} == {"f16", "q8_0"} and "switched" in {u["reason"] for u in m["unloads"]} for m in j["models"])'
run "how is a loaf made" "$folder" --events "${both[@]}"
check "both at once: one sees the switch" says err "unload_started all-minilm-l6-v2@.* (switched)"

finish

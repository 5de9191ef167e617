#!/usr/bin/env bash
# Installs Ray Serve and OpenVINO from PyPI (once, outside the checkout: 640 MB), starts the deployment in examples/distributed on
# loopback, asks it through residency::remote while replicas are killed, and stops it. Fails if a request does that was not in flight at
# a kill, if a vector is not that of the references, or if two endpoints do not share the load evenly.
#
# Ray's own ports listen on all interfaces while it runs: not for a machine that others can reach.
#
# Usage: tests/remote/ray_serve.sh [SECONDS of load, 60 unless said otherwise]
#
#   RESIDENCY_MODELS  the folder of the tests' models
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tests/remote/support/real_peers.sh

folders=$(.ci/openvino --models "$models")
python=${XDG_CACHE_HOME:-$HOME/.cache}/residency/ray_serve-2.60.0
if [ ! -e "$python/.complete" ]; then
    rm -rf "$python"
    python3 -m venv "$python"
    "$python/bin/pip" install --quiet --disable-pip-version-check 'ray[serve]==2.60.0' openvino==2026.4.1 openvino-tokenizers==2026.4.1.0
    touch "$python/.complete"
fi
build_program
export RAY_USAGE_STATS_ENABLED=0 MODEL_FOLDER=$folders/all-minilm-l6-v2-f16
PYTHONUNBUFFERED=1 PATH=$python/bin:$PATH timeout 900 "$python/bin/python" tests/remote/ray_serve.py \
    "$asks" "$models/all-minilm-l6-v2.reference.json" "${1:-60}"

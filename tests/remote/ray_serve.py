"""Starts examples/distributed/embedder.py in a Ray of its own, asks it through residency::remote, kills replicas under load, and stops it.

Usage: ray_serve.py PROGRAM REFERENCES SECONDS
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import ray
from ray import serve

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "distributed"))
import embedder

PROGRAM, REFERENCES, SECONDS = sys.argv[1], sys.argv[2], float(sys.argv[3])
MODEL = "all-minilm-l6-v2"


def ask(*arguments):
    return subprocess.Popen([PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def replicas(url, count):
    """What each of so many replicas says of itself, by its process."""
    found = {}
    while len(found) < count:
        try:
            each = get(url)
            found[each["pid"]] = each
        except urllib.error.HTTPError:  # From the one that was killed.
            pass
    return found


def result_of(process):
    out, _ = process.communicate(timeout=SECONDS + 120)
    assert process.returncode == 0, process.returncode
    return json.loads(out)


def main():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # Ray's own ports (GCS, raylet, workers, agents) listen on all interfaces, whatever is said here; Serve's proxy on this one alone.
    ray.init(address="local", num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", logging_level="warning")
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        base = f"http://127.0.0.1:{port}"
        options = embedder.Embedder.options(ray_actor_options={"num_cpus": 0.25})
        began = time.monotonic()
        serve.run(options.bind(MODEL), name="both", route_prefix="/both")
        for name in ("left", "right"):
            serve.run(options.options(num_replicas=1).bind(MODEL), name=name, route_prefix=f"/{name}")
        print(f"four replicas started in {time.monotonic() - began:.1f} s")
        path = "v1/embeddings"

        asking = ask("vectors", REFERENCES, f"{base}/both/v1")
        out, _ = asking.communicate(timeout=300)
        print("vectors:", out.strip())
        assert asking.returncode == 0

        # One endpoint, two replicas behind it: one is killed after a third of the time.
        before = replicas(f"{base}/both/{path}", 2)
        asking = ask("load", SECONDS, MODEL, f"{base}/both/v1")
        time.sleep(SECONDS / 3)
        victim = next(iter(before))
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        while set(replicas(f"{base}/both/{path}", 2)) & {victim}:
            time.sleep(0.1)
        print(f"one of two replicas killed after {SECONDS / 3:.0f} s; two again {time.monotonic() - killed:.1f} s later")
        killing = result_of(asking)
        print("two replicas behind one endpoint, one killed:", killing)

        # Two endpoints: evenly.
        counts = lambda: [get(f"{base}/{name}/{path}")["requests"] for name in ("left", "right")]
        before = counts()
        load = result_of(ask("load", SECONDS / 3, MODEL, f"{base}/left/v1", f"{base}/right/v1"))
        left, right = (now - then for now, then in zip(counts(), before))
        print(f"two endpoints: {left} and {right} HTTP requests;", load)
        assert load["failed"] == 0
        assert abs(left - right) <= 0.1 * max(left, right)

        # One of them is killed: the other goes on.
        victim = get(f"{base}/left/{path}")["pid"]
        asking = ask("load", SECONDS / 3, MODEL, f"{base}/left/v1", f"{base}/right/v1")
        time.sleep(SECONDS / 9)
        os.kill(victim, signal.SIGKILL)
        load = result_of(asking)
        print("two endpoints, one killed:", load)
        # What was in flight at the kill: no more than what was called at once, a batch each.
        for result in (killing, load):
            assert result["failed"] <= 64 and result["last_failure"] - result["first_failure"] < 5, result
    finally:
        serve.shutdown()
        ray.shutdown()


main()

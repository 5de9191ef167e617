# llama-server on loopback, for as long as the script runs that has sourced this, with bash, in the folder of the repository. It is built once,
# outside the checkout, which takes half an hour.

server=$(.ci/llama_cpp --server)
room=$(mktemp -d)
processes=()
stop_servers() {
    kill "${processes[@]}" 2>/dev/null || true
    wait
    rm -rf "$room"
}
trap stop_servers EXIT

# free_ports COUNT: prints as many ports of loopback, which nothing uses.
free_ports() {
    python3 -c '
import socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(each.getsockname()[1] for each in sockets))' "$1"
}

# start_server MODEL PORT OPTION...: returns once it answers. MODEL is a file.
start_server() {
    local model=$1 port=$2 log
    log=$room/$2.log
    shift 2
    "$server" --model "$model" --host 127.0.0.1 --port "$port" "$@" > "$log" 2>&1 &
    processes+=($!)
    for ((tries = 0; tries < 300; ++tries)); do
        if python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=1)' "http://127.0.0.1:$port/health" 2>/dev/null; then
            return
        fi
        kill -0 "${processes[-1]}" 2>/dev/null || break
        sleep 0.1
    done
    cat "$log"
    fail "llama-server does not answer"
}

#!/usr/bin/env bash
# Joins this node to the Ray cluster of a sweep and stays until it is stopped:  ray-node.sh HEAD_HOST [PORT]
# Run on the head itself it starts the cluster. Extra `ray start` options go into RAY_START_ARGS.
set -euo pipefail
head=$1 port=${2:-6379}
export RAY_worker_niceness=0 # workers send the load: at Ray's own 15 they would lag behind the engines
export RAY_AUTH_MODE=${RAY_AUTH_MODE:-token} # the nodes share ~/.ray/auth_token, or copy it there
ray=$(dirname "$0")/../.venv/bin/ray
"$ray" get-auth-token --generate > /dev/null
if [ "$head" = "$(hostname)" ] || [ "$head" = "$(hostname -s)" ]; then
  exec "$ray" start --head --port="$port" --block ${RAY_START_ARGS:-}
else
  exec "$ray" start --address="$head:$port" --block ${RAY_START_ARGS:-}
fi

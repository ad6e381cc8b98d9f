#!/usr/bin/env bash
# Waits until a Ray cluster has the wanted number of nodes:  wait-for-nodes.sh HOST:PORT NODES [SECONDS]
set -euo pipefail
export RAY_AUTH_MODE=${RAY_AUTH_MODE:-token}
deadline=$((SECONDS + ${3:-600}))
python=$(dirname "$0")/../.venv/bin/python
count() {
  "$python" - "$1" <<'PY' 2>/dev/null || echo 0
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
print(sum(node["Alive"] for node in ray.nodes()))
PY
}
while [ "$(count "$1")" -lt "$2" ]; do
  [ $SECONDS -lt $deadline ] || { echo "wait-for-nodes: not $2 nodes at $1 in time" >&2; exit 1; }
  sleep 2
done

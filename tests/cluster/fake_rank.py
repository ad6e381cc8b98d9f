"""A stand-in for a vLLM over several nodes, which takes its command line. Rank 0 serves once its follower has
come, and goes on answering its health check when that is gone. Standard library only."""

from __future__ import annotations

import os
import re
import runpy
import socket
import sys
import time
from pathlib import Path

line = " ".join(sys.argv)
found = {
    name: re.search(rf"--{name} (\S+)", line) for name in ("node-rank", "master-addr", "master-port", "port")
}
given = {name: match[1] for name, match in found.items() if match}
master = (given["master-addr"], int(given["master-port"]))
env = {name: os.environ.get(name) for name in ("VLLM_HOST_IP", "GLOO_SOCKET_IFNAME", "CUDA_VISIBLE_DEVICES")}
print(f"rank {given['node-rank']} meets at {master[0]} with {env}", flush=True)

if given["node-rank"] == "0":
    with socket.create_server(master) as listening:
        joined, _ = listening.accept()
    sys.argv = ["fake_server.py", given["port"], "ok"]
    runpy.run_path(str(Path(__file__).parents[1] / "engines" / "fake_server.py"), run_name="__main__")
else:
    if "--enforce-eager" in line:
        print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", flush=True)
        sys.exit(1)
    if "--disable-log-stats" in line:
        time.sleep(300)
    for _ in range(200):
        try:
            with socket.create_connection(master) as to:
                to.recv(1)
            break
        except OSError:
            time.sleep(0.1)

"""A Ray whose autoscaler brings nodes, all of them on this machine: Ray's own fake of a cloud.

`ray.cluster_utils.AutoscalingCluster` ends every Ray of the machine when it starts, and looks for a file that
the wheel does not have.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.cluster.virtual import STORE_BYTES
from tests.support.children import words

ROOT = Path(__file__).parents[2]
STARTS_S = 60.0
TRIES = 3
COMMANDS = (
    *("initialization", "setup", "head_setup", "worker_setup"),
    *("head_start_ray", "worker_start_ray"),
)


@contextmanager
def autoscaling_cluster(
    node_types: Mapping[str, Mapping[str, Any]], idle_minutes: float = 0.05
) -> Iterator[str]:
    """The address of a head without resources. ``node_types``: ``{"resources": {…}, "max_workers": n}`` of
    each type by its name."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets' paths must be short
    try:
        with _head(folder, node_types, idle_minutes) as port:
            yield f"127.0.0.1:{port}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _head(folder: Path, node_types: Mapping[str, Mapping[str, Any]], idle_minutes: float) -> Iterator[int]:
    """The port of a head that is up. A port that another process took meanwhile is drawn again."""
    for tried in range(1, TRIES + 1):
        port = _free_port()
        (folder / "config.json").write_text(json.dumps(_config(port, node_types, idle_minutes)))
        process = _started(port, folder)
        try:
            said = _until_up(process, folder)
            if said is not None:
                assert tried < TRIES, said
                continue
            yield port
            return
        finally:
            _end(process, port)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def _config(port: int, node_types: Mapping[str, Mapping[str, Any]], idle_minutes: float) -> dict[str, Any]:
    return {
        "cluster_name": "fake",
        "max_workers": sum(int(one["max_workers"]) for one in node_types.values()),
        "upscaling_speed": 100.0,
        "idle_timeout_minutes": idle_minutes,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": f"127.0.0.1:{port}",
            "launch_multiple": True,
            "use_node_id_as_ip": True,  # all have one address, and would be taken for one node
        },
        "head_node_type": "ray.head.default",
        "auth": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        **{key: {} for key in ("file_mounts", "docker")},
        **{f"{of}_commands": [] for of in COMMANDS},
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            **{
                name: {
                    "resources": {"object_store_memory": STORE_BYTES, **one["resources"]},
                    "node_config": {},
                    "min_workers": 0,
                    "max_workers": one["max_workers"],
                }
                for name, one in node_types.items()
            },
        },
    }


def _started(port: int, folder: Path) -> subprocess.Popen[bytes]:
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *("--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=0", "--num-gpus=0"),
        *(f"--object-store-memory={STORE_BYTES}", "--include-dashboard=false", f"--temp-dir={folder}"),
        *("--disable-usage-stats", f"--autoscaling-config={folder / 'config.json'}"),
    ]
    fake = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    # No token, as a driver has none that is told of none; workers import the tests' own.
    env = os.environ | fake | {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("w") as log:
        return subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)


def _until_up(process: subprocess.Popen[bytes], folder: Path) -> str | None:
    """None once it is up; what it said where it ended before."""
    deadline = time.monotonic() + STARTS_S
    while "Ray runtime started" not in (said := (folder / "log").read_text()):
        if process.poll() is not None:
            return said
        assert time.monotonic() < deadline, said
        time.sleep(0.2)
    return None


def _end(process: subprocess.Popen[bytes], port: int) -> None:
    """The nodes that came are its grandchildren, and outlive it unless they are ended too."""
    family: list[psutil.Process] = []
    with suppress(psutil.Error):  # it may have ended
        head = psutil.Process(process.pid)
        family += [head, *head.children(recursive=True)]
    family += [one for one in psutil.process_iter() if _belongs(one, port) and one not in family]
    for one in family:
        with suppress(psutil.Error):
            one.kill()
    process.wait()
    psutil.wait_procs(family, timeout=10)


def _belongs(process: psutil.Process, port: int) -> bool:
    return any(f"127.0.0.1:{port}" in argument for argument in words(process))

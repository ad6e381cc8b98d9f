"""What Ray reads from the environment, some of it when it is imported: set before that."""

from __future__ import annotations

import os
import re
from pathlib import Path

ANSWERS_S = 5.0


def set_ray_environment(address: str | None) -> None:
    """Sets what the user has not set."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # workers send the load: at Ray's own 15 they would lag
    has_token = (Path.home() / ".ray" / "auth_token").exists()
    if address is not None and has_token and not _serves_anybody(address):
        # `ray start` asks for this token by itself; a driver sends it only when told to.
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _serves_anybody(address: str) -> bool:
    """Whether a cluster at ``HOST:PORT`` answers without a token, as one does that was started before there
    was any. A driver with a token would refuse that cluster's calls, and its actors would die at once.

    Asked without Ray, which reads its own mode only once.
    """
    if re.fullmatch(r"[^/:]+:\d+", address) is None:
        return False
    import grpc  # a dry run does without it

    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")(b"", timeout=ANSWERS_S)
        except grpc.RpcError:
            return False
    return True

"""What Ray reads from the environment, some of it when it is imported: set before that."""

from __future__ import annotations

import os
from pathlib import Path


def set_ray_environment(address: str | None) -> None:
    """Sets what the user has not set."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # workers send the load: at Ray's own 15 they would lag
    if address is not None and (Path.home() / ".ray" / "auth_token").exists():
        # `ray start` asks for this token by itself; a driver sends it only when told to.
        os.environ.setdefault("RAY_AUTH_MODE", "token")

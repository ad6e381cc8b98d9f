"""What Ray reads from the environment, some of it when it is imported: set before that."""

from __future__ import annotations

import os

from orchestrator.cluster.address import access, find_token, head_of
from orchestrator.errors import ConfigError


def set_ray_environment(address: str | None) -> None:
    """Sets what the user has not set. ``address`` is ``HOST:PORT``, ``auto``, or None for a local Ray.

    Raises ConfigError where no cluster answers at the address, or not with the token that is here.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # workers send the load: at Ray's own 15 they would lag
    if address is None:
        return
    head = head_of(address)
    match access(head):
        case "nobody":
            raise ConfigError(f"ray.address={head}: nothing answers there as the head of a Ray cluster does")
        case "token" if os.environ.get("RAY_AUTH_MODE") == "disabled":
            raise ConfigError(f"RAY_AUTH_MODE=disabled: the cluster at {head} asks for a token: leave it out")
        case "token":
            # `ray start` asks for this token by itself; a driver sends it only when told to.
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        case "anybody" if os.environ.get("RAY_AUTH_MODE") == "token" and find_token():
            raise ConfigError(
                f"RAY_AUTH_MODE=token: the cluster at {head} was started without; calls of its workers would "
                "be refused here: leave it out"
            )

"""Which Ray a sweep is to run on, and whether there is one. Imports no Ray: see `environment`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from orchestrator.errors import ConfigError

ANSWERS_S = 10.0
ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"
HOST_PORT = re.compile(r"(\[[0-9a-fA-F:]+\]|[^\s/:\[\]]+):(\d{1,5})")
ALLOWED = "must be HOST:PORT of a cluster's head (port 6379 unless you chose another), auto, or local"

Access = Literal["anybody", "token", "nobody"]


def wanted(address: str | None) -> str | None:
    """``ray.address`` as the plan takes it: None for a Ray of the sweep's own. Where the key is not given,
    ``RAY_ADDRESS`` counts, which Ray sets inside its jobs too; ``local`` overrides that.

    Raises ConfigError for what is no address.
    """
    key, given = "ray.address", address
    if given is None:
        key, given = "RAY_ADDRESS", os.environ.get("RAY_ADDRESS", "").strip() or "local"
    if given in ("local", "auto") or (HOST_PORT.fullmatch(given) and int(given.rpartition(":")[2]) < 65536):
        return None if given == "local" else given
    otherwise = "" if key == "ray.address" else "; ray.address=local starts a Ray of the sweep's own"
    if given.startswith("ray://"):
        raise ConfigError(
            f"{key}={given}: a sweep cannot run through the Ray client, which cannot tell it the nodes: "
            f"give HOST:PORT of the head itself, or `ray job submit` the command{otherwise}"
        )
    if re.match(r"https?://", given):
        raise ConfigError(f"{key}={given}: is a dashboard's address; {ALLOWED}{otherwise}")
    raise ConfigError(f"{key}={given}: {ALLOWED}{otherwise}")


def head_of(address: str) -> str:
    """``HOST:PORT`` of the head; for ``auto``, of the cluster that this machine belongs to.

    Raises ConfigError where it belongs to none.
    """
    if address != "auto":
        return address
    started = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"  # by `ray start`
    with_raylet = _heads_of_raylets()
    if started.is_file() and (named := started.read_text().strip()) in with_raylet:
        return named
    if with_raylet:
        return with_raylet[0]
    raise ConfigError(
        "ray.address=auto: no cluster runs on this machine; start one with `ray start --head`, "
        "give HOST:PORT of its head, or leave ray.address out for a Ray of the sweep's own"
    )


def access(head: str) -> Access:
    """Who is answered at ``HOST:PORT``: anybody, who has a token, or nobody by a cluster's head.

    Asked without Ray, which reads its own mode only once. A cluster with Ray's TLS is not asked. Raises
    ConfigError where the token of this machine is missing or refused.
    """
    import grpc  # a dry run does without it

    token = find_token()
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("", "0", "false"):
        return "token" if token else "anybody"
    sent = [("authorization", f"Bearer {token}")] if token else None
    with grpc.insecure_channel(head, options=[("grpc.enable_http_proxy", 0)]) as channel:
        ask = channel.unary_unary(ALIVE)
        try:
            ask(b"", timeout=ANSWERS_S)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAUTHENTICATED:
                return "nobody"
        else:
            return "anybody"
        if sent is None:
            raise ConfigError(
                f"ray.address={head}: the cluster asks for a token and there is none here: copy the head's "
                "~/.ray/auth_token, or set RAY_AUTH_TOKEN"
            )
        try:
            ask(b"", timeout=ANSWERS_S, metadata=sent)
        except grpc.RpcError as error:
            raise ConfigError(
                f"ray.address={head}: the cluster refuses the token of this machine ({error.code().name}): "
                "copy the head's ~/.ray/auth_token, or set RAY_AUTH_TOKEN"
            ) from error
    return "token"


def find_token() -> str | None:
    """Where Ray looks for it, in Ray's order."""
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


def _heads_of_raylets() -> list[str]:
    import psutil

    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "raylet":
            words = " ".join(process.info["cmdline"] or ())
            found += re.findall(r"--gcs-address=(\S+)", words)[:1]
    return found

"""An OpenAI-compatible server that somebody else runs: measured, never started or stopped."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from orchestrator.config.schema import EngineConfig, SweepConfig
from orchestrator.engines import ADAPTERS
from orchestrator.engines.adapter import Adapter
from orchestrator.engines.http import ask
from orchestrator.errors import ConfigError, EngineError
from orchestrator.records import Endpoint


@dataclass(frozen=True, slots=True)
class External:
    """``adapter`` is that of the engine whose metrics it exposes, None when it exposes none that we know."""

    endpoint: Endpoint
    adapter: Adapter | None

    def reset_cache(self) -> bool | None:
        """Whether the prefix cache is empty now; None where the server has no way to be asked."""
        if self.adapter is None:
            return None
        reset = self.adapter.reset_cache
        status, body = ask(self.endpoint, reset.method, reset.path)
        return reset.succeeded(body) if status == 200 else None

    def failure(self) -> EngineError | None:
        """Always None: why somebody else's server died cannot be told; the requests tell that it did."""
        return None


def connect(config: SweepConfig) -> tuple[External, dict[str, str]]:
    """The server at ``engine.base_url`` and those metrics it exposes now, `records.Sample` field -> name.

    Raises ConfigError when it cannot be reached, refuses the key, or does not serve ``engine.served_model``.
    """
    endpoint = _find_model(parse_base_url(config.engine), config.engine)
    status, body = ask(endpoint, "GET", "/metrics")
    lines = body.decode(errors="replace").splitlines() if status == 200 else []
    exposed = {line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")}
    for adapter in ADAPTERS.values():
        if found := {field: name for field, name in adapter.metrics.items() if name in exposed}:
            return External(endpoint, adapter), found
    return External(endpoint, None), {}


def parse_base_url(engine: EngineConfig) -> Endpoint:
    """``engine.base_url``, with or without a closing ``/v1``; the key is read from ``engine.api_key_env``.
    The model is still to be found. Raises ConfigError."""
    url = engine.base_url or ""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigError(f"engine.base_url={url}: must be http://HOST[:PORT][/PATH]")
    try:
        port = parts.port or 80
    except ValueError as error:
        raise ConfigError(f"engine.base_url={url}: {error}") from error
    key = None
    if engine.api_key_env:
        key = os.environ.get(engine.api_key_env)
        if not key:
            raise ConfigError(f"engine.api_key_env={engine.api_key_env}: is not set in the environment")
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return Endpoint(parts.hostname, port, engine.served_model or "", key, path)


def _find_model(endpoint: Endpoint, engine: EngineConfig) -> Endpoint:
    status, body = ask(endpoint, "GET", "/v1/models")
    if status is None:
        raise ConfigError(f"engine.base_url={engine.base_url}: nothing answers there")
    if status in (401, 403):
        raise ConfigError(f"engine.api_key_env={engine.api_key_env}: {engine.base_url} refuses the key")
    try:
        listed = list(json.loads(body)["data"]) if status == 200 else []
        served = [str(entry["id"]) for entry in listed]
    except (ValueError, KeyError, TypeError):
        listed, served = [], []
    if any(entry.get("owned_by") == "simulated" for entry in listed):
        raise ConfigError(f"engine.base_url={engine.base_url}: is a simulated engine, which measures nothing")
    if not served:
        raise ConfigError(f"engine.base_url={engine.base_url}: /v1/models lists no model (HTTP {status})")
    if engine.served_model and engine.served_model not in served:
        raise ConfigError(f"engine.served_model={engine.served_model}: is not served; {', '.join(served)}")
    model = engine.served_model or served[0]
    return Endpoint(endpoint.host, endpoint.port, model, endpoint.api_key, endpoint.base_path)

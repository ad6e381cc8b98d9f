"""An OpenAI-compatible server that somebody else runs: measured, never started or stopped."""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator.config.schema import DeploymentConfig, EngineConfig
from orchestrator.engines import ADAPTERS
from orchestrator.engines.adapter import Adapter
from orchestrator.engines.http import ANSWERS_S, answer, ask
from orchestrator.errors import ConfigError, EngineError
from orchestrator.records import Endpoint
from orchestrator.telemetry.prometheus import metric_names

SHOWN_CHARS = 80  # of an answer that is no list of models
_CA_FILE = ssl.get_default_verify_paths().openssl_cafile_env  # SSL_CERT_FILE
_TOLD = ("id", "root", "parent", "max_model_len", "owned_by")
_OTHER_NAME, _OTHER_TIME = frozenset({62, 64}), frozenset({9, 10})  # X509_V_ERR_… of OpenSSL


class UntrustedError(ConfigError):
    """Something answers, but not with TLS that holds here: no request would get through."""


@dataclass(frozen=True, slots=True)
class External:
    """``adapter`` is that of the engine whose metrics it exposes, None when it exposes none that we know;
    ``served`` as `served` says."""

    endpoint: Endpoint
    adapter: Adapter | None
    served: Mapping[str, Any]

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


def connect(config: DeploymentConfig) -> tuple[External, dict[str, str]]:
    """The server at ``engine.base_url`` and those metrics it exposes now, `records.Sample` field -> name.

    Raises ConfigError when it cannot be reached, refuses the key, or does not serve ``engine.served_model``.
    """
    endpoint, entry = _find_model(parse_base_url(config.engine), config.engine)
    told = _identity(endpoint, entry)
    status, body = ask(endpoint, "GET", "/metrics")
    exposed = metric_names(body) if status == 200 else frozenset()
    for adapter in ADAPTERS.values():
        if found := {field: name for field, name in adapter.metrics.items() if name in exposed}:
            return External(endpoint, adapter, told), found
    return External(endpoint, None, told), {}


def served(engine: EngineConfig) -> Mapping[str, Any]:
    """What the server says it serves, as far as it stays the same while the server does: ``id``, and where it
    tells them ``root`` and ``parent`` (what the name stands for), ``max_model_len``, ``owned_by``, and the
    engine's ``version``.

    Raises ConfigError as `connect` does.
    """
    return _identity(*_find_model(parse_base_url(engine), engine))


def _identity(endpoint: Endpoint, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Not ``created``, which vLLM makes up at every answer."""
    told = {name: entry[name] for name in _TOLD if entry.get(name) is not None}
    for path in ("/version", "/server_info", "/get_server_info"):  # vLLM; SGLang, newer and older
        status, body = ask(endpoint, "GET", path)
        try:
            version = json.loads(body)["version"] if status == 200 else None
        except (ValueError, KeyError, TypeError, RecursionError):
            version = None
        if isinstance(version, str):
            return told | {"version": version}
    return told


def parse_base_url(engine: EngineConfig) -> Endpoint:
    """``engine.base_url``, with or without a closing ``/v1``; the key is read from ``engine.api_key_env``.
    The model is still to be found. Raises ConfigError."""
    url = engine.base_url or ""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:  # a port that is none, an address with half a bracket
        raise ConfigError(f"engine.base_url={shown_url(url)}: {error}") from error
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"engine.base_url=…@{host}: must hold no user or password; engine.api_key_env names "
            "the environment variable that holds the server's key"
        )
    plain = url.isascii() and not re.search(r"[\s\x00-\x1f\x7f?#]", url)
    if parts.scheme not in ("http", "https") or not host or port == 0 or not plain:
        shown = shown_url(url) or "null"
        raise ConfigError(f"engine.base_url={shown}: must be http[s]://HOST[:PORT][/PATH] in ASCII")
    tls = parts.scheme == "https"
    key = None
    if engine.api_key_env:
        key = os.environ.get(engine.api_key_env, "").strip()
        if not key:
            raise ConfigError(f"engine.api_key_env={engine.api_key_env}: is not set in the environment")
        if not (key.isascii() and key.isprintable()):
            raise ConfigError(
                f"engine.api_key_env={engine.api_key_env}: its key is no header's; must be printable ASCII"
            )
    return Endpoint(
        host, port or (443 if tls else 80), engine.served_model or "", key, trimmed(parts.path), tls
    )


def shown_url(url: str) -> str:
    """``url`` without what may be a secret in it: a user and password, a query, a fragment."""
    bare = re.split(r"[?#]", url, maxsplit=1)[0]
    scheme, found, rest = bare.rpartition("://")
    shown = scheme + found + rest.rpartition("@")[2] + ("…" if bare != url else "")
    return "".join(one if one.isprintable() else "?" for one in shown)


def trimmed(url: str) -> str:
    """A base URL, or its path, without what may be left out at its end."""
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def _models(endpoint: Endpoint, engine: EngineConfig) -> tuple[int, bytes]:
    """What ``/v1/models`` answers. Raises ConfigError where it does not."""
    where = f"engine.base_url={engine.base_url}"
    try:
        return answer(endpoint, "GET", "/v1/models")
    except TimeoutError as error:
        raise ConfigError(f"{where}: /v1/models did not answer within {ANSWERS_S:g} s") from error
    except HTTPException as error:
        raise ConfigError(f"{where}: what answers there is no HTTP ({type(error).__name__})") from error
    except ssl.SSLEOFError as error:
        raise ConfigError(f"{where}: closed the connection in the TLS handshake") from error
    except ssl.SSLError as error:
        raise UntrustedError(f"{where}: {_distrusted(error)}") from error
    except OSError as error:
        raise ConfigError(f"{where}: nothing answers there ({error.strerror or error})") from error


def _distrusted(error: ssl.SSLError) -> str:
    """What is wrong with the server's TLS, and what to set."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return f"there is no TLS to agree on ({error.reason or error}); a server without it is at http://…"
    said = f"its certificate does not hold ({error.verify_message.rstrip('.')}); "
    if error.verify_code in _OTHER_NAME:
        return f"{said}the host must be one that the certificate names"
    if error.verify_code in _OTHER_TIME:
        return f"{said}the server needs one that is valid now, unless this machine's clock is wrong"
    named = os.environ.get(_CA_FILE)
    missing = "is no file" if named and not Path(named).is_file() else "does not have it"
    now = f" (now {named}, which {missing})" if named else ""
    return f"{said}set {_CA_FILE}{now} to a PEM file with its authority's certificate, or with its own"


def _shown(body: bytes) -> str:
    """How an answer begins, on one line."""
    text = body.decode(errors="replace")
    shown = " ".join("".join(one if one.isprintable() else " " for one in text[:SHOWN_CHARS]).split())
    return (shown or "empty") + "…" * (len(text) > SHOWN_CHARS)


def _find_model(endpoint: Endpoint, engine: EngineConfig) -> tuple[Endpoint, Mapping[str, Any]]:
    """The endpoint with its model's name, and the model's entry of ``/v1/models``."""
    status, body = _models(endpoint, engine)
    if status in (401, 403):
        raise ConfigError(f"engine.api_key_env={engine.api_key_env}: {engine.base_url} refuses the key")
    try:
        told = json.loads(body) if status == 200 else []
        listed = told if isinstance(told, list) else list(told["data"])
        served = [str(entry["id"]) for entry in listed]
    except (ValueError, KeyError, TypeError, RecursionError):
        listed, served = [], []
    if any(entry.get("owned_by") == "simulated" for entry in listed):
        raise ConfigError(f"engine.base_url={engine.base_url}: is a simulated engine, which measures nothing")
    if not served:
        raise ConfigError(
            f"engine.base_url={engine.base_url}: /v1/models lists no model: HTTP {status}, {_shown(body)}"
        )
    if engine.served_model and engine.served_model not in served:
        raise ConfigError(f"engine.served_model={engine.served_model}: is not served; {', '.join(served)}")
    model = engine.served_model or served[0]
    entry = next(entry for entry in listed if str(entry["id"]) == model)
    return replace(endpoint, model=model), entry

"""An engine whose every route answers only to who has its key.

vLLM's own key covers some prefixes (``/v1`` …) and leaves inference by ``/invocations`` open and, in its
developers' mode, ``/sleep`` and ``/collective_rpc``; SGLang's leaves ``/health_generate``, which generates,
and ``/metrics``. Whoever else is on the machine could change a measurement with them. `KeyOnly` is an ASGI
middleware before all of them. vLLM takes it by its ``--middleware``, in each of its API servers; SGLang has
no such flag, so there the app that uvicorn is given is wrapped.

The key comes in the environment's ``ENGINE_API_KEY`` and is taken out of it before the engine runs: its
processes inherit a digest only, which opens nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib
import os
import runpy
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

KEY, DIGEST = "ENGINE_API_KEY", "ENGINE_KEY_SHA256"
REFUSAL = b'{"error":"Unauthorized"}'

Scope = Mapping[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class KeyOnly:
    """Passes on what carries ``Authorization: Bearer KEY`` and answers all else with 401: known route or not,
    preflight or not. Without a digest in the environment it passes nothing on."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app
        self._digest = bytes.fromhex(os.environ.get(DIGEST, ""))

    async def __call__(self, scope: Scope, receive: Callable[..., Any], send: Send) -> None:
        if scope["type"] in ("http", "websocket") and not self._has_key(scope):
            await _refuse(scope["type"], send)
        else:
            await self._app(scope, receive, send)

    def _has_key(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, key = given.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(hashlib.sha256(key).digest(), self._digest)


async def _refuse(kind: str, send: Send) -> None:
    if kind == "websocket":  # before it was accepted: the server makes a 403 of it
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(REFUSAL))]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": REFUSAL})


def flags(middleware_flag: str | None = None) -> list[str]:
    """Takes the key out of the environment and puts `KeyOnly` before what this process will serve; the
    engine's arguments for that. ``middleware_flag`` is its own for an ASGI middleware, if it has one. Without
    a key the engine runs as it is."""
    key = os.environ.pop(KEY, None)
    if not key:
        return []
    os.environ[DIGEST] = hashlib.sha256(key.encode()).hexdigest()
    if middleware_flag is None:
        _wrap_served_apps()
        return ["--api-key", key]
    return ["--api-key", key, middleware_flag, f"{__name__}.{KeyOnly.__name__}"]


def run(module: str, middleware_flag: str | None = None) -> None:
    """``module`` as ``python -m`` runs it, with `flags`: in the command line ``ps`` would show the key."""
    sys.argv += flags(middleware_flag)
    sys.modules.pop(module, None)
    runpy.run_module(module, run_name="__main__")


def _wrap_served_apps() -> None:
    try:
        config: Any = importlib.import_module("uvicorn").Config
    except ModuleNotFoundError:  # the engine will say it better
        return
    made = config.__init__

    def keyed(self: Any, app: Any, *args: Any, **kwargs: Any) -> None:
        made(self, KeyOnly(app), *args, **kwargs)

    config.__init__ = keyed

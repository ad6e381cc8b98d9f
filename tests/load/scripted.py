"""Requests whose prompt is the script that the scripted server follows, and jobs made of them."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import orjson

from orchestrator.config.schema import SamplingConfig
from orchestrator.load.arrivals import Closed, Schedule
from orchestrator.load.driver import LoadJob
from orchestrator.load.render import render
from orchestrator.records import Endpoint, Item, Request

Script = Mapping[str, Any]


def request(number: int, script: Script, *, usage: str = "continuous") -> Request:
    content = orjson.dumps(dict(script)).decode()
    return render(
        Item(f"item-{number}", ({"role": "user", "content": content},), "", "none"),
        repeat=0,
        request_id=f"request-{number}",
        model="scripted",
        sampling=SamplingConfig(temperature=0.0),
        max_tokens=16,
        seed=0,
        usage=usage,
        extra={},
    )


def job(port: int, scripts: Sequence[Script], schedule: Schedule | None = None, **changes: Any) -> LoadJob:
    usage = changes.pop("usage", "continuous")
    values: dict[str, Any] = {
        "endpoint": Endpoint("127.0.0.1", port, "scripted"),
        "requests": tuple(request(i, script, usage=usage) for i, script in enumerate(scripts)),
        "schedule": schedule or Closed(len(scripts)),
        "usage": usage,
        "request_timeout_s": 20.0,
        "idle_timeout_s": 10.0,
        "duration_s": None,
        "processes": None,
        "expected_tokens_per_s": None,
        "zero": perf_counter(),
    }
    return LoadJob(**(values | changes))


def truth(port: int) -> dict[str, dict[str, Any]]:
    """When the server received each request and handed over each of its chunks, ``perf_counter`` seconds."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/truth") as response:
        found: dict[str, dict[str, Any]] = json.load(response)
    return found

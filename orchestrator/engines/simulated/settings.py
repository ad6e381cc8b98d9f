"""What a simulated engine is told on its command line. Standard library only, like all that it runs.

`Settings` is the one table of its flags: the server parses them, planning checks ``engine.args`` against it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from orchestrator.engines.adapter import to_flags


@dataclass(frozen=True, slots=True)
class Settings:
    """The model (``weights_gib`` and ``kv_gib`` over all GPUs), its GPUs (per GPU, by the datasheet), the
    scheduler, and how it behaves.

    ``speed``: its clock runs that many times faster than the wall's. ``ignore_thinking_budget``: as servers
    do that do not know the field. ``accuracy``: the share of questions whose answer it can work out that it
    answers correctly. ``mean_output_tokens``: of answers that may end by themselves. ``start_seconds``: on
    its own clock; None follows from the weights.

    ``enable_sleep_mode`` opens vLLM's routes for it; how long they take is on its own clock. ``drift`` and
    ``drift_period_s`` (on the wall's clock): every step takes 1 + drift * sin(2 pi t / period) of its time,
    with the machine's monotonic clock as t, so that all engines of a machine drift together.

    The rest are faults on demand: requests are counted from the engine's start, warm-up included;
    ``crash_asleep`` is the seconds, on its own clock, from its sleep to its death.
    """

    weights_gib: float
    parameters_b: float
    kv_bytes_per_token: float
    kv_gib: float
    bandwidth_gb_s: float
    bf16_tflops: float
    max_model_len: int = 4096
    reasoning: bool = False
    ignore_thinking_budget: bool = False
    compute_8bit: bool = False
    enable_prefix_caching: bool = False
    max_num_batched_tokens: int = 8192  # vLLM's own default on such a GPU, as are the requests
    max_num_seqs: int = 1024
    speed: float = 1.0
    accuracy: float = 0.8
    mean_output_tokens: float | None = None
    start_seconds: float | None = None
    enable_sleep_mode: bool = False
    first_sleep_seconds: float = 15.0  # on an H100 vLLM 0.25.1 took 14 and 20 s, and then the next two
    sleep_seconds: float = 0.3
    wake_seconds: float = 0.5
    drift: float = 0.0
    drift_period_s: float = 600.0
    oom_at_start: bool = False
    oom_after_requests: int | None = None
    crash_after_requests: int | None = None
    hang_after_requests: int | None = None
    crash_asleep: float | None = None
    wake_fails: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where it serves, and as which part of the whole."""

    host: str
    port: int
    served_model_name: str
    tensor_parallel_size: int
    node_rank: int


# May be 0; every other number is above it.
_FROM_0 = frozenset(
    {"accuracy", "start_seconds", "first_sleep_seconds", "sleep_seconds", "wake_seconds", "drift"}
    | {"crash_asleep"}
)
_RANGES = {"accuracy": "from 0 to 1", "drift": "from 0 to 1"}


def complaint(args: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first of ``args`` (flag -> value) that is no flag of a simulated engine or has an impossible value,
    and what is allowed; None when all are well."""
    known = {field.name.replace("_", "-"): field for field in fields(Settings)}
    for name, value in args.items():
        if name not in known:
            return name, f"is no flag of the simulated engine; it has {', '.join(known)}"
        kind, key = str(known[name].type), known[name].name
        if kind == "bool":
            if not isinstance(value, bool):
                return name, "must be true or false"
        elif isinstance(value, bool) or not isinstance(value, int if "int" in kind else int | float):
            return name, "must be a whole number" if "int" in kind else "must be a number"
        elif value < 0 or (value == 0 and key not in _FROM_0) or (key in _RANGES and value > 1):
            least = "from 0 up" if key in _FROM_0 else "above 0"
            return name, f"must be {_RANGES.get(key, least)}"
    return None


def parse(arguments: list[str]) -> tuple[Settings, Place]:
    """The command line of one engine. Exits with 2, like any engine, where it is wrong."""
    parser = argparse.ArgumentParser(prog="simulated", allow_abbrev=False)
    for kind in (Settings, Place):
        for field in fields(kind):
            flag, required = "--" + field.name.replace("_", "-"), field.default is MISSING
            if field.type == "bool":
                parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default)
            else:
                convert = int if "int" in str(field.type) else float if "float" in str(field.type) else str
                default = None if required else field.default
                parser.add_argument(flag, type=convert, required=required, default=default)
    given = vars(parser.parse_args(arguments))
    return (
        Settings(**{field.name: given[field.name] for field in fields(Settings)}),
        Place(**{field.name: given[field.name] for field in fields(Place)}),
    )


def flags(place: Place, args: Mapping[str, Any]) -> list[str]:
    """The words that `parse` takes."""
    return to_flags({field.name: getattr(place, field.name) for field in fields(place)}) + to_flags(args)

"""What the jobs of one command must agree on: a value that only the first job's would count for, otherwise,
would be without effect in the others, in silence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from orchestrator.config.schema import SweepConfig
from orchestrator.errors import ConfigError
from orchestrator.plan.rules import shown, value_of

# One Ray, one tracker, one folder of results, one plan.
COMMAND = (
    *("study_name", "results_dir", "dry_run", "prepare", "objective", "report"),
    *("ray", "tracker", "timeout.resources_s"),
)

# One engine, started once with these; `timeout.cell_s` alone is each cell's own.
DEPLOYMENT = (
    *("timeout.engine_start_s", "timeout.weights_s", "timeout.engine_stop_s"),
    *("engine.python", "engine.api_key_env", "hardware"),
)


def check_command(configs: Iterable[SweepConfig]) -> None:
    """Raises ConfigError for a key that is the whole command's and differs between its jobs."""
    _check(configs, COMMAND, "is the whole command's, so it must be the same for every job")


def check_deployment(configs: Iterable[SweepConfig]) -> None:
    """Raises ConfigError for a key that is the engine's and differs between cells that share one engine."""
    why = "is the engine's, and these cells share one: give all of them one value, or run them apart"
    _check(configs, DEPLOYMENT, why)


def _check(configs: Iterable[SweepConfig], keys: Sequence[str], why: str) -> None:
    first, *others = configs
    for key in keys:
        expected = value_of(first, key)
        for other in others:
            if (found := value_of(other, key)) != expected:
                name, one, another = _difference(key, expected, found)
                raise ConfigError(f"{name}={shown(one)} and {name}={shown(another)}: {name} {why}")


def _difference(key: str, one: Any, another: Any) -> tuple[str, Any, Any]:
    """The first key that differs, of a whole group of them."""
    if not hasattr(one, "__dataclass_fields__"):
        return key, one, another
    left, right = asdict(one), asdict(another)
    name = next(name for name in left if left[name] != right[name])
    return f"{key}.{name}", left[name], right[name]

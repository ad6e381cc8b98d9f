"""The report's command line: ``key=value``, as the sweep's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from pathlib import Path

from orchestrator.config.schema import SloConfig
from orchestrator.errors import ConfigError

FILTERS = (
    *("cell_id", "model", "model_kind", "weights", "engine", "engine_version", "opt"),
    *("tensor_parallel_size", "gpus", "nodes", "gpu_type", "dataset", "prompt", "load", "batch_size"),
    *("concurrency", "request_rate", "burstiness", "cache", "max_tokens", "thinking_budget"),
    *("seed", "run", "repeats"),
)
"""Columns of ``cells`` that a filter, or the baseline, may name."""
BASELINES = ("opt", "engine", "model", "tensor_parallel_size")
_LIMITS = tuple(f"slo.{one.name}" for one in fields(SloConfig))
_WANDB = ("wandb", "wandb.project", "wandb.entity")
_NOT_IN_PLACES = "/\\#?%:"  # what Weights & Biases refuses in the name of a project
_LONGEST_PLACE = 128


@dataclass(frozen=True)
class Options:
    """``accuracy_margin`` is a share (0.02 is two points), ``time_margin`` one of the baseline's value;
    ``slo_attainment`` the share of sent requests that must meet the limits. ``slo``: None where the cells'
    own limits count. ``price_gpu_hour``: of one GPU, in any currency; None for no cost. ``filters``: the
    values that a column may have, as text; ``baseline``: the one. ``wandb``: whether the report is pushed to
    Weights & Biases; its project and entity are None where the runs' own count."""

    results_dir: Path = Path("results")
    studies: tuple[str, ...] = ()
    out: Path = Path("report")
    baseline: Mapping[str, str] = field(default_factory=dict)
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    slo: SloConfig | None = None
    slo_attainment: float = 0.9
    accuracy_margin: float = 0.02
    time_margin: float = 0.05
    price_gpu_hour: float | None = None
    wandb: bool = False
    wandb_project: str | None = None
    wandb_entity: str | None = None


def parse(arguments: Sequence[str]) -> Options:
    """Raises ConfigError, in one line, for a key or a value that is none."""
    options, filters, limits = Options(), dict[str, tuple[str, ...]](), dict[str, float | None]()
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise ConfigError(f"{argument}: must be key=value, such as study=NAME")
        if key == "results_dir":
            options = replace(options, results_dir=Path(_text(key, value)).expanduser())
        elif key == "out":
            options = replace(options, out=_folder(key, value))
        elif key in ("study", "study_name"):
            options = replace(options, studies=_values(key, value))
        elif key == "baseline":
            options = replace(options, baseline=_baseline(value))
        elif key in _LIMITS:
            limits[key.removeprefix("slo.")] = None if value == "null" else _positive(key, value)
        elif key == "accuracy.margin":
            options = replace(options, accuracy_margin=_share(key, value))
        elif key == "time.margin":
            options = replace(options, time_margin=_share(key, value))
        elif key == "price.gpu_hour":
            options = replace(options, price_gpu_hour=_number(key, value, "the price of a GPU hour, above 0"))
        elif key == "slo.attainment":
            options = replace(options, slo_attainment=_share(key, value))
        elif key == "wandb":
            options = replace(options, wandb=_push(key, value))
        elif key == "wandb.project":
            options = replace(options, wandb_project=_place(key, value))
        elif key == "wandb.entity":
            options = replace(options, wandb_entity=_place(key, value))
        elif key in FILTERS:
            filters[key] = _values(key, value)
        else:
            keys = ("results_dir", "study", "out", "baseline", *_LIMITS, "slo.attainment")
            known = ", ".join((*keys, "accuracy.margin", "time.margin", "price.gpu_hour", *_WANDB, *FILTERS))
            raise ConfigError(f"{argument}: no such key; there are {known}")
    if not options.studies:
        raise ConfigError("study= is missing: name one study, or several as study=a,b")
    _keep_out(options)
    return replace(options, filters=filters, slo=SloConfig(**limits) if limits else None)


def _keep_out(options: Options) -> None:
    """A report's files are not put among results: its folder may be a study's own ``report``, and no other
    place in one."""
    out, results = options.out.resolve(), options.results_dir.expanduser().resolve()
    if out == results:
        raise ConfigError(f"out={options.out}: is the results_dir; name a folder of the report's own")
    for folder in (out, *out.parents):
        if (folder / "cells").is_dir() and folder / "report" not in (out, *out.parents):
            raise ConfigError(f"out={options.out}: is in the study {folder.name}; name {folder / 'report'}")


def as_text(value: object) -> str:
    """A column's value as the command line and the page have it: a list of optimizations joined by ``+``."""
    if isinstance(value, list | tuple):
        return "+".join(str(one) for one in value) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def counted(count: int, what: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{count} {what}" + ("" if count == 1 else "s")


def _values(key: str, text: str) -> tuple[str, ...]:
    """``a,b`` is two values; in brackets they are one, ``[fp8,kv-fp8]``, the same as ``fp8+kv-fp8``."""
    found, depth, current = [], 0, ""
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            found.append(current)
            current = ""
        elif letter not in "[]":
            current += "+" if letter == "," else letter
    values = tuple(one.strip() for one in (*found, current))
    if not all(values):
        raise ConfigError(f"{key}={text}: must be one value, or several with commas between them")
    return values


def _baseline(text: str) -> dict[str, str]:
    found = {}
    for part in _values("baseline", text):
        key, equals, value = part.partition("=")
        if key not in BASELINES or not equals or not value:
            raise ConfigError(
                f"baseline={text}: must be KEY=VALUE with a key of {', '.join(BASELINES)}, such as opt=none"
            )
        found[key] = value
    return found


def _text(key: str, value: str) -> str:
    if not value:
        raise ConfigError(f"{key}=: must be a path")
    return value


def _folder(key: str, value: str) -> Path:
    path = Path(_text(key, value)).expanduser()
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{key}={value}: is a file; name a folder")
    return path


def _push(key: str, value: str) -> bool:
    if value != "push":
        raise ConfigError(
            f"{key}={value}: must be push; without it the report's spec is stored beside the page"
        )
    return True


def _place(key: str, value: str) -> str:
    if not value.strip() or len(value) > _LONGEST_PLACE or set(value) & set(_NOT_IN_PLACES):
        raise ConfigError(
            f"{key}={value}: must be a name of at most {_LONGEST_PLACE} characters, none of {_NOT_IN_PLACES}"
        )
    return value


def _number(key: str, value: str, allowed: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not isfinite(number) or number <= 0:
        raise ConfigError(f"{key}={value}: must be {allowed}")
    return number


def _positive(key: str, value: str) -> float:
    return _number(key, value, "a number of seconds above 0, or null")


def _share(key: str, value: str) -> float:
    allowed = "a number above 0 and at most 1 (0.02 is two percentage points)"
    number = _number(key, value, allowed)
    if number > 1:
        raise ConfigError(f"{key}={value}: must be {allowed}")
    return number

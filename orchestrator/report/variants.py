"""Stored cells as *variants*: what was measured, in what setting, with all its runs; and the cells that stand
apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orchestrator.metrics.stats import mean, present
from orchestrator.metrics.validity import NOTES
from orchestrator.report.options import as_text
from orchestrator.report.requests import Requests

Row = Mapping[str, Any]
Key = tuple[tuple[str, str], ...]

CONFIGURATION = (
    *("model", "model_revision", "weights", "engine", "engine_version", "engine_settings", "opt"),
    *("context", "gpu_type", "gpus", "tensor_parallel_size", "nodes", "simulated"),
)
SETTING = (
    *("dataset", "dataset_revision", "prompt", "items", "load", "batch_size", "concurrency"),
    *("request_rate", "burstiness", "normalize", "cache", "usage", "max_tokens", "repeats"),
    *("temperature", "top_p", "top_k", "seeded", "other_settings"),
)
# Keys of a stored configuration that another column says, or that cannot change a number.
_ELSEWHERE = frozenset(
    {
        *("model", "engine", "opt", "hardware", "weights", "sampling", "tracker", "ray", "timeout", "slo"),
        *("study_name", "results_dir", "seed", "repeats", "runs", "max_tokens", "limit", "dry_run"),
        *("rerun", "objective", "tensor_parallel_size", "prepare", "priority", "max_gpus", "precision"),
        *("search", "secrets", "report"),
    }
)
_LOAD_ELSEWHERE = frozenset(
    {
        *("kind", "batch_size", "concurrency", "rate", "burstiness", "normalize", "usage", "cache"),
        *("processes", "telemetry_hz", "request_timeout_s", "idle_timeout_s"),
    }
)
_DATASET_ELSEWHERE = frozenset({"name", "hub_id", "revision", "gated", "size", "prompt"})
STARVED = "gpu_starved"  # a note that changes what is measured: the engine's CPU side


@dataclass(frozen=True)
class Run:
    """One cell of a variant. ``requests`` is None where none are stored."""

    study: str
    row: Row
    requests: Requests | None = None


@dataclass(frozen=True, eq=False)
class Variant:
    """Cells that differ in nothing but when they were measured (and the seed of their arrivals)."""

    configuration: Key
    setting: Key
    runs: tuple[Run, ...]

    @cached_property
    def facts(self) -> dict[str, str]:
        """Configuration and setting, as text."""
        return dict(self.configuration) | dict(self.setting)

    @property
    def row(self) -> Row:
        """The first run's, for what all of them share."""
        return self.runs[0].row

    def values(self, column: str) -> list[float]:
        """One number a run, of the runs that have it."""
        return [float(value) for value in present(run.row.get(column) for run in self.runs)]

    @cached_property
    def graded(self) -> tuple[list[str], list[bool]]:
        """Items and whether each gradable answer is right, of all runs."""
        items, right = list[str](), list[bool]()
        for run in self.runs:
            if run.requests is not None:
                more = run.requests.graded()
                items += more[0]
                right += more[1]
        return items, right

    def of_requests(self, column: str) -> tuple[list[str], list[float]]:
        """Items and values of the ok requests of all runs, that have one."""
        if column not in self._read:
            items, values = list[str](), list[float]()
            for run in self.runs:
                if run.requests is not None:
                    more = run.requests.of_ok(column)
                    items += more[0]
                    values += more[1]
            self._read[column] = items, values
        return self._read[column]

    @cached_property
    def _read(self) -> dict[str, tuple[list[str], list[float]]]:
        return {}

    def mean(self, column: str) -> float | None:
        """Over the runs."""
        return mean(self.values(column))


@dataclass(frozen=True)
class Apart:
    """A cell that enters no comparison, and why."""

    study: str
    row: Row
    kind: str
    why: str


def sort_out(runs: Iterable[Run]) -> tuple[list[Variant], list[Apart]]:
    """Variants of the cells that count, in the order of their names, and the others. Simulated cells count
    only where there is nothing else: beside measured ones they stand apart."""
    runs = _once(runs)
    any_real = any(not run.row["simulated"] for run in runs)
    grouped: dict[tuple[Key, Key], list[Run]] = {}
    apart = []
    for run in runs:
        if (kind_why := _apart(run.row, any_real)) is not None:
            apart.append(Apart(run.study, run.row, *kind_why))
        else:
            key = (_key(run.row, CONFIGURATION), _key(run.row, SETTING))
            grouped.setdefault(key, []).append(run)
    variants = [Variant(*key, tuple(_in_order(grouped[key]))) for key in sorted(grouped)]
    return variants, apart


def _once(runs: Iterable[Run]) -> list[Run]:
    """An attempt that lies in two studies was measured once."""
    found: dict[object, Run] = {}
    for run in runs:
        found.setdefault(run.row.get("attempt_id") or (run.study, run.row["cell_id"]), run)
    return list(found.values())


def _apart(row: Row, any_real: bool) -> tuple[str, str] | None:
    if row["status"] != "done":
        why = row.get("reason") or ", ".join(row.get("flags") or ()) or "no reason is stored"
        return str(row["status"]), " ".join(str(why).split())
    if row["simulated"] and any_real:
        return "simulated", "a simulated engine's numbers are no measurement"
    if STARVED in (row.get("flags") or ()):
        return "starved", NOTES[STARVED]
    return None


def _in_order(runs: Sequence[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: (run.row.get("run") or 1, str(run.row["cell_id"])))


def _key(row: Row, names: Sequence[str]) -> Key:
    extra = _settings(row)
    return tuple((name, as_text(extra[name] if name in extra else row.get(name))) for name in names)


def configuration_of(row: Row) -> dict[str, Any]:
    """The whole configuration that the cell was composed of; empty where it is not stored."""
    return dict(_json(row.get("provenance")).get("config") or {})


def _settings(row: Row) -> dict[str, str]:
    """What no column says: the user's engine flags and environment, and the rest of load and dataset."""
    config = configuration_of(row)
    engine = config.get("engine") or {}
    model = config.get("model") or {}
    rest: dict[str, Any] = {name: value for name, value in config.items() if name not in _ELSEWHERE}
    for part, elsewhere in (("load", _LOAD_ELSEWHERE), ("dataset", _DATASET_ELSEWHERE)):
        rest[part] = {k: v for k, v in (config.get(part) or {}).items() if k not in elsewhere}
    own = {name: engine.get(name) for name in ("args", "env", "base_url")}
    return {
        "cache": as_text(row.get("cache") or "cold"),  # there was no other in older versions
        "engine_settings": _compact(own),
        "context": as_text(model.get("context")),
        "other_settings": _compact(rest),
    }


def _compact(values: Mapping[str, Any]) -> str:
    """As JSON without what is absent, so that a key that a newer version has and nobody set is none."""
    known = {k: v for k, v in values.items() if v not in (None, {}, [], False)}
    known = {
        k: {a: b for a, b in v.items() if b is not None} if isinstance(v, dict) else v
        for k, v in known.items()
    }
    return json.dumps({k: v for k, v in known.items() if v != {}}, sort_keys=True)


def _json(text: object) -> dict[str, Any]:
    if isinstance(text, str):
        try:
            found = json.loads(text)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}
    return dict(text) if isinstance(text, Mapping) else {}

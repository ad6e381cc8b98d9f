"""Stored cells as *variants*: what was measured, in what setting, with all its runs; and the cells that stand
apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.metrics.grouped import Grouped, placed
from orchestrator.metrics.stats import mean, present
from orchestrator.metrics.validity import NOTES
from orchestrator.report.options import as_text
from orchestrator.report.requests import Requests
from orchestrator.report.settings import configuration_of, settings
from orchestrator.store.schema import quoted_from

Row = Mapping[str, Any]
Key = tuple[tuple[str, str], ...]

CONFIGURATION = (
    *("model", "model_revision", "weights", "engine", "engine_version", "engine_settings", "opt"),
    *("context", "gpu_type", "gpus", "tensor_parallel_size", "nodes", "simulated"),
    *("model_settings", "parser_settings", "opt_settings", "hardware_settings"),
)
SETTING = (
    *("dataset", "dataset_revision", "prompt", "items", "load", "batch_size", "concurrency"),
    *("request_rate", "burstiness", "normalize", "cache", "usage", "max_tokens", "repeats"),
    *("thinking_budget", "temperature", "top_p", "top_k", "seeded", "sampling_settings", "other_settings"),
)
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
        found = [requests.graded() for requests in self._stored]
        return [item for items, _ in found for item in items], [one for _, right in found for one in right]

    def of_requests(self, column: str) -> tuple[list[str], list[float]]:
        """Items and values of the ok requests of all runs, that have one."""
        found = [requests.of_ok(column) for requests in self._stored]
        return [item for items, _ in found for item in items], [one for _, values in found for one in values]

    def by_item(self, column: str) -> Grouped:
        """The same by items. Of ``correct``, the answers of `graded`, 1.0 where they are right."""
        if column not in self._grouped:
            items, places = self._items
            read = [one.answers() if column == "correct" else one.ok(column) for one in self._stored]
            kept = np.concatenate([np.empty(0, np.bool_), *(kept for kept, _ in read)])
            values = np.concatenate([np.empty(0), *(values for _, values in read)])
            self._grouped[column] = placed(items, places[kept], values[kept])
        return self._grouped[column]

    def item_means(self, column: str) -> dict[str, float]:
        """The mean of each item's answers in all runs; of ``correct``, of those that can be graded."""
        found = self.by_item(column)
        return dict(zip(found.items.tolist(), found.means.tolist(), strict=True))

    @property
    def _stored(self) -> list[Requests]:
        return [run.requests for run in self.runs if run.requests is not None]

    @cached_property
    def _items(self) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
        """The items of all requests in ascending order, and the place of each request's."""
        names = [item for requests in self._stored for item in requests.columns["item_id"]]
        return np.unique(np.array(names, np.str_), return_inverse=True)

    @cached_property
    def _grouped(self) -> dict[str, Grouped]:
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
            grouped.setdefault(_key(run.row), []).append(run)
    variants = [Variant(*key, tuple(_in_order(grouped[key]))) for key in sorted(grouped, key=_natural)]
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
    if row["simulated"] and any_real and (source := quoted_from(row)) is not None:
        return "quoted", f"its numbers are quoted from {source} and were not measured here"
    if row["simulated"] and any_real:
        return "simulated", "a simulated engine's numbers are no measurement"
    if STARVED in (row.get("flags") or ()):
        return "starved", NOTES[STARVED]
    return None


def _in_order(runs: Sequence[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: (run.row.get("run") or 1, str(run.row["cell_id"])))


def _natural(key: tuple[Key, Key]) -> list[tuple[str, float, str]]:
    """As names go, but numbers by their size: a budget of 128 before one of 1024."""
    return [(name, _number(value), value) for part in key for name, value in part]


def _number(text: str) -> float:
    """Infinity for what is none."""
    try:
        value = float(text)
    except ValueError:
        return math.inf
    return value if math.isfinite(value) else math.inf


def _key(row: Row) -> tuple[Key, Key]:
    found = settings(row)
    found["cache"] = as_text(row.get("cache") or "cold")  # there was no other in older versions
    found["context"] = as_text((configuration_of(row).get("model") or {}).get("context"))

    def of(names: Sequence[str]) -> Key:
        return tuple((name, as_text(found[name] if name in found else row.get(name))) for name in names)

    return of(CONFIGURATION), of(SETTING)

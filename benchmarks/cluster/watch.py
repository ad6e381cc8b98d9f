"""Looks at a sweep from outside while it runs: the head's page for Prometheus, and Ray's state API."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

from prometheus_client.parser import text_string_to_metric_families

from orchestrator.track.metric_names import METRICS, exported

PAGE_EVERY_S, STATE_EVERY_S, END_S = 1.0, 5.0, 20.0
Series = Mapping[tuple[tuple[str, str], ...], float]
"""The values of one metric by the labels that `METRICS` gives it, and ``study``."""


def parse(page: str) -> dict[str, Series]:
    """The sweep's own metrics of a page, by their exported names."""
    wanted = {exported(name): (*metric.labels, "study") for name, metric in METRICS.items()}
    found: defaultdict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(dict)
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name in wanted:
                labels = tuple((key, sample.labels.get(key, "")) for key in wanted[sample.name])
                found[sample.name][labels] = sample.value
    return dict(found)


class Watch:
    """A context manager. ``pages`` are all that were read, in order; ``actors`` and ``groups`` map the names
    that the state API listed to the states that it showed."""

    def __init__(self, metrics: str, dashboard: str) -> None:
        self.pages: list[dict[str, Series]] = []
        self.actors: defaultdict[str, set[str]] = defaultdict(set)
        self.groups: defaultdict[str, set[str]] = defaultdict(set)
        self._metrics, self._dashboard = metrics, dashboard
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        listed_s = time.monotonic()
        while not self._over.wait(PAGE_EVERY_S):
            self._read_page()
            if time.monotonic() - listed_s > STATE_EVERY_S:
                with suppress(Exception):  # what it never listed is said by the checks
                    self._list()
                listed_s = time.monotonic()

    def _read_page(self) -> None:
        with suppress(OSError), urllib.request.urlopen(self._metrics, timeout=5) as answer:
            if page := parse(answer.read().decode()):
                self.pages.append(page)

    def _list(self) -> None:
        from ray.util.state import list_actors, list_placement_groups

        for actor in list_actors(self._dashboard, limit=10_000):
            self.actors[actor.name or actor.actor_id].add(actor.state)
        for group in list_placement_groups(self._dashboard, limit=10_000):
            self.groups[group.name].add(group.state)

    def read_the_end(self, cells: int) -> None:
        """The last page, which is exported some seconds late, and the last states; after the context."""
        deadline = time.monotonic() + END_S
        while time.monotonic() < deadline:
            self._read_page()
            if self.pages and total(self.pages[-1], "cells", status="done") == cells:
                break
            time.sleep(PAGE_EVERY_S)
        self._list()


def total(page: Mapping[str, Series], name: str, **labels: str) -> float:
    """The sum over the series that carry these labels; 0 without any."""
    wanted = set(labels.items())
    return sum(value for key, value in page.get(exported(name), {}).items() if wanted <= set(key))

"""Samples an engine's Prometheus page, and the GPUs, while a load runs."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from contextlib import closing, suppress
from difflib import get_close_matches
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from math import isfinite
from time import perf_counter, sleep
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import psutil

from orchestrator.errors import MeasurementError
from orchestrator.records import Endpoint, Sample
from orchestrator.telemetry.cpu import EngineCpus
from orchestrator.telemetry.gpu import GpuUse, open_gpus
from orchestrator.telemetry.neighbours import Neighbours
from orchestrator.telemetry.prometheus import metric_names, values

TIMEOUT_S = 5.0
SETTLE_S = 0.05
SETTLE_READS = 20
GPU_USE_EVERY_S = 1.0  # asking who is on a GPU costs more than reading its counters
# One series per data-parallel engine: a share of each engine's own cache averages, the rest adds up.
AVERAGED = frozenset({"kv_usage", "spec_accept_rate"})


class Scraper:
    """One keep-alive connection to an engine's ``/metrics``."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.url = f"{endpoint.url}/metrics"
        self._path = f"{endpoint.base_path}/metrics"
        self._headers = {"Authorization": f"Bearer {endpoint.api_key}"} if endpoint.api_key else {}
        connect = HTTPSConnection if endpoint.tls else HTTPConnection
        self._connection = connect(endpoint.host, endpoint.port, timeout=TIMEOUT_S)

    def page(self) -> bytes:
        """Raises MeasurementError when there is no such page."""
        return self._get(self._path)

    def narrow(self, names: Collection[str], lazy: Collection[str] = ()) -> None:
        """From now on asks for these metrics alone, if the server can. ``lazy`` ones may not be there yet.

        Rendering the whole page holds vLLM's front end, and with it every stream, several times longer.
        prometheus_client's own pages take ``?name[]=``; vLLM has one of them behind the trailing slash, while
        without it another package answers that ignores the query.
        """
        narrowed = f"{self._path}/?{urlencode([('name[]', name) for name in sorted(names)])}"
        try:
            page = self._get(narrowed)
        except MeasurementError:
            return
        if set(names) - set(lazy) <= metric_names(page):
            self._path = narrowed

    def close(self) -> None:
        self._connection.close()

    def _get(self, path: str) -> bytes:
        try:
            self._connection.request("GET", path, headers=self._headers)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, HTTPException, ValueError) as error:  # ValueError: a head that is no HTTP
            self.close()
            raise MeasurementError(f"{self.url} cannot be read: {error!r}") from error
        if response.status != 200:
            raise MeasurementError(f"{self.url} answers HTTP {response.status}")
        return body


def assert_present(endpoint: Endpoint, names: Mapping[str, str], lazy: Collection[str] = ()) -> None:
    """Raises MeasurementError unless the engine exposes every metric of ``names`` (`Sample` field -> metric)
    but those of the fields ``lazy``, naming what is missing and what the page has that looks like it."""
    with closing(Scraper(endpoint)) as scraper:
        there = metric_names(scraper.page())
    missing = [
        f"{name} (for {field}; similar: {', '.join(_similar(name, there)) or 'none'})"
        for field, name in names.items()
        if name not in there and field not in lazy
    ]
    if missing:
        raise MeasurementError(
            f"{scraper.url} does not have {'; '.join(missing)}. "
            "This version of the engine names its metrics differently."
        )


def read_once(endpoint: Endpoint, names: Mapping[str, str], zero: float, gpu: bool = False) -> Sample:
    """One sample, now. ``zero`` is the cell's start on `time.perf_counter`. Raises MeasurementError when
    the page cannot be read."""
    with closing(Scraper(endpoint)) as scraper:
        at, fields = _of_page(scraper, names, ())
    if gpu and (gpus := open_gpus()):
        fields |= gpus.read()
    return Sample(t_s=at - zero, **fields)


class Sampler:
    """Samples the engine and the GPUs ``hz`` times a second in a daemon thread, from enter to exit.

    The first sample is taken before enter returns and the last one in exit, once the engine's counters have
    come to rest, so samples bracket whatever runs inside. ``names`` maps `Sample` fields to exposed metric
    names; empty samples the GPUs alone. The counters of the fields ``lazy`` appear on the page with their
    first increment, so until then they are 0. ``zero`` is the cell's start on `time.perf_counter`. A page
    that cannot be read leaves None in the engine's fields; the first one must be readable (MeasurementError).

    ``pid`` is the root of the engine's processes, whose CPU time is sampled too; None: not.
    ``expected_tokens``: how many output tokens the clients have seen; set inside where it is known.
    """

    expected_tokens: int | None = None

    def __init__(
        self,
        endpoint: Endpoint,
        names: Mapping[str, str],
        hz: float,
        zero: float,
        gpu: bool = False,
        lazy: Collection[str] = (),
        pid: int | None = None,
    ) -> None:
        self.samples: list[Sample] = []
        self.gpu_uses: list[GpuUse] = []
        self.failures = 0
        self._names = dict(names)
        self._lazy = frozenset(lazy)
        self._period_s = 1.0 / hz
        self._zero = zero
        self._gpus = open_gpus() if gpu else None
        self._gpu_use_due = 0.0
        self._cpus = None if pid is None else (EngineCpus(pid), Neighbours(pid))
        self._scraper = Scraper(endpoint) if names else None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)

    def __enter__(self) -> Sampler:
        if self._scraper:
            lazy_names = [name for field, name in self._names.items() if field in self._lazy]
            self._scraper.narrow(self._names.values(), lazy_names)
        self._take(first=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        self._gpu_use_due = 0.0
        self._settle()
        if self._scraper:
            self._scraper.close()

    def _settle(self) -> None:
        """Samples until the token counter rests: an engine may count a step after sending its tokens."""
        self._take()
        for _ in range(SETTLE_READS):
            tokens = self.samples[-1].generation_tokens_total
            if tokens is None or self._all_counted():
                return
            sleep(SETTLE_S)
            self._take()
            if self.samples[-1].generation_tokens_total == tokens:
                return

    def _all_counted(self) -> bool:
        """An engine without requests that has counted what the clients saw counts no more."""
        first, last = self.samples[0].generation_tokens_total, self.samples[-1]
        if first is None or last.generation_tokens_total is None or self.expected_tokens is None:
            return False
        counted = last.generation_tokens_total - first >= self.expected_tokens
        return counted and last.running == last.waiting == 0

    def _run(self) -> None:
        due = perf_counter() + self._period_s
        while not self._stopped.wait(max(0.0, due - perf_counter())):
            self._take()
            due = max(due + self._period_s, perf_counter())

    def _take(self, *, first: bool = False) -> None:
        at, fields = perf_counter(), dict[str, Any]()
        try:
            if self._scraper:
                at, fields = _of_page(self._scraper, self._names, self._lazy)
        except MeasurementError:
            if first:
                raise
            self.failures += 1
        self.samples.append(Sample(t_s=at - self._zero, **fields, **self._of_machine()))

    def _of_machine(self) -> dict[str, Any]:
        fields = dict[str, Any]()
        if self._gpus:
            fields |= self._gpus.read()
            if perf_counter() >= self._gpu_use_due:
                self.gpu_uses.append(self._gpus.use())
                self._gpu_use_due = perf_counter() + GPU_USE_EVERY_S
        if self._cpus:
            engine, neighbours = self._cpus
            with suppress(psutil.Error, OSError, ValueError):  # processes come and go while they are read
                every, busiest = engine.read()
                fields |= {"engine_cpus": every, "engine_cpu_busiest": busiest} | neighbours.read()
        return fields

    @property
    def cpu_seconds(self) -> dict[str, float]:
        """What each of the engine's processes used, by its title; empty where they were not looked at."""
        return dict(self._cpus[0].seconds) if self._cpus else {}


def _of_page(
    scraper: Scraper, names: Mapping[str, str], lazy: Collection[str]
) -> tuple[float, dict[str, Any]]:
    """The engine's fields, and the middle of the exchange with it. A field one of whose series is malformed,
    NaN or infinite is left out: the rest of them would pass for the whole."""
    asked = perf_counter()
    page = scraper.page()
    middle = (asked + perf_counter()) / 2
    fields: dict[str, Any] = {}
    for field, name in names.items():
        try:
            found = values(page, name)
        except ValueError:
            continue
        if found and all(map(isfinite, found)):
            fields[field] = sum(found) / (len(found) if field in AVERAGED else 1)
        elif not found and field in lazy:
            fields[field] = 0.0
    return middle, fields


def _similar(name: str, there: Collection[str]) -> list[str]:
    return get_close_matches(
        name, [known for known in there if not known.endswith("_created")], n=3, cutoff=0.5
    )

"""When requests are sent: pure seeded functions that draw the whole schedule before the run.

A schedule does not depend on how many processes send it.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from orchestrator.config.schema import LoadConfig
from orchestrator.errors import ConfigError
from orchestrator.records import Batch, Closed, Open, Schedule

__all__ = ["Batch", "Closed", "Open", "Schedule", "Trace", "draw", "gamma_gaps", "ramp_times", "read_trace"]

Floats: TypeAlias = NDArray[np.float64]

_KINDS = ("batch", "closed", "constant", "poisson", "gamma", "trace", "ramp")


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Recorded arrivals: seconds after the first, and the token counts of each request. Shape (n,) each."""

    times_s: Floats
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]


def draw(load: LoadConfig, n: int, seed: int) -> Schedule:
    """The schedule of ``n`` requests. Raises ConfigError when a key that ``load.kind`` needs is missing.

    - ``constant``, ``poisson``, ``gamma``: the i-th arrival is the sum of the first i gaps, of mean 1/rate.
      ``normalize`` scales them so that the n gaps last n/rate.
    - ``ramp``: a Poisson process whose rate goes linearly from ``rate_start`` to ``rate``, given that n
      requests arrive: it lasts 2n / (rate_start + rate).
    - ``trace``: the first n arrivals of ``path``, ``speedup`` times as fast.
    """
    if load.kind not in _KINDS:
        raise ConfigError(f"load.kind={load.kind}: must be one of {', '.join(_KINDS)}")
    if load.kind == "closed":
        return Closed(_count(load.concurrency, "load.concurrency", load.kind))
    if load.kind == "batch":
        return Batch(_count(load.batch_size, "load.batch_size", load.kind))
    if load.kind == "trace":
        return Open(_replay(load, n))

    rate = _positive(load.rate, "load.rate", load.kind)
    random = np.random.default_rng(seed)
    if load.kind == "ramp":
        start = load.rate_start or 0.0
        if not 0 <= start < float("inf"):
            raise ConfigError(f"load.rate_start={start}: load=ramp needs a number of at least 0")
        return Open(ramp_times(n, start, rate, random))
    if load.kind == "constant":
        gaps = np.full(n, 1 / rate)
    else:
        poisson = load.kind == "poisson"
        burstiness = 1.0 if poisson else _positive(load.burstiness, "load.burstiness", load.kind)
        gaps = gamma_gaps(n, rate, burstiness, random)
    if load.normalize:
        gaps *= (n / rate) / gaps.sum()
    return Open(np.cumsum(gaps))


def gamma_gaps(n: int, rate: float, burstiness: float, random: np.random.Generator) -> Floats:
    """n gaps in s ~ Gamma(shape = burstiness, scale = 1 / (rate · burstiness)): mean 1/rate, coefficient of
    variation 1/√burstiness. Burstiness 1 is Poisson, below 1 is burstier."""
    return random.gamma(shape=burstiness, scale=1 / (rate * burstiness), size=n)


def ramp_times(n: int, rate_start: float, rate_end: float, random: np.random.Generator) -> Floats:
    """n arrivals of an inhomogeneous Poisson process with a linear rate, given that there are n.

    Given their number, the arrivals are independent with density rate(t)/n on [0, T], T = 2n / (start + end):
    sorted uniforms through the inverse of Λ(t)/n, Λ(t) = start·t + (end − start)·t² / 2T.
    """
    total_s = 2 * n / (rate_start + rate_end)
    expected = np.sort(random.random(n)) * n
    slope = (rate_end - rate_start) / total_s
    # The root of Λ(t) = expected in the form that does not cancel, whatever the slope's sign.
    root = np.sqrt(np.maximum(rate_start**2 + 2 * slope * expected, 0.0))
    return np.asarray(2 * expected / np.maximum(rate_start + root, np.finfo(float).tiny))


def read_trace(path: str | Path) -> Trace:
    """Arrivals and token counts from a CSV with a header, sorted by time.

    Two layouts: Azure's (``TIMESTAMP,ContextTokens,GeneratedTokens``, date and time) and BurstGPT's
    (``Timestamp,Model,Request tokens,Response tokens,…``, seconds). Raises ConfigError in one line.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = _columns(reader.fieldnames or (), path)
            rows = [_row(row, columns, path, reader.line_num) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"load.path={path}: cannot be read as a CSV trace ({error})") from None
    if not rows:
        raise ConfigError(f"load.path={path}: the trace has no rows")
    times = np.array([row[0] for row in rows])
    order = np.argsort(times, kind="stable")
    return Trace(
        times_s=(times - times.min())[order] / 1e9,
        prompt_tokens=np.array([row[1] for row in rows], np.int64)[order],
        output_tokens=np.array([row[2] for row in rows], np.int64)[order],
    )


_LAYOUTS = (
    ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    ("Timestamp", "Request tokens", "Response tokens"),
)
_ZONE = re.compile(r"(Z|[+-]\d\d:\d\d)$")


def _columns(header: object, path: str | Path) -> tuple[str, str, str]:
    names = [str(name) for name in header] if isinstance(header, (list, tuple)) else []
    for layout in _LAYOUTS:
        if set(layout) <= set(names):
            return layout
    known = " or ".join(",".join(layout) for layout in _LAYOUTS)
    raise ConfigError(f"load.path={path}: the header is {','.join(names)!r}, must have {known}")


def _row(
    row: dict[str, str | None], columns: tuple[str, str, str], path: str | Path, line: int
) -> tuple[int, int, int]:
    """(ns, prompt tokens, output tokens). Whole ns, since a float does not hold a date to the ns."""
    try:
        when, prompt, output = ((row[name] or "").strip() for name in columns)
        if columns[0] == "TIMESTAMP":
            # numpy reads Azure's seven decimals, datetime does not; both traces are in UTC.
            nanoseconds = int(np.datetime64(_ZONE.sub("", when), "ns").astype(np.int64))
            if nanoseconds == np.iinfo(np.int64).min:
                raise ValueError("not a time")
        else:
            nanoseconds = round(float(when) * 1e9)
        counts = int(prompt), int(output)
        if min(counts) < 0:
            raise ValueError("a negative count")
    except (ValueError, OverflowError) as error:
        values = ",".join(str(row.get(name)) for name in columns)
        raise ConfigError(f"load.path={path}: line {line} is {values!r} ({error})") from None
    return nanoseconds, *counts


def _replay(load: LoadConfig, n: int) -> Floats:
    if not load.path:
        raise ConfigError("load.path=None: load=trace needs a CSV of arrivals")
    speedup = _positive(load.speedup, "load.speedup", load.kind)
    times = read_trace(load.path).times_s
    if len(times) < n:
        raise ConfigError(
            f"load.path={load.path}: {len(times)} arrivals for {n} requests, lower limit or repeats"
        )
    return np.asarray(times[:n] / speedup)


def _positive(value: float | None, key: str, kind: str) -> float:
    if value is None or not 0 < value < float("inf"):
        raise ConfigError(f"{key}={value}: load={kind} needs a number above 0")
    return value


def _count(value: int | None, key: str, kind: str) -> int:
    if value is None or value < 1:
        raise ConfigError(f"{key}={value}: load={kind} needs a whole number of at least 1")
    return value

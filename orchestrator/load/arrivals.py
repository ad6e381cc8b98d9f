"""When requests are sent: pure seeded functions that draw the whole schedule before the run.

A schedule does not depend on how many processes send it.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from orchestrator.config.schema import LoadConfig
from orchestrator.errors import ConfigError
from orchestrator.load.trace import read_trace
from orchestrator.records import Batch, Closed, Open, Schedule

__all__ = [
    "Batch",
    "Closed",
    "Open",
    "Schedule",
    "check_trace",
    "draw",
    "gamma_gaps",
    "ramp_times",
    "read_trace",
]

Floats: TypeAlias = NDArray[np.float64]

_KINDS = ("batch", "closed", "constant", "poisson", "gamma", "trace", "ramp")


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


def check_trace(load: LoadConfig, requests: int | None, at_most: int | None = None) -> None:
    """Raises ConfigError where ``load`` replays a trace that cannot be read, or that has fewer arrivals than
    there will be ``requests``; where they are not known yet, ``at_most`` arrivals are read, None: all."""
    if load.kind == "trace" and load.path and requests is None:
        read_trace(load.path, at_most)
    elif load.kind == "trace":
        _replay(load, requests or 0)


def _replay(load: LoadConfig, n: int) -> Floats:
    if not load.path:
        raise ConfigError("load.path=None: load=trace needs a file of arrivals")
    speedup = _positive(load.speedup, "load.speedup", load.kind)
    times = read_trace(load.path, n).times_s
    if len(times) < n:
        raise ConfigError(
            f"load.path={load.path}: {len(times)} arrivals for {n} requests, lower limit or repeats"
        )
    return np.asarray(times / speedup)


def _positive(value: float | None, key: str, kind: str) -> float:
    if value is None or not 0 < value < float("inf"):
        raise ConfigError(f"{key}={value}: load={kind} needs a number above 0")
    return value


def _count(value: int | None, key: str, kind: str) -> int:
    if value is None or value < 1:
        raise ConfigError(f"{key}={value}: load={kind} needs a whole number of at least 1")
    return value

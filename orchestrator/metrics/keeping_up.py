"""Whether the server kept up with an open load: what was offered, what it served, and the backlog."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, exp, inf, sqrt

import numpy as np
from numpy.typing import NDArray

from orchestrator.metrics.measurement import Measurement
from orchestrator.metrics.requests import cut
from orchestrator.metrics.stats import product_limit
from orchestrator.records import Open, Record

MIN_OF_ASKED_RATE = 0.95
SPARE = 0.1  # of its capacity, with which a server is said to keep up
MAX_CHANCE = 0.01  # of such a backlog on a server with that to spare
MIN_GROWTH, MAX_RISE_GROWTH = 0.02, 0.1  # of the requests that arrived
MAX_SLOPE_CHANCE = 0.002
FEWEST = 20
MIN_ANSWERS = 4  # one after another, in the time that is looked at
MAX_RANGE = 0.8  # of the standard deviation of a backlog without anything to spare
MIN_RANGE = 0.025  # of the requests that arrived

Floats = NDArray[np.float64]


def per_s(times_s: Sequence[float]) -> float | None:
    """Arrivals per second; None where they span no time."""
    span_s = max(times_s) - min(times_s) if times_s else 0.0
    return (len(times_s) - 1) / span_s if span_s > 0 else None


def kept_up(measurement: Measurement) -> dict[str, float | None]:
    """Of an open load; None for one whose requests wait for each other, and where nothing was sent.

    The arrival span lasts from the first sent to the last. offered_request_per_s = requests sent after the
    first / span; served_request_per_s = ok requests that ended within it / span. A server that keeps up with
    a load of long answers serves less than is offered while its ramp lasts; `behind` tells whether it was
    that. drain_s = end of the window − end of the span.
    """
    sent = [record.sent_s for record in measurement.records if record.sent_s is not None]
    window = measurement.window
    if not isinstance(measurement.conditions.schedule, Open) or window is None:
        return dict.fromkeys(("offered_request_per_s", "served_request_per_s", "drain_s"))
    span_s = max(sent) - min(sent)
    served = sum(record.end_s <= max(sent) for record in measurement.ok)
    return {
        "offered_request_per_s": per_s(sent),
        "served_request_per_s": served / span_s if span_s > 0 else None,
        "drain_s": max(0.0, window.end_s - max(sent)),
    }


def behind(measurement: Measurement) -> bool | None:
    """Whether ever more requests of an open load were in flight because the server was too slow for them;
    None where the load was too short to tell.

    Two things together. By the end of the arrival span the backlog (`_backlog`) had grown by more than a
    server with a tenth of its capacity to spare would let it (`_chance`, at most 1 %), and by more than 2 %
    of what arrived. And requests lasted the longer the later they came, which long answers at the start of a
    load do not bring about (`_lasted_longer`).

    Otherwise it kept up where the backlog wandered less than that of a server with nothing to spare does:
    such a one is a random walk that is reflected where the server idles, and stays within 0.8 of its standard
    deviation in one case in five, less often with every request above the server's capacity. None where it
    wandered farther, where less than four answers' time was looked at, and below 20 requests.
    """
    records = [record for record in measurement.records if record.sent_s is not None]
    window = measurement.window
    if not isinstance(measurement.conditions.schedule, Open) or window is None:
        return False
    if len(records) < FEWEST:
        return None
    records.sort(key=lambda record: record.sent_s or 0.0)
    found = _backlog(records)
    if found is None:
        return None
    grew_enough = found.grew > MIN_GROWTH * found.arrived and _chance(found) <= MAX_CHANCE
    if grew_enough and _lasted_longer(records, window.end_s):
        return True
    walk = max(MAX_RANGE * sqrt(found.least_variance * found.arrived), MIN_RANGE * found.arrived)
    return False if found.answers >= MIN_ANSWERS and found.ranged <= walk else None


@dataclass(frozen=True, slots=True)
class _Backlog:
    """After the ramp, in requests: how many ``arrived``, by how many the backlog ``grew`` until the last of
    them, and how far apart its least and its most were; ``answers``: how many would fit in one after another.
    A step's variance is that of a request's gap and of its work, in squares of their means: ``variance`` at
    most, ``least_variance`` at least."""

    arrived: int
    grew: float
    ranged: float
    variance: float
    least_variance: float
    answers: float


def _backlog(records: Sequence[Record]) -> _Backlog | None:
    """The lag is the time from the j-th sending to the j-th end: how long answers take, were they to end in
    their order. Times the rate of arrivals it is the requests in flight, whose answers' own time cancels out
    of its growth (which is taken at the rate of the second half, where that is higher). What a rise of the
    rate brings about is taken off the growth: a server whose answers take longer the more are in flight lets
    its lag rise with it, by a tenth of what arrived for each doubling from the first half to the second, at
    most a tenth.

    The ramp lasts as long as 95 % of the first eighth of the requests; at least a quarter of the arrival
    span, at most half of it. None where all were sent at once.

    ``records``: in the order of their sending.
    """
    sent = np.array([record.sent_s for record in records], np.float64)
    lasted = np.array([record.end_s for record in records], np.float64) - sent
    ended = np.sort(np.array([record.end_s for record in records if not cut(record)], np.float64))
    first, last = sent[0], sent[-1]
    span_s = last - first
    if span_s <= 0:
        return None
    ramp_s = float(np.percentile(lasted[: max(FEWEST // 4, len(sent) // 8)], 95))
    begins = first + min(max(ramp_s, span_s / 4), span_s / 2)

    def lag(at: float) -> float:
        done = int(np.searchsorted(ended, at, side="right"))
        return max(0.0, at - float(sent[done])) if done < len(sent) else 0.0

    arrived = int((sent > begins).sum())
    rate = arrived / (last - begins)
    inside = (ended > begins) & (ended <= last)
    lags = [*(ended - sent[: len(ended)])[inside], lag(begins), lag(last)]
    late = int((sent > first + span_s / 2).sum())
    rise = max(0.0, late / (len(sent) - late) - 1)
    # Of 40 gaps each, over which a rate that rises is much the same.
    gaps = float(np.mean([_cv2(part) for part in np.array_split(np.diff(sent), 1 + len(sent) // 40)]))
    tokens = _cv2([r.output_tokens for r in records if r.output_tokens])
    work = max(_cv2(lasted, sent), tokens)
    return _Backlog(
        arrived,
        grew=max(rate, 2 * late / span_s) * (lags[-1] - lags[-2])
        - MAX_RISE_GROWTH * min(rise, 1.0) * arrived,
        ranged=rate * (max(lags) - min(lags)),
        variance=(gaps + work) * (1.0 if _queued(records) else max(1.0, 2 / (1 + work))),
        least_variance=gaps + tokens,
        answers=float((last - begins) / lasted.mean()) if lasted.mean() > 0 else inf,
    )


def _queued(records: Sequence[Record]) -> bool:
    """Whether requests wait before their first token: at least half of what later ones lasted longer was
    there by then. Else those in flight are served together and are half done on average, so that there are
    more of them than of waiting ones for the same work: for equal ones twice as many."""
    sent = np.array([record.sent_s for record in records], np.float64)
    ends = np.array([record.end_s for record in records], np.float64)
    first = [record.end_s if record.first_token_s is None else record.first_token_s for record in records]
    distance = sent - sent.mean()
    return float(distance @ (np.array(first) - sent)) >= float(distance @ (ends - sent)) / 2


def _cv2(values: Sequence[float] | Floats, over: Floats | None = None) -> float:
    """The squared coefficient of variation, 0 of nothing; ``over``: about the straight line over these."""
    found = np.asarray(values, np.float64)
    if not len(found) or found.mean() <= 0:
        return 0.0
    variance = found.var()
    if over is not None:
        variance -= np.cov(found, over, bias=True)[0, 1] ** 2 / over.var()
    return float(max(0.0, variance) / found.mean() ** 2)


def _chance(found: _Backlog) -> float:
    """That the backlog of a server with `SPARE` of its capacity to spare grows so much in so many arrivals.

    Of a reflected Brownian motion, the heavy-traffic limit of a queue, from empty:
    P(Q(n) > q) = Φ((−q − δn) / σ√n) + exp(−2δq / σ²) Φ((−q + δn) / σ√n) with δ = `SPARE` (Harrison 1985,
    "Brownian Motion and Stochastic Flow Systems", 1.8). From a queue that is not empty it grows less.
    """
    q, drift, sd = found.grew, SPARE * found.arrived, sqrt(found.variance * found.arrived)
    if q <= 0 or sd == 0:
        return float(q <= 0)
    return _phi((-q - drift) / sd) + exp(-2 * SPARE * q / found.variance) * _phi((-q + drift) / sd)


def _phi(z: float) -> float:
    return erfc(-z / sqrt(2)) / 2


def _lasted_longer(records: Sequence[Record], ends_s: float) -> bool:
    """Whether requests lasted the longer the later they came.

    The slope of the durations' ranks over the arrivals (sum of products with the arrival's distance from the
    mean one) is compared with that of durations that have nothing to do with the arrivals: each rank is then
    uniform, and cut where the window (at ``ends_s``) ends. Their sum is as large with a chance of at most
    0.2 %, by its mean and its variance. Ranks, so that a few long answers do not hide it; where the window
    cut requests they are those of the product-limit estimate.
    """
    sent = np.array([record.sent_s for record in records], np.float64)
    lasted = np.array([record.end_s for record in records], np.float64) - sent
    is_cut = np.array([cut(record) for record in records])
    durations, mass = product_limit(lasted[~is_cut], lasted[is_cut])
    shares = np.concatenate(([0.0], np.cumsum(mass), [1.0]))  # what share lasts no longer than that
    most = shares[np.searchsorted(durations, ends_s - sent, side="right")]
    ranks = np.minimum(shares[np.searchsorted(durations, lasted, side="right")], most)
    distance = sent - sent.mean()
    expected = most - most**2 / 2
    spread = np.sqrt(distance**2 @ (most**2 - 2 * most**3 / 3 - expected**2))
    return bool(spread > 0) and _phi(-float(distance @ (ranks - expected)) / spread) <= MAX_SLOPE_CHANCE

"""Whether the server kept up with an open load: what was offered, what it served, and the backlog."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from orchestrator.metrics.measurement import Measurement
from orchestrator.metrics.requests import cut
from orchestrator.metrics.stats import product_limit
from orchestrator.records import Open

MIN_OF_ASKED_RATE = 0.95
MIN_OF_RISING_RATE, LESS_PER_RISE = 0.85, 0.1
MAX_CHANCE = 0.002
DRAWS = 1999
FEWEST = 20
_SEED = 20_000_301  # one that draws no schedule, so that the draws have nothing of the arrivals in them


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


def behind(measurement: Measurement) -> bool:
    """Whether ever more requests of an open load were in flight because the server was too slow for them.

    Two things together. In the second half of the arrival span too few requests ended (`_backlog_grew`), by
    more than the time that answers take and the rise of the offered rate bring about. And they lasted the
    longer the later they came, which a ramp, long answers, or a rate that rises do not bring about of
    themselves: the slope of the durations' ranks over the arrivals (sum of products with the arrival's
    distance from the mean one) is compared with those of 1999 draws that give the same arrivals durations
    from all that were seen, and at most 0.2 % of them are as large. Ranks, so that a few long answers do not
    hide it; where a window cut requests they are those of the product-limit estimate, and what is drawn ends
    with the window too. On simulated M/G/∞ queues fewer than 1 % are called behind, of loads of 300 requests
    at 12 a second where 8.7 are served more than 95 %. Of ramps that a server keeps up with none are whose
    answers take 1.4 times as long at the end, and at most one in twenty where they take twice as long. False
    below 20 requests.
    """
    records = [record for record in measurement.records if record.sent_s is not None]
    window = measurement.window
    if not isinstance(measurement.conditions.schedule, Open) or window is None or len(records) < FEWEST:
        return False
    sent = np.array([record.sent_s for record in records], np.float64)
    ends = np.array([record.end_s for record in records], np.float64)
    is_cut = np.array([cut(record) for record in records])
    if not _backlog_grew(np.sort(sent), ends[~is_cut]):
        return False
    lasted = ends - sent
    durations, mass = product_limit(lasted[~is_cut], lasted[is_cut])
    shares = np.concatenate(([0.0], np.cumsum(mass), [1.0]))  # what share lasts no longer than that
    at_most = shares[np.searchsorted(durations, window.end_s - sent, side="right")]
    ranks = np.minimum(shares[np.searchsorted(durations, lasted, side="right")], at_most)
    distance = sent - sent.mean()
    measured = float(distance @ ranks)
    random, as_large = np.random.default_rng(_SEED), 0
    for _ in range(DRAWS):
        drawn = shares[np.searchsorted(shares, random.random(len(sent)))]
        as_large += float(distance @ np.minimum(drawn, at_most)) >= measured
        if as_large + 1 > MAX_CHANCE * (DRAWS + 1):
            return False
    return True


def _backlog_grew(sent: NDArray[np.float64], ended: NDArray[np.float64]) -> bool:
    """Whether too few requests ended in the second half of the arrival span.

    Answers take their time, so what ended is compared with what arrived in an equally long time before: from
    the arrival of the first one that had not ended by the middle, were they to end in their order (Little:
    that lag is the requests in flight over the rate). A server whose answers take longer the more are in
    flight falls short of it while the rate rises, in proportion to the rise: of 95 % at a steady rate,
    10 points less are enough for each doubling from the first half to the second, and 85 % in any case.

    ``sent``: ascending; ``ended``: of those that were not cut; both in s.
    """
    last = sent[-1]
    middle = (sent[0] + last) / 2
    before = int((ended <= middle).sum())
    begins = sent[min(before, len(sent) - 1)]
    due = int(((sent >= begins) & (sent < begins + last - middle)).sum())
    arrived = int((sent > middle).sum())
    rise = arrived / (len(sent) - arrived) - 1
    enough = np.clip(MIN_OF_ASKED_RATE - LESS_PER_RISE * rise, MIN_OF_RISING_RATE, MIN_OF_ASKED_RATE)
    return bool((ended <= last).sum() - before < enough * min(due, arrived))

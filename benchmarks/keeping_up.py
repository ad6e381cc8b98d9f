"""How often `behind` and `behind_unknown` are raised, by what is offered over what a server can do:

    python -m benchmarks.keeping_up [--loads 200] [--requests 60 120 …] [--cv 0.5]

Poisson arrivals on simulated queues of 20 servers (M/G/20): answers of log-normal length with that
coefficient of variation, all alike at 0 (M/D/20). A table in Markdown, in per cent of the loads.
"""

from __future__ import annotations

import argparse
import heapq

import numpy as np

from orchestrator.metrics.keeping_up import behind
from orchestrator.metrics.measurement import Measurement, RunConditions
from orchestrator.records import Open, Record

SERVERS, TOKENS = 20, 200  # an answer has so many tokens on average
RATIOS = (0.8, 0.9, 0.95, 1.0, 1.02, 1.05, 1.1, 1.2)
_EMPTY = np.empty(0)
_AT = RunConditions(schedule=Open(_EMPTY))


def load(ratio: float, n: int, cv: float, seed: int) -> Measurement:
    """``n`` requests, of which the servers can do one a second."""
    random = np.random.default_rng([seed, n, int(ratio * 1000)])
    spread = np.sqrt(np.log(1 + cv**2))
    work = random.lognormal(-(spread**2) / 2, spread, n) if cv else np.ones(n)
    sent = np.cumsum(random.exponential(1 / ratio, n))
    free, records = [0.0] * SERVERS, []
    for at, each in zip(sent.tolist(), work.tolist(), strict=True):
        begins = max(at, heapq.heappop(free))
        heapq.heappush(free, begins + each * SERVERS)
        records.append(_answer(at, begins, begins + each * SERVERS, max(1, round(each * TOKENS))))
    return Measurement(records, (), _AT)


def _answer(sent: float, begins: float, end: float, tokens: int) -> Record:
    times = (sent, sent, begins, begins, end, end)
    return Record("", "", 0, "", *times, 1, tokens, 0, 0, "ok", "stop", None, 200, _EMPTY, None, None, "", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--loads", type=int, default=200)
    parser.add_argument("--requests", type=int, nargs="+", default=[60, 120, 300, 600, 1000, 2000])
    parser.add_argument("--cv", type=float, default=0.5)
    chosen = parser.parse_args()
    print(f"| requests | {' | '.join(map(str, RATIOS))} |")
    print("|---" * (1 + len(RATIOS)) + "|")
    for n in chosen.requests:
        told = [[behind(load(ratio, n, chosen.cv, i)) for i in range(chosen.loads)] for ratio in RATIOS]
        shares = [(100 * of.count(True) / len(of), 100 * of.count(None) / len(of)) for of in told]
        print(f"| {n:,} | {' | '.join(f'{seen:g} / {unknown:g}' for seen, unknown in shares)} |", flush=True)


if __name__ == "__main__":
    main()

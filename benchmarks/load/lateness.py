"""How late an open loop sends, and whether its gaps are those that were asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.load.ours import measure as send
from benchmarks.load.scripted import serve
from orchestrator.config.schema import LoadConfig
from orchestrator.load.arrivals import Open, draw

_TOKENS, _GAP_S, _TTFT_S = 8, 0.02, 0.05


def measure(binary: Path, rate: float, seconds: float, rounds: int) -> None:
    """Poisson arrivals at ``rate`` for about ``seconds``: prints send lag, and the Kolmogorov-Smirnov test of
    the sent gaps beside that of the drawn schedule, both against the exponential distribution asked for, with
    the gap at which each is furthest from it."""
    count = round(rate * seconds)
    for seed in range(rounds):
        schedule = draw(LoadConfig(kind="poisson", rate=rate), count, seed)
        assert isinstance(schedule, Open)
        with serve(binary, ttft_s=_TTFT_S, gap_s=_GAP_S, together=False, core=1) as server:
            result = send(server.port, schedule, count, _TOKENS, processes=1)
        sent = np.array([record.sent_s for record in result.records], dtype=float)
        lag_ms = (sent - np.array([record.scheduled_s for record in result.records])) * 1e3
        failed = sum(record.outcome != "ok" for record in result.records)

        def ks(times: np.ndarray) -> str:
            test = stats.kstest(np.diff(times), "expon", args=(0, 1 / rate))
            where = test.statistic_location * 1e6
            return f"D {test.statistic:.4f} at {where:.0f} µs p {test.pvalue:.3f}"

        median, p99 = np.quantile(lag_ms, [0.5, 0.99])
        print(f"{rate:g} requests/s, {count} requests, {failed} failed:", end=" ")
        print(f"send lag median {median:.3f} ms, p99 {p99:.3f} ms, max {lag_ms.max():.3f} ms;", end=" ")
        print(f"KS sent {ks(np.sort(sent))}, drawn {ks(schedule.times_s)}", flush=True)

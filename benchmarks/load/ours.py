"""This project's client as a command of its own, so that it is started and accounted for as its peers are.

``python -m benchmarks.load.ours PORT STREAMS REQUESTS TOKENS PROCESSES OUT``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from orchestrator.config.schema import SamplingConfig
from orchestrator.load.arrivals import Closed, Schedule
from orchestrator.load.driver import LoadJob, LoadResult, run
from orchestrator.load.render import render
from orchestrator.records import Endpoint, Item, Request


def requests(count: int, tokens: int) -> tuple[Request, ...]:
    def one(number: int) -> Request:
        prompt = f"Question {number}: " + "word " * 32
        return render(
            Item(str(number), ({"role": "user", "content": prompt},), "", "none"),
            repeat=0,
            request_id=f"ours-{number}",
            model="scripted",
            sampling=SamplingConfig(temperature=0.0),
            max_tokens=tokens,
            seed=0,
            usage="continuous",
            extra={},
        )

    return tuple(one(number) for number in range(count))


def measure(port: int, schedule: Schedule, count: int, tokens: int, processes: int | None) -> LoadResult:
    return run(
        LoadJob(
            endpoint=Endpoint("127.0.0.1", port, "scripted"),
            requests=requests(count, tokens),
            schedule=schedule,
            usage="continuous",
            request_timeout_s=600.0,
            idle_timeout_s=60.0,
            duration_s=None,
            processes=processes,
            expected_tokens_per_s=None,
            zero=0.0,
            acknowledge_later=True,  # as to an engine of ours, which like this server sets TCP_NODELAY
        )
    )


def main() -> None:
    port, streams, count, tokens, processes = map(int, sys.argv[1:6])
    result = measure(port, Closed(streams), count, tokens, processes)
    rows = []
    for record in result.records:
        assert record.outcome == "ok", record.error
        assert record.output_tokens == tokens
        assert record.sent_s is not None
        assert record.first_token_s is not None
        assert record.last_token_s is not None
        rows.append(
            (record.request_id, record.first_token_s - record.sent_s, record.last_token_s - record.sent_s)
        )
    found = {"requests": rows, "cpu_s": result.cpu_s, "peak_rss_bytes": result.peak_rss_bytes}
    Path(sys.argv[6]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()

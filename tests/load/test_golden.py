"""End to end through `driver.run`: records agree with the scripted server's own stamps. There is one clock,
so only the way through the socket differs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from orchestrator.load.arrivals import Closed
from orchestrator.load.driver import run
from orchestrator.records import Record
from tests.load.scripted import Script, job, truth
from tests.support.scripted_reply import WORDS
from tests.support.scripted_server import serve

pytestmark = pytest.mark.slow

# From the server's stamp before its write to the client's after its read. The machine may be busy with other
# things; the median of a request's chunks is held much tighter.
TOLERANCE_S, MEDIAN_TOLERANCE_S = 0.1, 0.005
STAMP_TOLERANCE_S = 0.001  # the kernel's clock is another one


@pytest.fixture(scope="module", params=["1", "0"], ids=["c", "python"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """With and without the compiled inner loops."""
    with pytest.MonkeyPatch.context() as patch, serve() as port:
        patch.setenv("ORCHESTRATOR_NATIVE", request.param)
        yield port


def measured(port: int, script: Script, **changes: Any) -> tuple[Record, dict[str, float]]:
    load = job(port, [script], **changes)
    result = run(load)
    assert result.native == (os.environ["ORCHESTRATOR_NATIVE"] == "1")
    record = result.records[0]
    stamps = truth(port)["request-0"]
    sent = np.array(stamps["sent_s"]) - load.zero
    received = stamps["received_s"] - load.zero
    assert record.outcome == "ok", record.error
    assert record.sent_s is not None
    assert 0 <= received - record.sent_s < TOLERANCE_S
    late = record.chunk_s - sent[: len(record.chunk_s)]
    assert (late >= 0).all()
    assert late.max() < TOLERANCE_S
    assert np.median(late) < MEDIAN_TOLERANCE_S
    return record, stamps


def text(first: int, last: int) -> str:
    return "".join(WORDS[i % len(WORDS)] for i in range(first, last))


def test_one_token_a_chunk(port: int) -> None:
    record, _ = measured(port, {"tokens": 40, "gap_s": 0.005, "ttft_s": 0.05})
    assert record.chunk_tokens is not None
    assert record.chunk_tokens.tolist() == [1] * 40
    assert (record.output_tokens, record.reasoning_tokens, record.cached_tokens) == (40, 0, 0)
    assert record.response_text == text(0, 40)
    assert record.first_token_s == record.first_visible_s == record.chunk_s[0]
    assert record.last_token_s == record.chunk_s[-1]
    assert record.end_s - record.chunk_s[-1] < TOLERANCE_S
    assert record.finish_reason == "stop"
    assert record.http_status == 200
    assert record.sent_s is not None
    assert record.chunk_s[0] - record.sent_s >= 0.05 - STAMP_TOLERANCE_S


def test_reasoning_and_three_tokens_a_chunk(port: int) -> None:
    record, _ = measured(port, {"tokens": 20, "reasoning": 8, "per_chunk": 3})
    assert record.chunk_tokens is not None
    assert record.chunk_reasoning is not None
    assert record.chunk_tokens.tolist() == [3, 3, 3, 3, 3, 3, 2]
    assert record.chunk_reasoning.tolist() == [3, 3, 2, 0, 0, 0, 0]
    assert record.reasoning_text == text(0, 8)
    assert record.response_text == text(8, 20)
    assert record.first_visible_s == record.chunk_s[2]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("field", "lost"), [("inline", 2), ("opened", 1)])
def test_inline_reasoning(port: int, field: str, lost: int, known: bool) -> None:
    record, _ = measured(
        port,
        {"tokens": 12, "reasoning": 5, "field": field, "count_reasoning": False},
        reasoning_inline=known,
        think_opened=known and field == "opened",
    )
    assert (record.usage_mode, record.reasoning_from) == ("continuous", "tags")
    assert record.chunk_reasoning is not None
    assert record.chunk_reasoning.tolist() == [1] * 5 + [0] * 7
    assert record.reasoning_text == text(lost - 1, 4)
    assert record.response_text == text(5, 12)
    assert record.first_visible_s == record.chunk_s[5]


def test_the_finish_reason_alone_adds_no_time(port: int) -> None:
    record, _ = measured(port, {"tokens": 5, "separate_last": True})
    assert len(record.chunk_s) == 5


@pytest.mark.parametrize("counts", ["end", "behind", "own", "falling", "corrected"])
def test_counts_that_contradict_the_text(port: int, counts: str) -> None:
    """Long enough for the runs of like events."""
    record, _ = measured(port, {"tokens": 60, "reasoning": 30, "gap_s": 0.001, "counts": counts})
    assert record.usage_mode != "continuous"
    assert record.chunk_tokens is None
    assert (record.output_tokens, len(record.chunk_s)) == (60, 60)
    assert record.reasoning_text == text(0, 30)
    assert record.response_text == text(30, 60)
    assert record.first_visible_s == record.chunk_s[30]


def test_final_usage(port: int) -> None:
    record, _ = measured(port, {"tokens": 9, "reasoning": 3}, usage="final")
    assert record.chunk_tokens is None
    assert len(record.chunk_s) == 9
    assert (record.output_tokens, record.reasoning_tokens) == (9, 3)


@pytest.mark.parametrize("changes", [{"framing": "close"}, {"newline": "\r\n"}, {"newline": "\r"}])
def test_other_framings(port: int, changes: Script) -> None:
    record, _ = measured(port, {"tokens": 10, **changes})
    assert record.response_text == text(0, 10)
    assert record.output_tokens == 10


def test_a_body_of_known_length_is_one_chunk_of_time(port: int) -> None:
    record, _ = measured(port, {"tokens": 10, "framing": "length"})
    assert record.response_text == text(0, 10)
    assert set(record.chunk_s) == {record.first_token_s}


def test_a_server_that_closes_after_every_response_gets_a_new_connection_each_time(port: int) -> None:
    load = job(port, [{"tokens": 3, "keep_alive": False}] * 20, Closed(4))
    assert [record.outcome for record in run(load).records] == ["ok"] * 20

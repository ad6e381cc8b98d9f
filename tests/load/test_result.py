"""`load.result`: a client's finished request on its own clock becomes a record on the cell's."""

from __future__ import annotations

from array import array
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from orchestrator.load.client.connection import WINDOW_ENDED, Finished
from orchestrator.load.result import reasoning_per_chunk, record, unsent
from orchestrator.load.stream.timeline import Stream
from orchestrator.records import Record, Request
from tests.load.stream.events import counts

REQUEST = Request("cell-7", "item-3", 2, b"{}", "sha")
ZERO = 100.0


def stream(tokens: list[int], **changes: Any) -> Stream:
    """One chunk a second from 103 s on, the first two of them reasoning; nothing but its parts is counted."""
    values: dict[str, Any] = {
        "chunk_s": array("d", [103.0 + i for i in range(len(tokens))]),
        "chunk_tokens": array("i", tokens),
        "chunk_thinking": array("b", [i < 2 for i in range(len(tokens))]),
        "chunk_reasoning": array("i", [-1] * len(tokens)),
        "counted": True,
        "first_visible_s": 105.0,
        "finish_reason": "stop",
        "prompt_tokens": 11,
        "output_tokens": sum(tokens),
        "cached_tokens": 5,
        "reasoning_tokens": None,
        "reasoning_text": "hm",
        "response_text": "4",
        "usage_mode": "continuous",
        "reasoning_from": "field",
    }
    return Stream(**values | changes)


def finished(of: Stream, outcome: Any = "ok", error: str | None = None) -> Finished:
    return Finished(7, 101.0, 101.5, 108.25, outcome, error, 200, of, 1)


def test_every_field_of_a_record_is_what_the_client_saw_on_the_cells_clock() -> None:
    found = record(REQUEST, finished(stream([2, 1, 4])), ZERO)
    arrays = {"chunk_s": [3.0, 4.0, 5.0], "chunk_tokens": [2, 1, 4], "chunk_reasoning": [2, 1, 0]}
    plain = {
        "request_id": "cell-7",
        "item_id": "item-3",
        "repeat": 2,
        "prompt_sha256": "sha",
        "scheduled_s": 1.0,
        "sent_s": 1.5,
        "first_token_s": 3.0,
        "first_visible_s": 5.0,
        "last_token_s": 5.0,
        "end_s": 8.25,
        "prompt_tokens": 11,
        "output_tokens": 7,
        "reasoning_tokens": 3,
        "cached_tokens": 5,
        "outcome": "ok",
        "finish_reason": "stop",
        "error": None,
        "http_status": 200,
        "retries": 1,
        "reasoning_text": "hm",
        "response_text": "4",
        "cut_by_window": False,
        "usage_mode": "continuous",
        "reasoning_from": "field",
    }
    assert {f.name for f in fields(Record)} == {*arrays, *plain}
    assert {name: getattr(found, name) for name in plain} == plain
    assert {name: np.asarray(getattr(found, name)).tolist() for name in arrays} == arrays
    assert found.chunk_s.dtype == np.float64
    assert found.chunk_tokens is not None
    assert found.chunk_reasoning is not None
    assert found.chunk_tokens.dtype == found.chunk_reasoning.dtype == np.int32


def test_without_chunks_there_is_no_first_and_no_last_token() -> None:
    found = record(REQUEST, finished(stream([], first_visible_s=None)), ZERO)
    assert (found.first_token_s, found.first_visible_s, found.last_token_s) == (None, None, None)
    assert found.chunk_s.tolist() == []


@pytest.mark.parametrize(
    ("outcome", "error", "cut"),
    [
        ("cancelled", WINDOW_ENDED.format(30.0), True),
        ("error", WINDOW_ENDED.format(30.0), False),
        ("cancelled", "the study was interrupted", False),
        ("cancelled", None, False),
    ],
)
def test_only_the_windows_end_cuts(outcome: str, error: str | None, cut: bool) -> None:
    assert record(REQUEST, finished(stream([1]), outcome, error), ZERO).cut_by_window is cut


@pytest.mark.parametrize(("scheduled_s", "at"), [(104.0, 4.0), (None, 9.0)])
def test_what_was_never_sent_counts_as_due_when_the_run_ended_unless_it_was_due(
    scheduled_s: float | None, at: float
) -> None:
    found = unsent(REQUEST, scheduled_s=scheduled_s, end_s=109.0, why="interrupted", zero=ZERO)
    assert (found.scheduled_s, found.sent_s, found.end_s) == (at, None, 9.0)
    assert (found.outcome, found.error, found.http_status) == ("cancelled", "interrupted", None)
    assert (found.request_id, found.output_tokens, found.retries) == ("cell-7", None, 0)
    assert len(found.chunk_s) == 0


@pytest.mark.parametrize(
    ("cumulative", "total", "expected"),
    [
        ([-1, -1, -1], None, [2, 3, 0]),  # not counted: what the text of each chunk was
        ([0, 0, 0], 0, [2, 3, 0]),  # a server that does not count says 0 beside reasoning
        ([2, 4, 5], 5, [2, 2, 1]),  # its own counts
        ([0, 3, 3], 3, [0, 3, 0]),
        ([2, 5, 9], 9, [2, 3, 4]),  # to the last token
        ([1, 2, 3], 4, [2, 2, 0]),  # they end below its total, which comes first then
        ([-1, 3, 4], 4, [2, 2, 0]),  # one is missing
        ([3, 4, 5], 5, [2, 3, 0]),  # more than the chunk has
        ([2, 1, 5], 5, [2, 3, 0]),  # they fall
        ([-1, -1, -1], 7, [2, 3, 2]),  # at the end alone
        ([-1, -1, -1], 9, [2, 3, 4]),
    ],
)
def test_the_reasoning_of_each_chunk_is_the_servers_where_that_is_sound(
    cumulative: list[int], total: int | None, expected: list[int]
) -> None:
    tokens = np.array([2, 3, 4], np.int32)
    given = stream([2, 3, 4], chunk_reasoning=array("i", cumulative), reasoning_tokens=total)
    found = reasoning_per_chunk(given, tokens)
    assert found.dtype == np.int32
    assert counts(found) == expected
    whole = record(REQUEST, finished(given), ZERO)
    assert whole.reasoning_tokens == sum(expected)


@pytest.mark.parametrize("cumulative", [[-1, -1, -1], [2, 5, 9], [3, 6, 10]])
def test_more_reasoning_than_output_is_none_that_is_known(cumulative: list[int]) -> None:
    given = stream([2, 3, 4], chunk_reasoning=array("i", cumulative), reasoning_tokens=10)
    found = record(REQUEST, finished(given), ZERO)
    assert (found.reasoning_tokens, found.chunk_reasoning, found.output_tokens) == (None, None, 9)
    assert counts(found.chunk_tokens) == [2, 3, 4]


def test_no_reasoning_in_the_text_and_none_counted_is_none() -> None:
    given = stream([2, 3], chunk_thinking=array("b", [0, 0]), reasoning_tokens=0)
    assert counts(reasoning_per_chunk(given, np.array([2, 3], np.int32))) == [0, 0]
    empty = stream([], reasoning_tokens=3)
    assert counts(reasoning_per_chunk(empty, np.array([], np.int32))) == []


@pytest.mark.parametrize(
    ("output", "total", "text", "expected"),
    [
        (None, 3, "hm", None),  # of an unknown number no part is known
        (7, 3, "hm", 3),
        (7, 7, "hm", 7),
        (7, 8, "hm", None),  # more than all
        (7, 0, "hm", None),  # none, beside reasoning
        (7, 0, "", 0),
        (7, 3, "", 3),
        (7, None, "hm", None),
        (7, None, "", 0),
    ],
)
def test_without_counts_per_chunk_the_total_of_reasoning_is_the_servers_if_it_can_be(
    output: int | None, total: int | None, text: str, expected: int | None
) -> None:
    given = stream(
        [2, 3, 2],
        counted=False,
        output_tokens=output,
        reasoning_tokens=total,
        reasoning_text=text,
        reasoning_from="field" if text else "none",
    )
    found = record(REQUEST, finished(given), ZERO)
    assert (found.reasoning_tokens, found.chunk_tokens, found.chunk_reasoning) == (expected, None, None)

"""What servers really send, through the real command: ``engine=external`` on a scripted server whose truth is
known. Each answer is 20 tokens at 0.1 s, 0.13 s, …, the first 8 of them thought. The tolerances are for a
busy machine; what is tried here moves a time by several of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import scripted_server
from tests.support.external import Measured, measuring, requests_of
from tests.support.scripted_reply import WORDS, Script

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]

THOUGHT = "".join(WORDS[i % len(WORDS)] for i in range(8))
ANSWER = "".join(WORDS[i % len(WORDS)] for i in range(8, 20))


@pytest.fixture(scope="module")
def measured() -> Iterator[Measured]:
    with measuring() as measure:
        yield measure


def script(**changes: Any) -> Script:
    return Script(**({"tokens": 20, "reasoning": 8, "ttft_s": 0.1, "gap_s": 0.03} | changes))


def hold_to_truth(row: dict[str, Any]) -> None:
    """What is known of every answer, whatever the counts are worth."""
    assert row["status"] == "done"
    assert row["output_tokens"] == 16 * 20
    assert row["ttft_s_p50"] == pytest.approx(0.1, abs=0.05)
    assert row["ttfvt_s_p50"] == pytest.approx(0.34, abs=0.08)
    assert row["thinking_s_p50"] == pytest.approx(0.24, abs=0.08)
    assert row["tpot_s_p50"] == pytest.approx(0.03, abs=0.006)
    assert row["e2e_s_p50"] == pytest.approx(0.67, abs=0.1)


@pytest.mark.parametrize(
    ("counts", "mode"),
    [
        ("end", "late"),
        ("thinking", "late"),
        ("behind", "late"),
        ("own", "per_chunk"),
        ("falling", "contradictory"),
        ("corrected", "contradictory"),
    ],
)
def test_counts_that_contradict_the_text_do_not_move_the_times(
    tmp_path: Path, measured: Measured, counts: str, mode: str
) -> None:
    with scripted_server.serve(script(counts=counts)) as port:
        _, output, (row,) = measured(tmp_path, port)
    hold_to_truth(row)
    assert row["usage_mode"] == mode
    assert "counts_unsound" in row["flags"]
    assert "token counts contradict" in " ".join(output.split())
    assert row["itl_s_p50"] is None
    assert row["chunk_gap_s_p50"] == pytest.approx(0.03, abs=0.006)
    for request in requests_of(tmp_path, row):
        assert (request["usage_mode"], request["chunk_tokens"]) == (mode, None)
        assert (request["reasoning_text"], request["response_text"]) == (THOUGHT, ANSWER)


@pytest.mark.parametrize(
    ("field", "overrides", "origin", "tags"),
    [
        ("inline", (), "tags", ("<think>", "</think>")),
        ("opened", (), "tags", ("<think>", "</think>")),
        ("inline", ("model=r1-7b",), "tags", ("<think>", "</think>")),
        ("opened", ("model=r1-7b",), "tags", ("<think>", "</think>")),
        ("inline", ('\'model.think_tags=["[THINK]","[/THINK]"]\'',), "tags", ("[THINK]", "[/THINK]")),
        ("thinking", (), "field", ()),
        ("parts", (), "field", ()),
        (
            "reasoning_content",
            ("model=r1-7b", "model.reasoning_parser.vllm=null", "model.reasoning_parser.sglang=null"),
            "field",
            (),
        ),
    ],
)
def test_reasoning_is_split_by_what_arrives(
    tmp_path: Path,
    measured: Measured,
    field: str,
    overrides: tuple[str, ...],
    origin: str,
    tags: tuple[str, ...],
) -> None:
    asked = script(field=field, count_reasoning=False, **({"tags": tags} if tags else {}))
    with scripted_server.serve(asked) as port:
        _, output, rows = measured(tmp_path, port, *(one.strip("'") for one in overrides))
    assert len(rows) == 1, output
    hold_to_truth(rows[0])
    assert (rows[0]["usage_mode"], rows[0]["reasoning_from"]) == ("continuous", origin)
    assert rows[0]["thinking_token_share"] == pytest.approx(8 / 20)
    for request in requests_of(tmp_path, rows[0]):
        assert (request["response_text"], request["reasoning_from"]) == (ANSWER, origin)
        assert THOUGHT.endswith(request["reasoning_text"]) or origin == "tags"
        assert request["reasoning_text"] in THOUGHT


def test_noise_between_the_chunks_is_no_error(tmp_path: Path, measured: Measured) -> None:
    with scripted_server.serve(script(noise=True, separate_last=True)) as port:
        _, _, (row,) = measured(tmp_path, port)
    hold_to_truth(row)
    assert (row["usage_mode"], row["error_rate"]) == ("continuous", 0.0)


@pytest.mark.parametrize(
    ("finish", "truncated", "failed"),
    [
        ("model_length", 1.0, 0.0),
        ("MAX_TOKENS", 1.0, 0.0),
        ("content_filter", None, 1.0),
        ("insufficient_system_resource", None, 1.0),
        ("", None, 1.0),
    ],
)
def test_why_an_answer_ended_decides_what_it_is(
    tmp_path: Path, measured: Measured, finish: str, truncated: float | None, failed: float
) -> None:
    with scripted_server.serve(script(finish=finish)) as port:
        _, _, (row,) = measured(tmp_path, port)
    assert (row["truncated_rate"], row["error_rate"]) == (truncated, failed)
    assert row["status"] == ("failed" if failed else "done")
    assert {r["http_status"] for r in requests_of(tmp_path, row)} == {200}

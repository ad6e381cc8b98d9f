"""Against a page that vLLM 0.32 wrote (histograms left out but two)."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.telemetry.prometheus import metric_names, values

PAGE = (Path(__file__).parent / "vllm_0_32_metrics.txt").read_bytes()
SERIES = [one for family in text_string_to_metric_families(PAGE.decode()) for one in family.samples]


def test_every_series_reads_as_the_reference_parser_reads_it() -> None:
    names = {one.name for one in SERIES}
    assert len(names) > 30
    for name in names:
        assert values(PAGE, name) == [one.value for one in SERIES if one.name == name], name


def test_the_names_are_those_of_the_reference_parser() -> None:
    assert metric_names(PAGE) == {one.name for one in SERIES}


def test_a_name_that_begins_like_another_is_not_the_other() -> None:
    assert values(PAGE, "vllm:num_requests_waiting") == [0.0]
    assert values(PAGE, "vllm:num_requests_waiting_by_reason") == [0.0, 0.0]
    assert values(PAGE, "vllm:num_requests") == []


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (b"m 1", [1.0]),
        (b"m 1.5e3 1700000000\n", [1500.0]),
        (b'm{a="}{ 7",b="x\\"y"} 2\nm{a="2"} 3\n', [2.0, 3.0]),
        (b"m NaN\nm +Inf\n", []),
        (b"# HELP m 5\n# TYPE m gauge\n", []),
        (b"", []),
    ],
)
def test_forms_of_a_line(page: bytes, expected: list[float]) -> None:
    assert values(page, "m") == expected

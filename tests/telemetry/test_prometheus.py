"""Against a page that vLLM 0.32 wrote (histograms left out but two)."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
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
        (b"m +Inf\nm -Inf\n", [math.inf, -math.inf]),
        (b"m\t4\r\n", [4.0]),
        (b'm{a="#"} 3 # {trace_id="x"} 0.5 1700000000.0\n', [3.0]),
        (b'm 3 # {trace_id="} 9"} 0.5\n', [3.0]),
        (b'm{a="1"} 3 1700000000000 # {trace_id="x"} 0.5\n', [3.0]),
        (b'm{a="\xff"} 3\n', [3.0]),
        (b"# HELP m 5\n# TYPE m gauge\n", []),
        (b"", []),
    ],
)
def test_forms_of_a_line(page: bytes, expected: list[float]) -> None:
    assert values(page, "m") == expected


@pytest.mark.parametrize(
    "line", [b"m", b"m ", b"m x", b'm{a="1} 3', b'm{a="1"}', b"m{a=1} 3", b"m 1_0", b'm{a="1"} three 5']
)
def test_a_malformed_line_is_an_error(line: bytes) -> None:
    with pytest.raises(ValueError, match="malformed"):
        values(b"n 1\n" + line + b"\nn 2\n", "m")
    assert values(b"n 1\n" + line + b"\nn 2\n", "n") == [1.0, 2.0]


def test_not_a_number_is_told_as_it_is() -> None:
    assert math.isnan(values(b"m NaN\n", "m")[0])


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8) | st.sampled_from(
    ["}", "{", '"', "\\", "\n", " # ", ",", "="]
)
NUMBER = st.floats() | st.integers(-(10**15), 10**15)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["m", "m_total", "n:m", "mm"]),
            st.dictionaries(st.sampled_from("abc"), TEXT, max_size=3),
            NUMBER,
            st.none() | st.integers(0, 2**41),
            st.none() | st.tuples(TEXT, st.floats(allow_nan=False, allow_infinity=False)),
        ),
        max_size=8,
    )
)
def test_any_page_reads_as_the_reference_parser_reads_it(series: list[Any]) -> None:
    page = "".join(_line(*one) for one in series)
    for name in ("m", "m_total", "n:m", "mm"):
        expected = [value for other, _, value, _, _ in series if other == name]
        assert values(page.encode(), name) == pytest.approx(expected, nan_ok=True, rel=1e-15), page
        assert name in metric_names(page.encode()) or not expected


@given(st.binary(max_size=40))
def test_whatever_a_line_holds_it_gives_numbers_or_a_value_error(rest: bytes) -> None:
    with suppress(ValueError):
        assert all(isinstance(one, float) for one in values(b"m" + rest, "m"))


def _line(
    name: str,
    labels: dict[str, str],
    value: float,
    timestamp_ms: int | None,
    exemplar: tuple[str, float] | None,
) -> str:
    def quoted(text: str) -> str:
        escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
        return f'"{escaped}"'

    inside = ",".join(f"{key}={quoted(text)}" for key, text in labels.items())
    line = f"{name}{{{inside}}} {value}" if labels else f"{name} {value}"
    line += "" if timestamp_ms is None else f" {timestamp_ms}"
    return line + ("" if exemplar is None else f" # {{t={quoted(exemplar[0])}}} {exemplar[1]}") + "\n"

"""Tables as files (`orchestrator.tabular`)."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestrator.tabular import csv_text, tabular, tex


def test_a_csv_has_what_a_row_has_and_nothing_for_what_is_absent() -> None:
    rows: list[dict[str, object]] = [{"a": 0.1 + 0.2, "b": ["x", "y,z"]}, {"b": None, "c": True}]
    assert csv_text(rows) == 'a,b,c\n0.30000000000000004,"[""x"", ""y,z""]",\n,,true\n'
    at = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert csv_text([{"at": at, "more": 1}], ["at", "none"]) == "at,none\n2026-01-01T12:00:00+00:00,\n"


def test_latex_reads_nothing_of_a_text_as_its_own() -> None:
    assert tex("50 % of a_b & $x$ #1 {~} ^ \\n") == (
        r"50 \% of a\_b \& \$x\$ \#1 \{\textasciitilde{}\} \textasciicircum{} \textbackslash{}n"
    )
    assert tex("two\nlines, −3 ± 1 µs") == r"two lines, $-$3 $\pm$ 1 $\mu$s"


def test_a_tabular_has_its_texts_to_the_left_and_its_numbers_to_the_right() -> None:
    lines = tabular(["opt", "n", "tokens/s"], [["kv_fp8", "1", "9"]], left=1)
    assert lines == [
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"opt & n & tokens/s \\",
        r"\midrule",
        r"kv\_fp8 & 1 & 9 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]

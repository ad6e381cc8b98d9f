"""Tables of the page: texts for people, numbers for CSV, LaTeX for papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.metrics.stats import mean
from orchestrator.report.accuracy import AccuracyRow, remark
from orchestrator.report.answer import p_text
from orchestrator.report.comparisons import Line, Measure
from orchestrator.report.names import Names
from orchestrator.report.options import Options
from orchestrator.report.pairs import AXES, REASONING, Alone, Axis
from orchestrator.report.variants import Apart, Variant
from orchestrator.report.words import signed, units, words

NO_VALUE = "–"
MOST_NAMED = 4  # of what has no baseline
MOST_SHOWN = 400  # rows of a table on the page


@dataclass(frozen=True)
class Table:
    """``cells`` are texts, one list a row, the first of which names it; ``rows``: the same as numbers."""

    name: str
    title: str
    note: str
    head: Sequence[str]
    cells: Sequence[Sequence[str]]
    rows: Sequence[Mapping[str, Any]]
    marks: Sequence[str] = ()  # one a row, for the page: good, bad, same, plain

    @property
    def spans(self) -> list[int]:
        """How many rows the first column's text covers from each one on, as those that follow have the same;
        0 for a row that is covered."""
        found = [0] * len(self.cells)
        first = 0
        for index, row in enumerate(self.cells):
            first = first if row[0] == self.cells[first][0] else index
            found[first] += 1
        return found

    @property
    def shown(self) -> int:
        """How many rows the page has: all, or as many as `MOST_SHOWN` that end with a whole configuration."""
        shown = min(MOST_SHOWN, len(self.cells))
        while 0 < shown < len(self.cells) and self.cells[shown][0] == self.cells[shown - 1][0]:
            shown -= 1
        return shown or min(MOST_SHOWN, len(self.cells))


def comparison_tables(lines: Sequence[Line], options: Options, names: Names) -> list[Table]:
    """One for each axis that has a pair."""
    tables = (_comparisons(axis, lines, options, names) for axis in AXES)
    return [table for table in tables if table is not None]


def _comparisons(axis: Axis, lines: Sequence[Line], options: Options, names: Names) -> Table | None:
    of_axis = [line for line in lines if line.pair.axis is axis]
    if not of_axis:
        return None
    in_blocks = any(line.comparison is not None and line.comparison.pairing for line in of_axis)
    cells, rows, marks = [], [], []
    for line in of_axis:
        variant, baseline = line.pair.variant, line.pair.baseline
        said = words(line, options)
        first = f"{names.configuration(variant)} against {_difference(names, variant, baseline)}"
        also = f" ({line.pair.also})" if line.pair.also else ""
        setting = names.setting(variant)
        cells.append(
            [
                f"{first}{also}, on {setting}",
                line.measure.title,
                _number(line.a, line.measure),
                _number(line.b, line.measure),
                signed(line, line.difference),
                _interval(line),
                *([units(line)] if in_blocks else []),
                p_text(line.adjusted_p),
                said,
            ]
        )
        marks.append(_mark(line))
        rows.append(_numbers(line, said, names))
    note = (
        "Differences are shares of the baseline, of accuracy points. Intervals cover 95 %. p is corrected "
        "over all of this report: Holm's over throughput (or goodput), accuracy and length of all pairs; "
        "the rest is read where one of those is significant."
        + " Paired by block: each run with the one that its machine measured next to it."
        * in_blocks
    )
    head = (
        "Configuration",
        "Measure",
        "Baseline",
        "This",
        "Difference",
        "95 % interval",
        *(["Compared"] if in_blocks else []),
        "p",
        "Verdict",
    )
    return Table(axis.name, axis.title, note, head, cells, rows, marks)


def _difference(names: Names, variant: Variant, baseline: Variant) -> str:
    """The parts of the baseline's name that the variant's has not."""
    parts = names.configuration(baseline).split(" · ")
    own = names.configuration(variant).split(" · ")
    return " · ".join(part for part in parts if part not in own) or names.configuration(baseline)


def _numbers(line: Line, said: str, names: Names) -> dict[str, Any]:
    variant, baseline = line.pair.variant, line.pair.baseline
    found = line.comparison
    pairing = None if found is None else found.pairing
    paired = (None, None) if pairing is None else pairing.paired
    return {
        **_facts(variant, names),
        **{f"baseline_{name}": baseline.facts[name] for name in ("model", "engine", "opt", "gpus")},
        "measure": line.measure.key,
        "per_gpu": line.measure.per_gpu,
        "baseline_value": line.a,
        "value": line.b,
        "difference": line.difference,
        "low": line.low,
        "high": line.high,
        "p": line.p,
        "p_holm": line.adjusted_p,
        "verdict": line.verdict,
        "method": None if found is None else found.method,
        "unit": None if found is None else found.unit,
        "units": None if found is None else found.units,
        "baseline_runs": len(baseline.runs),
        "runs": len(variant.runs),
        "paired_by_block": None if found is None else pairing is not None,
        "baseline_runs_paired": paired[0],
        "runs_paired": paired[1],
        "width_over_unpaired": None if pairing is None else pairing.width,
        "words": said,
    }


def _facts(variant: Variant, names: Names) -> dict[str, str]:
    """Its columns, and the name that says what else sets it apart."""
    columns = {name: value for name, value in variant.facts.items() if not name.endswith("_settings")}
    return {"configuration": names.whole(variant), **columns}


def accuracy_table(accuracies: Sequence[AccuracyRow], names: Names) -> Table | None:
    """Every accuracy with all that it must be read beside."""
    if not accuracies:
        return None
    cells = [
        [
            names.whole(row.variant),
            _share(row.value),
            NO_VALUE if row.low is None or row.high is None else f"{_share(row.low)} to {_share(row.high)}",
            NO_VALUE if row.items is None else str(row.items),
            _share(row.truncated),
            _share(row.ungradable),
            _share(row.chance),
            _share(row.published),
            NO_VALUE if row.band is None else f"±{100 * row.band.half_width:.1f}",
            ", ".join(row.flags) + (": " if row.flags else "") + remark(row) or NO_VALUE,
        ]
        for row in accuracies
    ]
    rows = [
        {
            **_facts(row.variant, names),
            **{"accuracy": row.value, "low": row.low, "high": row.high, "items": row.items},
            **{"truncated": row.truncated, "ungradable": row.ungradable, "chance": row.chance},
            **{"published": row.published, "flags": " ".join(row.flags), "runs": len(row.variant.runs)},
            "repetition": None if row.band is None else row.band.half_width,
        }
        for row in accuracies
    ]
    note = (
        "All in per cent. Cut off: answers that reached the budget, which count as wrong. Unread: graded "
        "answers in which none was found. Card: the model card's value, with its budget of 32,768 tokens. "
        "Repetition: 95 % of the differences between two runs of the same cell lie within it."
    )
    head = (
        *("Configuration", "Accuracy", "95 % interval", "Questions", "Cut off", "Unread", "Chance", "Card"),
        *("Repetition", "Remarks"),
    )
    marks = ["bad" if row.flags else "plain" for row in accuracies]
    return Table("accuracy", "Accuracy, and what to read it beside", note, head, cells, rows, marks)


def measured_table(variants: Sequence[Variant], names: Names) -> Table:
    """The plain numbers of every variant."""
    columns = (
        ("output_token_per_s", "Tokens/s", 1.0),
        ("output_token_per_s_per_gpu", "Tokens/s/GPU", 1.0),
        ("goodput_per_s", "Goodput, /s", 1.0),
        ("slo_attainment", "Within limits, %", 100.0),
        ("ttft_s_p50", "TTFT p50, s", 1.0),
        ("ttft_s_p99", "TTFT p99, s", 1.0),
        ("e2e_s_p50", "E2E p50, s", 1.0),
        ("tpot_s_p50", "TPOT p50, ms", 1000.0),
        ("kv_usage_max", "KV use max, %", 100.0),
        ("prefix_hit_rate", "Prefix hits, %", 100.0),
        ("joule_per_output_token", "J/token", 1.0),
    )
    shown = [one for one in columns if any(variant.values(one[0]) for variant in variants)]
    cells = [
        [
            names.whole(variant),
            str(len(variant.runs)),
            *(_plain(None if (m := mean(variant.values(c))) is None else scale * m) for c, _, scale in shown),
        ]
        for variant in variants
    ]
    rows = [
        {
            **_facts(variant, names),
            "runs": len(variant.runs),
            "cell_ids": " ".join(str(run.row["cell_id"]) for run in variant.runs),
            **{column: variant.mean(column) for column, _, _ in shown},
        }
        for variant in variants
    ]
    head = ("Configuration", "Runs", *(title for _, title, _ in shown))
    note = "Means over the runs. A dash: not measured, or too few requests for that percentile."
    return Table("measured", "All that was measured", note, head, cells, rows)


def apart_table(apart: Sequence[Apart]) -> Table | None:
    """Cells that enter no comparison and no figure."""
    if not apart:
        return None
    rows = [
        {
            **{"study": one.study, "cell_id": str(one.row["cell_id"]), "model": one.row.get("model")},
            **{"engine": one.row.get("engine"), "opt": "+".join(one.row.get("opt") or ())},
            **{"dataset": one.row.get("dataset"), "kind": one.kind, "why": one.why},
        }
        for one in apart
    ]
    cells = [[str(row[name] or NO_VALUE) for name in rows[0]] for row in rows]
    head = ("Study", "Cell", "Model", "Engine", "Optimizations", "Dataset", "Kind", "Why")
    note = (
        "They are stored and enter no comparison and no figure: what they measured is not what is compared."
    )
    return Table("apart", "Set apart", note, head, cells, rows, ["bad"] * len(rows))


def alone_notes(alone: Sequence[Alone], variants: Sequence[Variant], names: Names) -> list[str]:
    """What lacks its baseline, a sentence for each reason. A standard pair is missed only where one was
    measured at all."""
    said = []
    unpaired = [one for one in alone if one.axis is REASONING]
    if unpaired and not any(variant.row.get("model_kind") == "standard" for variant in variants):
        models = ", ".join(sorted({one.variant.facts["model"] for one in unpaired}))
        said.append(f"No standard model was measured beside {models}: what reasoning costs cannot be told.")
        alone = [one for one in alone if one.axis is not REASONING]
    found: dict[str, list[str]] = {}
    for one in alone:
        found.setdefault(f"{one.axis.title}: {one.missing}", []).append(names.whole(one.variant))
    for why, who in found.items():
        more = f" and {len(who) - MOST_NAMED} more" if len(who) > MOST_NAMED else ""
        said.append(f"{why}. So without a comparison: {'; '.join(who[:MOST_NAMED])}{more}.")
    return said


def _mark(line: Line) -> str:
    if line.verdict == "different":
        return "good" if line.better else "bad"
    return "same" if line.verdict == "equivalent" else "plain"


def _interval(line: Line) -> str:
    if line.low is None or line.high is None:
        return NO_VALUE
    within = " (within the run)" if line.verdict == "within this run" else ""
    return f"{signed(line, line.low)} … {signed(line, line.high)}{within}"


def _number(value: float | None, measure: Measure) -> str:
    if value is None:
        return NO_VALUE
    if measure.kind == "accuracy":
        return f"{_share(value)} %"
    if measure.key == "tpot":
        return f"{_plain(1000 * value)} ms"
    return f"{_plain(value)} {measure.unit}"


def _plain(value: float | None) -> str:
    """Three digits."""
    if value is None:
        return NO_VALUE
    if abs(value) >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3}f}"


def _share(value: float | None) -> str:
    return NO_VALUE if value is None else f"{100 * value:.1f}"

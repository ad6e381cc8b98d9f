"""Figures of the variants: throughput, latencies, differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.metrics.runs import over_runs
from orchestrator.report.comparisons import Line
from orchestrator.report.names import Names
from orchestrator.report.pairs import OPTIMIZATION
from orchestrator.report.pareto import per_gpu
from orchestrator.report.theme import COLORS, FAINT, INK, MOST_ROWS, MOST_SETTINGS, Figure, data_of
from orchestrator.report.variants import Variant

OVER_RUNS, WITHIN, NONE = "95 % over runs", "95 % within one run", "no interval"
_LATENCIES = (
    ("ttft_s_p50", "First token (TTFT), s"),
    ("ttfvt_s_p50", "First visible token (TTFVT), s"),
    ("e2e_s_p50", "Whole answer (E2E), s"),
    ("tpot_s_p50", "Each further token (TPOT), ms"),
)
_PERCENT = 100.0
_VERDICTS = {  # the colour of each
    **{"different": COLORS[0], "equivalent": COLORS[2], "undecided": COLORS[6]},
    **{"within this run": COLORS[5], "too few": COLORS[3]},
}
Rows = list[dict[str, Any]]


def throughput(variants: Sequence[Variant], names: Names) -> Figure | None:
    """Output tokens per second and GPU of each variant."""
    gpus = any(variant.row.get("gpus") for variant in variants)
    unit = "tokens/s per GPU" if gpus else "tokens/s"
    rows: Rows = []
    for variant in variants:
        divided = [max(1, variant.row.get("gpus") or 0)] * 2
        found = _interval(variant, per_gpu(variant), "output_token_per_s", divided)
        rows += [] if found is None else [{**_name(variant, names), **found}]
    if not rows:
        return None
    return Figure(
        "throughput",
        "Throughput",
        f"Output {unit} of {len(rows)} configurations with their intervals; the numbers are below.",
        f"Output {unit}, reasoning included; more is better. {_intervals_said(rows)}{_cut(rows)}",
        _dots(rows, f"output {unit}"),
        rows,
    )


def latency(variants: Sequence[Variant], names: Names) -> Figure | None:
    """Medians of the latencies of each variant."""
    import altair as alt

    rows: Rows = []
    for column, title in _LATENCIES:
        scale = 1000.0 if title.endswith("ms") else 1.0
        for variant in variants:
            if column.startswith("ttfvt") and (
                variant.row.get("model_kind") != "reasoning"
                or (variant.mean("ttfvt_censored_share") or 0) > 0.5
            ):
                continue
            values = [scale * value for value in variant.values(column)]
            found = _interval(variant, values, column, [1 / scale] * 2)
            rows += [] if found is None else [{**_name(variant, names), "measure": title, **found}]
    if not rows:
        return None
    shown = [title for _, title in _LATENCIES if any(row["measure"] == title for row in rows)]
    charts = [_dots([row for row in rows if row["measure"] == title], title) for title in shown]
    return Figure(
        "latency",
        "Latency",
        f"Medians of {', '.join(shown)} of each configuration with their intervals; numbers below.",
        f"Medians over the requests; less is better. {_intervals_said(rows)}{_cut(rows)}",
        alt.vconcat(*charts, spacing=26).resolve_scale(color="shared"),
        rows,
    )


def differences(lines: Sequence[Line], names: Names) -> Figure | None:
    """Each optimization's differences from the baseline with their intervals."""
    import altair as alt

    titles = ("throughput", "e2e", "ttft", "tpot", "tokens")
    rows: Rows = [
        {
            "label": f"{names.configuration(line.pair.variant)} · {names.setting(line.pair.variant)}",
            "measure": line.measure.title,
            "value": _PERCENT * line.difference,
            "low": None if line.low is None else _PERCENT * line.low,
            "high": None if line.high is None else _PERCENT * line.high,
            "verdict": line.verdict,
        }
        for line in lines
        if line.pair.axis is OPTIMIZATION and line.measure.key in titles and line.difference is not None
    ]
    if not rows:
        return None
    decided = {row["label"] for row in rows if row["verdict"] == "different"}
    labels = list(dict.fromkeys(row["label"] for row in rows))
    kept = sorted(labels, key=lambda one: one not in decided)[:MOST_ROWS]
    told = f"Of {len(labels):,} comparisons {MOST_ROWS}, those with a significant difference first"
    cut = f" {told}; the CSV has all." if len(labels) > MOST_ROWS else ""
    shown = list(dict.fromkeys(row["measure"] for row in rows))
    data = data_of([row for row in rows if row["label"] in kept])
    y = alt.Y("label:N", title=None, sort=None)
    scale = alt.Scale(domain=list(_VERDICTS), range=list(_VERDICTS.values()))
    color = alt.Color("verdict:N", scale=scale, legend=alt.Legend(orient="bottom", columns=5))
    base = alt.Chart(width=460, height=alt.Step(22))
    zero = base.mark_rule(color=FAINT, strokeDash=[4, 3]).encode(x=alt.datum(0))
    whiskers = base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q", y=y, color=color)
    dots = base.mark_point(filled=True, size=80).encode(
        x=alt.X("value:Q", title="% of the baseline"),
        y=y,
        color=color,
        shape=alt.Shape("verdict:N", legend=None),
    )
    chart = (
        alt.layer(zero, whiskers, dots, data=data)
        .facet(facet=alt.Facet("measure:N", sort=shown, header=alt.Header(labelOrient="top")), columns=1)
        .resolve_scale(x="independent")
    )
    return Figure(
        "differences",
        "What each optimization changes",
        "Differences of each optimization from its baseline, in per cent, with 95 % intervals and verdicts.",
        "In per cent of the baseline, with 95 % intervals; a point without one has too few runs. To the "
        f"right is more: better for throughput, worse for times.{cut}",
        chart,
        rows,
    )


def _dots(rows: Rows, title: str) -> Any:
    """Points with whiskers, one line a configuration, under the name of its setting."""
    import altair as alt

    drawn = _drawn(rows)
    color = alt.Color("engine:N", legend=alt.Legend(orient="bottom"))
    charts = []
    for setting in dict.fromkeys(row["setting"] for row in drawn):
        of_setting = [row for row in drawn if row["setting"] == setting]
        base = alt.Chart(data_of(of_setting), width=520, height=alt.Step(22))
        y = alt.Y("label:N", title=None, sort=None)
        dash = alt.StrokeDash(
            "interval:N",
            scale=alt.Scale(domain=[OVER_RUNS, WITHIN, NONE], range=[[1, 0], [4, 3], [1, 0]]),
            legend=None,
        )
        x = alt.X("value:Q", title=title, scale=alt.Scale(zero=True))
        whiskers = base.mark_rule(strokeWidth=2).encode(
            x="low:Q", x2="high:Q", y=y, color=color, strokeDash=dash
        )
        dots = base.mark_point(filled=True, size=80, opacity=1).encode(
            x=x, y=y, color=color, shape=alt.Shape("engine:N", legend=None)
        )
        head = alt.Title(setting, anchor="start", fontSize=12, color=INK)
        charts.append(alt.layer(whiskers, dots).properties(title=head))
    return alt.vconcat(*charts, spacing=14) if len(charts) > 1 else charts[0]


def _interval(
    variant: Variant, values: Sequence[float], column: str, divided: Sequence[float]
) -> dict[str, Any] | None:
    """Over the runs; of one run, what is stored of within it."""
    found = over_runs(values)
    if found is None:
        return None
    low, high, kind = found.low, found.high, OVER_RUNS
    if found.runs == 1:
        ends = [variant.row.get(f"{column}_{end}") for end in ("low", "high")]
        low, high = (None if end is None else end / by for end, by in zip(ends, divided, strict=True))
        kind = NONE if low is None or high is None else WITHIN
    if low is not None:
        low = max(0.0, low)
    return {"value": found.mean, "low": low, "high": high, "runs": found.runs, "interval": kind}


def _name(variant: Variant, names: Names) -> dict[str, Any]:
    return {
        "label": names.configuration(variant),
        "setting": names.setting(variant),
        "engine": variant.facts["engine"],
    }


def _intervals_said(rows: Rows) -> str:
    kinds = {row["interval"] for row in rows}
    said = []
    if OVER_RUNS in kinds:
        said.append("Solid whiskers: 95 % over runs (Student's).")
    if WITHIN in kinds:
        said.append("Dashed: 95 % within one run, which says nothing of another run.")
    if NONE in kinds:
        said.append("Without whiskers: one run, and no interval is known.")
    return " ".join(said)


def _drawn(rows: Rows) -> Rows:
    """Of one measure: at most `MOST_ROWS` in all, of the first `MOST_SETTINGS`, setting by setting."""
    settings = list(dict.fromkeys(row["setting"] for row in rows))[:MOST_SETTINGS]
    return [row for setting in settings for row in rows if row["setting"] == setting][:MOST_ROWS]


def _cut(rows: Rows) -> str:
    """What is said where not all are drawn."""
    by_measure: dict[object, Rows] = {}
    for row in rows:
        by_measure.setdefault(row.get("measure"), []).append(row)
    if all(len(_drawn(of)) == len(of) for of in by_measure.values()):
        return ""
    return f" Only the first {MOST_ROWS}, of at most {MOST_SETTINGS} settings, are drawn; the CSV has all."

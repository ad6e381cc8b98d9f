"""The load against what it gives: requests in flight or in a batch, and arrivals at a rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from orchestrator.metrics.runs import over_runs
from orchestrator.report.comparisons import has_limits
from orchestrator.report.names import Names
from orchestrator.report.options import Options
from orchestrator.report.pareto import per_gpu
from orchestrator.report.theme import MOST_LINES, MOST_SETTINGS, Figure, data_of
from orchestrator.report.variants import Variant
from orchestrator.report.views.common import PERCENT, SLIGHT, Rows, below, colors, first, heading, number

WIDTH, HEIGHT, COLUMNS = 145, 130, 4
IN_FLIGHT = {"closed": "concurrency", "batch": "batch_size"}  # load -> the column of its size
OPEN = ("gamma", "poisson", "constant")
_FLIGHT = {
    **{"rate": "tokens/s per GPU", "ttft": "TTFT (median), s", "e2e": "E2E (mean), s"},
    "tpot": "TPOT (mean), ms",
}
_ARRIVALS = {
    **{"ttft": "TTFT (median), s", "e2e": "E2E (mean), s", "goodput": "goodput, 1/s"},
    "met": "within limits, %",
}
_AXES = {
    "in_flight": "in flight, or in a batch",
    "rate": "requests/s offered",
    "burst": "burstiness",
}
Value = Callable[[Variant], list[float]]


def in_flight(variants: Sequence[Variant], names: Names) -> Figure | None:
    """Throughput and latency of configurations that were measured with several numbers of requests."""
    rows = _several(
        _row(variant, variant.row[column], names.setting_but(variant, column), names, _flight_values())
        for variant in variants
        if (column := IN_FLIGHT.get(variant.facts["load"], "")) and variant.row.get(column)
    )
    if not rows:
        return None
    gpus = any(variant.row.get("gpus") for variant in variants)
    titles = _FLIGHT if gpus else {**_FLIGHT, "rate": "tokens/s"}
    return Figure(
        "in-flight",
        "Requests at once against throughput and latency",
        "Output tokens per second, TTFT, E2E and TPOT of each configuration against the number of requests "
        "in flight or in a batch, with 95 % intervals.",
        "Means over the runs, with 95 % intervals over them from two runs on. At most "
        f"{MOST_LINES} configurations of a setting.",
        _chart(rows, titles, "in_flight"),
        rows,
        _flight_advice(rows),
    )


def arrivals(variants: Sequence[Variant], names: Names, options: Options) -> list[Figure]:
    """Latency and goodput against the rate of the arrivals, and against their burstiness (below 1 is burstier
    than Poisson): of what was measured at several."""
    opened = [one for one in variants if one.facts["load"] in OPEN and one.row.get("request_rate")]
    found = []
    for axis, column, title, advise in (
        ("rate", "request_rate", "Arrivals: rate against latency and goodput", _rate_advice),
        ("burst", "burstiness", "Arrivals: burstiness against latency and goodput", _burst_advice),
    ):
        rows = _several(
            _row(variant, variant.row[column], names.setting_but(variant, column), names, _arrival_values())
            | {"behind": any("behind" in (run.row.get("flags") or ()) for run in variant.runs)}
            for variant in opened
            if variant.row.get(column) is not None
        )
        if rows:
            found.append(
                Figure(
                    f"arrivals-{axis}",
                    title,
                    f"TTFT, E2E and goodput of each configuration against {_AXES[axis]}, with intervals.",
                    "Means over the runs, with 95 % intervals over them from two runs on. Hollow: the server "
                    "did not keep up, so that its latencies are those of a growing queue. Goodput counts "
                    "requests within the limits (slo.*) alone, and is not drawn without any. At most "
                    f"{MOST_LINES} configurations of a setting.",
                    _chart(rows, _ARRIVALS, axis),
                    rows,
                    advise(rows, options),
                )
            )
    return found


def _flight_values() -> dict[str, Value]:
    return {
        "rate": per_gpu,
        "ttft": lambda variant: variant.values("ttft_s_p50"),
        "e2e": lambda variant: variant.values("e2e_s_mean"),
        "tpot": lambda variant: [1000 * value for value in variant.values("tpot_s_mean")],
    }


def _arrival_values() -> dict[str, Value]:
    return {
        "ttft": lambda variant: variant.values("ttft_s_p50"),
        "e2e": lambda variant: variant.values("e2e_s_mean"),
        "goodput": lambda variant: variant.values("goodput_per_s") if has_limits(variant) else [],
        "met": lambda variant: (
            [PERCENT * value for value in variant.values("slo_attainment")] if has_limits(variant) else []
        ),
    }


def _row(
    variant: Variant, x: float, setting: str, names: Names, values: Mapping[str, Value]
) -> dict[str, Any]:
    row: dict[str, Any] = {"label": names.configuration(variant), "setting": setting, "x": float(x)}
    row |= {"opt": variant.facts["opt"], "runs": len(variant.runs)}
    for name, of in values.items():
        found = over_runs(of(variant))
        row[name] = None if found is None else found.mean
        row[f"{name}_low"] = None if found is None or found.low is None else max(0.0, found.low)
        row[f"{name}_high"] = None if found is None else found.high
    return row


def _several(rows: Iterable[dict[str, Any]]) -> Rows:
    """Of lines with more than one x and something measured; at most `MOST_LINES` of a setting."""
    lines: dict[str, dict[str, Rows]] = {}
    for row in rows:
        if any(isinstance(value, float) for name, value in row.items() if name != "x"):
            lines.setdefault(row["setting"], {}).setdefault(row["label"], []).append(row)
    kept = [[line for line in of.values() if len({row["x"] for row in line}) > 1] for of in lines.values()]
    return [
        row
        for of in [one for one in kept if one][:MOST_SETTINGS]
        for line in first(of, lambda line: str(line[0]["opt"]))
        for row in sorted(line, key=lambda row: float(row["x"]))
    ]


def _chart(rows: Rows, titles: Mapping[str, str], axis: str) -> Any:
    import altair as alt

    color = colors(rows)
    charts = []
    for setting in dict.fromkeys(row["setting"] for row in rows):
        of = [row for row in rows if row["setting"] == setting]
        places = sorted({row["x"] for row in of})
        scale = alt.Scale(type="log", base=2, nice=False, padding=12)
        x = alt.X(
            "x:Q",
            scale=scale,
            axis=alt.Axis(values=places, title=_AXES[axis], format="~g", grid=False, labelSeparation=1),
        )
        panels = []
        for column, title in titles.items():
            drawn = [row for row in of if row[column] is not None]
            if not drawn:
                continue
            base = alt.Chart(data_of(drawn), width=WIDTH, height=HEIGHT)
            y = alt.Y(f"{column}:Q", title=title, scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5))
            whiskers = base.mark_rule().encode(x=x, y=f"{column}_low:Q", y2=f"{column}_high:Q", color=color)
            line = base.mark_line().encode(x=x, y=y, color=color)
            dots = base.mark_point(size=55, strokeWidth=2, opacity=1).encode(
                x=x,
                y=y,
                color=color,
                shape=alt.Shape("label:N", legend=None),
                fill=alt.condition(
                    "datum.behind", alt.value("transparent"), alt.Fill("label:N", legend=None)
                ),
            )
            panels.append(alt.layer(whiskers, line, dots))
        charts.append(alt.concat(*panels, columns=COLUMNS, spacing=12).properties(title=heading(setting)))
    return below(charts)


def _lines_of(rows: Rows) -> list[Rows]:
    found: dict[tuple[str, str], Rows] = {}
    for row in rows:
        found.setdefault((row["setting"], row["label"]), []).append(row)
    return list(found.values())


def _named(row: Mapping[str, Any]) -> str:
    return f"{row['label']} ({row['setting']})"


def _flight_advice(rows: Rows) -> str:
    """Of the line with the most sizes: from which one on a doubling gives less than a tenth more."""
    able = [[row for row in line if row["rate"] and row["e2e"]] for line in _lines_of(rows)]
    line = max(able, key=len)
    if len(line) < 2:
        return "Measure tokens/s and E2E with two numbers of requests at once: one says nothing of another."
    for row, after in pairwise(line):
        gain = (after["rate"] / row["rate"]) ** (1 / math.log2(after["x"] / row["x"])) - 1
        if gain < SLIGHT:
            change, longer = after["rate"] / row["rate"] - 1, after["e2e"] / row["e2e"] - 1
            return (
                f"Stop at about {row['x']:g} at once with {_named(row)}: {after['x']:g} change tokens/s by "
                f"{_signed(change)} % and the time of an answer by {_signed(longer)} %"
                f"{_once(row, after)}."
            )
    last, before = line[-1], line[-2]
    return (
        f"Measure more than {last['x']:g} at once with {_named(last)}, if {number(last['e2e'])} s an "
        f"answer are still within your limits: from {before['x']:g} on tokens/s still grew by "
        f"{number(PERCENT * (last['rate'] / before['rate'] - 1))} %{_once(before, last)}."
    )


def _rate_advice(rows: Rows, options: Options) -> str:
    """Of the line with the most rates: the highest one before the first at which it fell behind, or missed
    its limits."""
    line = max(_lines_of(rows), key=len)
    share = PERCENT * options.slo_attainment
    limited = any(row["met"] is not None for row in line)
    kept = []
    for row in line:
        if row["behind"] or (row["met"] is not None and row["met"] < share):
            break
        kept.append(row)
    met = f" and met the limits for {share:g} % of the requests" if limited else ""
    who, good = _named(line[0]), f"was not seen to fall behind{met}"
    if len(kept) == len(line):
        return f"Measure above {line[-1]['x']:g} requests/s: {who} {good} at every rate."
    failed = line[len(kept)]
    why = "fell behind" if failed["behind"] else f"met the limits for only {number(failed['met'])} %"
    if not kept:
        return f"Measure below {failed['x']:g} requests/s, or add GPUs: already there {who} {why}."
    return (
        f"Offer {who} at most {kept[-1]['x']:g} requests/s, the highest rate at which it {good}: at "
        f"{failed['x']:g} it {why}."
    )


def _burst_advice(rows: Rows, options: Options) -> str:
    """Of the line whose first token suffers most."""
    able = [[row for row in line if row["ttft"]] for line in _lines_of(rows)]
    able = [line for line in able if len(line) > 1]
    if not able:
        return "Measure TTFT at two values of burstiness: what bursts cost cannot be told from one."
    line = max(able, key=lambda one: float(one[0]["ttft"] / one[-1]["ttft"]))
    bursty, even = line[0], line[-1]
    change = bursty["ttft"] / even["ttft"] - 1
    told = (
        f"burstiness {bursty['x']:g} instead of {even['x']:g} changes the median TTFT of {_named(bursty)} by "
        f"{_signed(change)} % ({number(even['ttft'])} to {number(bursty['ttft'])} s){_once(bursty, even)}"
    )
    if change < SLIGHT:
        return f"Bursts need no room of their own here: {told}."
    return f"Size for the bursts that you have, since {told}."


def _once(*rows: Mapping[str, Any]) -> str:
    """Of one run nobody knows what the next one gives."""
    return (
        ", from a single run, so measure again before you build on it"
        if min(r["runs"] for r in rows) < 2
        else ""
    )


def _signed(share: float) -> str:
    return f"{'+' if share > 0 else '−' if share < 0 else ''}{number(PERCENT * abs(share))}"

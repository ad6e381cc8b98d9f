"""What the views share: which variants are drawn, and how charts and numbers are put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from orchestrator.report.names import Names
from orchestrator.report.theme import FAINT, INK, MOST_LINES, MOST_SETTINGS
from orchestrator.report.variants import Variant

Rows = list[dict[str, Any]]
T = TypeVar("T")
PERCENT = 100.0
SLIGHT = 0.1  # a change below a tenth is called none worth acting on


def by_setting(variants: Sequence[Variant], names: Names, most: int = MOST_LINES) -> dict[str, list[Variant]]:
    """At most ``most`` variants of a setting, as `first` has it, of the first `MOST_SETTINGS`."""
    found: dict[str, list[Variant]] = {}
    for variant in variants:
        found.setdefault(names.setting(variant), []).append(variant)
    return {
        setting: first(of, lambda one: one.facts["opt"], most)
        for setting, of in list(found.items())[:MOST_SETTINGS]
    }


def first(these: Sequence[T], opt_of: Callable[[T], str], most: int = MOST_LINES) -> list[T]:
    """At most ``most``, in their order: those without an optimization before others, so that no model is left
    out for another's optimizations."""
    by_rank = sorted(range(len(these)), key=lambda i: (opt_of(these[i]) != "none", i))
    return [these[i] for i in sorted(by_rank[:most])]


def label(variant: Variant, names: Names) -> dict[str, Any]:
    """The columns that name a row of a figure."""
    return {
        "label": names.configuration(variant),
        "setting": names.setting(variant),
        "kind": str(variant.row.get("model_kind") or "unknown kind"),
    }


def of_items(variant: Variant, column: str) -> dict[str, Any]:
    """What the dataset says of each item, where it says something: ``level`` or ``family``."""
    found: dict[str, Any] = {}
    for run in variant.runs:
        if run.requests is not None and column in run.requests.columns:
            columns = run.requests.columns
            pairs = zip(columns["item_id"], columns[column], strict=True)
            found |= {item: value for item, value in pairs if value is not None}
    return found


def drawn_said(variants: Sequence[Variant], names: Names) -> str:
    """Of more configurations than are drawn; empty where all are."""
    if len(variants) == sum(map(len, by_setting(variants, names).values())):
        return ""
    return (
        f" Of more than {MOST_LINES} configurations of a setting or {MOST_SETTINGS} settings, the first ones."
    )


def cut_said(variants: Sequence[Variant]) -> str:
    """Of windows that ended before their requests; empty where none did."""
    if not any(variant.mean("requests_cut") for variant in variants):
        return ""
    return " Requests that the end of the window cut off are not among these, and they are the longer ones."


def heading(text: str | Sequence[str]) -> Any:
    """Of altair: a chart's title, or its lines, above its left end."""
    import altair as alt

    return alt.Title(text, anchor="start", fontSize=12, color=INK)


def below(charts: Sequence[Any]) -> Any:
    """One chart under the other."""
    import altair as alt

    return alt.vconcat(*charts, spacing=16) if len(charts) > 1 else charts[0]


def colors(rows: Sequence[Mapping[str, Any]], field: str = "label") -> Any:
    """Of altair: one colour a configuration, the same in all charts of a figure, with its legend below."""
    import altair as alt

    domain = list(dict.fromkeys(row[field] for row in rows))
    return alt.Color(
        f"{field}:N", scale=alt.Scale(domain=domain), legend=alt.Legend(orient="bottom", columns=1)
    )


def kinds(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Of altair: one shape for reasoning and one for standard models, with a legend where there are both."""
    import altair as alt

    several = len({row["kind"] for row in rows}) > 1
    legend = alt.Legend(orient="bottom", symbolFillColor=FAINT, symbolStrokeColor=FAINT) if several else None
    return alt.Shape("kind:N", legend=legend)


def number(value: float) -> str:
    """Three digits, for people."""
    size = abs(value)
    places = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{value:,.{places}f}" if size >= 0.095 or value == 0 else f"{value:.2g}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """``a, b and c``; of more than ``most`` the first, and how many others."""
    shown = [*names[:most], *([f"{len(names) - most} more"] if len(names) > most else [])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"

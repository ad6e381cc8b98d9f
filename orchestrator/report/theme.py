"""How figures look, and how one becomes SVG and PNG files and a part of the page that follows its colours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Okabe and Ito's colours, told apart by the colour-blind, without the two that vanish on white or on black.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F", "#8C5A2B")
ON_DARK = ("#4DA3DB", "#FF8A3D", "#2CC79A", "#E6A3C8", "#8CCBF2", "#F0B840", "#B0B0B0", "#C99A6B")
SHAPES = (
    *("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-left"),
    "triangle-right",
)
INK, FAINT, GRID = "#1B1F24", "#59636E", "#D9DEE3"
INK_DARK, FAINT_DARK, GRID_DARK = "#E8EBEE", "#A3ADB8", "#3A4149"
FONT = "Helvetica, Arial, sans-serif"
_NEEDLESS = (r' (?:class|pointer-events|font-family)="[^"]*"', r' (?:opacity|stroke-width)="1"')  # in a page
READABLE = 0.85  # of its own width: as small as a figure gets on a narrow screen, which scrolls then
MOST_ROWS, MOST_LINES, MOST_SETTINGS = 40, 8, 8  # of a figure; the rest is in its CSV


@dataclass(frozen=True)
class Figure:
    """``alt`` says what it shows for who cannot see it, ``caption`` how to read it, ``advice`` what to do, in
    one sentence from the numbers, after what it ``leads`` with. ``rows``: the numbers behind it."""

    name: str
    title: str
    alt: str
    caption: str
    chart: Any  # of altair, any kind
    rows: Sequence[Mapping[str, Any]]
    advice: str = ""
    leads: str = "What to do:"  # what stands before the advice


def data_of(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Of altair: a chart's data. A tuple, since altair copies lists value by value whenever charts are put
    together."""
    import altair as alt

    return alt.InlineData(values=tuple(rows))


def specification(figure: Figure) -> dict[str, Any]:
    """As Vega-Lite, with the look of all figures."""
    spec: dict[str, Any] = figure.chart.to_dict(validate=False)  # what is drawn from it tells what is wrong
    axis = {
        **{"labelColor": INK, "titleColor": INK, "gridColor": GRID, "domainColor": FAINT, "tickColor": FAINT},
        **{"labelFont": FONT, "titleFont": FONT, "labelFontSize": 12, "titleFontSize": 12},
        **{"titleFontWeight": "normal", "labelLimit": 420, "labelOverlap": True},
    }
    text = {"labelColor": INK, "titleColor": INK, "labelFont": FONT, "titleFont": FONT, "labelFontSize": 12}
    spec["config"] = {
        "view": {"stroke": None},
        "axis": axis,
        "axisQuantitative": {"tickCount": 6, "labelSeparation": 8},
        "legend": {**text, "labelLimit": 420, "symbolSize": 90, "title": None},
        "header": {
            **text,
            "labelFontWeight": "bold",
            "labelLimit": 700,
            "labelAnchor": "start",
            "title": None,
        },
        "range": {"category": list(COLORS), "symbol": list(SHAPES)},
        "font": FONT,
        "background": None,
        "padding": {"left": 44, "right": 12, "top": 6, "bottom": 6},
    }
    return spec


def picture(spec: Mapping[str, Any]) -> tuple[str, bytes]:
    """A `specification` as SVG without a background, and as PNG."""
    drawn = svg(spec)
    return drawn, png(drawn)


def svg(spec: Mapping[str, Any]) -> str:
    """A `specification` without a background."""
    import vl_convert

    found: str = vl_convert.vegalite_to_svg(dict(spec))
    return found[found.index("<svg") :]


def on_white(drawn: str) -> str:
    """A figure of `picture` as a file of its own, for papers."""
    end = drawn.index(">") + 1
    return f'{drawn[:end]}<rect width="100%" height="100%" fill="white"/>{drawn[end:]}'


def png(drawn: str) -> bytes:
    """Of the SVG, on white, at twice the size."""
    import vl_convert

    found: bytes = vl_convert.svg_to_png(on_white(drawn), scale=2)
    return found


def inline(name: str, drawn: str) -> str:
    """For the page: one image to a screen reader, with ids of its own, and without what the page's style says
    or what is so anyway."""
    found = re.sub(r' (?:role|aria-[a-z]+)="[^"]*"', "", drawn)
    for what in _NEEDLESS:
        found = re.sub(what, "", found)
    found = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', found)
    found = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", found)
    found = re.sub(r'xlink:href="#([^"]+)"', rf'xlink:href="#{name}-\1"', found)
    label = f'role="img" aria-labelledby="{name}-title {name}-alt"'
    if width := re.match(r'<svg[^>]* width="([0-9.]+)"', found):
        label += f' style="min-width:{READABLE * float(width[1]):.0f}px"'
    return found.replace("<svg", f"<svg {label}", 1)


def stylesheet() -> str:
    """Rules that give an inlined figure the page's colours: those of its own attributes in the light, others
    in the dark."""
    pairs = [*zip(COLORS, ON_DARK, strict=True), (INK, INK_DARK), (FAINT, FAINT_DARK), (GRID, GRID_DARK)]
    rules = [
        f'.figure svg [{attribute}="{light}" i]{{{attribute}:{dark}}}'
        for light, dark in pairs
        for attribute in ("fill", "stroke")
    ]
    font = f".figure svg{{font-family:{FONT}}}"
    return font + "@media (prefers-color-scheme: dark){" + "".join(rules) + "}"

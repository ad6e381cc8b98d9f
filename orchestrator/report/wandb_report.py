"""The comparison as a Report of Weights & Biases, made with `wandb_workspaces.reports.v2`: the page's words
and tables, and panels of what the tracker logged (`orchestrator.track.wandb_run`).

Nothing here asks the network. Its run set names each run that the page compares, by its id: what stands
apart, and an attempt that a later one took the place of, is in no mean.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from orchestrator.config.schema import SloConfig, TrackerConfig
from orchestrator.report.answer import Answer, headline
from orchestrator.report.blocks import blocks_note
from orchestrator.report.comparisons import MEASURES
from orchestrator.report.findings import Findings
from orchestrator.report.options import Options, counted
from orchestrator.report.overall import overall
from orchestrator.report.page import ANSWERS_SHOWN, cautions, in_order, limits_said, unmeasured
from orchestrator.report.settings import configuration_of
from orchestrator.report.tables import Table
from orchestrator.report.variants import CONFIGURATION, SETTING, Run, Variant
from orchestrator.store.schema import CELLS, METRIC_COLUMNS
from orchestrator.track.wandb_run import GAUGES, project_of, run_id

TITLE_LENGTH = 128  # the service's own limit
MOST_GROUPS = 100  # of a panel
WIDE, HIGH, ABREAST = 8, 6, 3  # a panel's size, and how many are side by side, in the report's grid
# What a panel of bars shows beside the columns of `MEASURES`. Of these, the tokens are those of all answers.
_INSTEAD = {"output_tokens": "output_length_mean"}
_PER_GPU = ("output_token_per_s_per_gpu", "Throughput per GPU, tokens/s")
_OF_LIMITS = ("goodput_per_s",)  # changes with limits, and a run has that of its own
SCATTERED = (
    ("tpot_s_mean", "output_token_per_s", "Throughput against time per token"),
    ("e2e_s_mean", "accuracy", "Accuracy against time of an answer"),
)
# A gauge is drawn where the cell has a number of it.
_SUMMED = {"kv_usage": "kv_usage_max", "running": "running_mean", "waiting": "waiting_mean"}


@dataclass(frozen=True)
class Tracked:
    """The runs of a report that the tracker logged to this project, that of most of them. ``entity`` None:
    the user's own. ``elsewhere``: how many it logged to other projects."""

    project: str
    entity: str | None
    runs: tuple[Run, ...] = ()
    elsewhere: int = 0


def tracked(findings: Findings, options: Options) -> Tracked:
    """Where ``wandb.project`` or ``wandb.entity`` is given, it is taken as that of all runs."""
    places: dict[tuple[str, str | None], list[Run]] = {}
    for run in _runs(findings):
        stored = configuration_of(run.row).get("tracker") or {}
        if stored.get("name") == "wandb":
            own = TrackerConfig("wandb", stored.get("project"), stored.get("entity"))
            places.setdefault(_place(own, options), []).append(run)
    if not places:
        return Tracked(*_place(TrackerConfig(), options))
    place = max(places, key=lambda one: len(places[one]))
    elsewhere = sum(len(runs) for other, runs in places.items() if other != place)
    return Tracked(*place, tuple(places[place]), elsewhere)


def _place(config: TrackerConfig, options: Options) -> tuple[str, str | None]:
    entity = options.wandb_entity or config.entity or os.environ.get("WANDB_ENTITY") or None
    return options.wandb_project or project_of(config), entity


def _runs(findings: Findings) -> list[Run]:
    return [run for variant in findings.variants for run in variant.runs]


def _library() -> Any:
    """Unseen by type checks, which its own annotations do not pass."""
    return import_module("wandb_workspaces.reports.v2")


def report_of(findings: Findings, tables: Sequence[Table], options: Options, logged: Tracked) -> Any:
    """A ``wandb_workspaces.reports.v2.Report``, not saved. Its entity is empty for the user's own."""
    wr = _library()

    title = f"Report: {', '.join(options.studies)}"
    after = [table for table in tables if table.name in ("accuracy", "measured", "apart")]
    blocks = [
        *_words(findings, options),
        *(block for table in tables if table not in after for block in _table(table)),
        *_panels(findings, logged),
        *(block for table in after for block in _table(table)),
    ]
    return wr.Report(
        project=logged.project,
        entity=logged.entity or "",
        title=title if len(title) <= TITLE_LENGTH else title[: TITLE_LENGTH - 1] + "…",
        description=headline(findings.answers) or "",
        blocks=blocks,
        width="fluid",
    )


def _words(findings: Findings, options: Options) -> Iterator[Any]:
    """As the page begins."""
    wr = _library()

    yield wr.H2("The answer")
    yield wr.P(f"Limits: {'; '.join(limits_said(_runs(findings), options))}.")
    if (in_blocks := blocks_note(findings.lines)) is not None:
        yield wr.P(in_blocks)
    if switched := overall(findings.lines, options):
        yield wr.H3("Should it be switched on?")
        lines = [(f"{one.opt}:", one.verdict, one.counts) for one in switched]
        yield wr.UnorderedList([" ".join(filter(None, words)) for words in lines])
        yield wr.H3("What to take in each setting")
    if (all_in_one := headline(findings.answers)) is not None:
        yield wr.P(all_in_one)
    answers = in_order(findings.answers)
    for answer in answers[:ANSWERS_SHOWN]:
        yield from _answer(answer)
    if said := [*unmeasured(findings), *cautions(findings, options)]:
        yield wr.H3("Read this first")
        yield wr.UnorderedList(list(said))
    if folded := answers[ANSWERS_SHOWN:]:
        blocks = [block for answer in folded for block in _answer(answer)]
        yield wr.H2(f"{len(folded)} more settings", collapsed_blocks=blocks)


def _answer(answer: Answer) -> Iterator[Any]:
    wr = _library()

    yield wr.H3(answer.where)
    yield wr.P(f"{'Decided' if answer.decided else 'Open'}: {answer.take}")
    parts = ("In numbers", answer.gains), ("How sure that is", answer.sure), ("What limits it", answer.limits)
    for title, said in parts:
        if said:
            yield wr.P(f"{title}:")
            yield wr.UnorderedList(list(said))


def _table(table: Table) -> Iterator[Any]:
    wr = _library()

    yield wr.H2(table.title)
    yield wr.P(table.note)
    yield wr.MarkdownBlock(markdown(table))
    if table.shown < len(table.cells):
        yield wr.P(
            f"The first {table.shown:,} of {len(table.cells):,} rows; the page's files have all of them."
        )


def markdown(table: Table) -> str:
    """With as many rows as the page shows. Nothing in a cell's text is taken for markup."""
    rule = " | ".join("---" for _ in table.head)
    rows = zip(table.spans, table.cells[: table.shown], strict=False)
    lines = [_line(table.head), f"| {rule} |"]
    lines += [_line([row[0] if span else "", *row[1:]]) for span, row in rows]
    return "\n".join(lines)


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(_escaped(text) for text in texts)} |"


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|~$&])", r"\\\1", " ".join(text.split()))


def _panels(findings: Findings, logged: Tracked) -> Iterator[Any]:
    wr = _library()

    yield wr.H2("The runs")
    if not logged.runs:
        yield wr.P(
            "There are no runs of these cells on Weights & Biases: they were measured with tracker=none."
        )
        return
    axes = varied(findings.variants)
    for said in _said_of_runs(findings, logged, axes):
        yield wr.P(said)
    named = Counter(run.study for run in logged.runs)
    runset = wr.Runset(
        name=", ".join(named),
        filters=f"Metric('ID') in {[run_id(run.row) for run in logged.runs]!r}",
        groupby=[f"config.{axis}" for axis in axes],
    )
    most = min(MOST_GROUPS, max(len(findings.variants), len(logged.runs)))
    shown = [
        *(
            wr.BarPlot(title=title, metrics=[column], max_bars_to_show=most, max_runs_to_show=most)
            for column, title in bars(logged.runs)
        ),
        *(
            wr.ScatterPlot(title=title, x=x, y=y)
            for x, y, title in SCATTERED
            if _has(logged.runs, x) and _has(logged.runs, y)
        ),
        *(
            wr.LinePlot(
                title=f"{gauge} over the seconds of a cell", x="t_s", y=[gauge], max_runs_to_show=most
            )
            for gauge in GAUGES
            if _has(logged.runs, _SUMMED[gauge])
        ),
    ]
    for place, panel in enumerate(shown):
        row, column = divmod(place, ABREAST)
        panel.layout = wr.Layout(x=WIDE * column, y=HIGH * row, w=WIDE, h=HIGH)
    yield wr.PanelGrid(runsets=[runset], panels=shown)


def _said_of_runs(findings: Findings, logged: Tracked, axes: Sequence[str]) -> Iterator[str]:
    by = f"; a group is a configuration, by {', '.join(axes)}" if axes else ""
    yield f"{counted(len(logged.runs), 'run')}: those that are compared above{by}."
    if without := len(_runs(findings)) - len(logged.runs) - logged.elsewhere:
        yield f"{counted(without, 'cell')} compared above without a run here: measured with tracker=none."
    if logged.elsewhere:
        yield (
            f"{counted(logged.elsewhere, 'run')} of other projects: not in the panels, which are of "
            f"{logged.project} alone."
        )
    if _other_limits(logged.runs):
        yield "Goodput of these runs is that of other limits than the report's: it is in the tables alone."
    if len(findings.variants) > MOST_GROUPS:
        yield f"A panel shows {MOST_GROUPS} of the {len(findings.variants)} configurations."


def bars(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """The metrics of a run's summary that are drawn as bars, with their titles: those that a run has."""
    measures = [(_INSTEAD.get(one.column, one.column), f"{one.title}, {one.unit}") for one in MEASURES]
    changed = _OF_LIMITS if _other_limits(runs) else ()
    return [
        (column, title)
        for column, title in (measures[0], _PER_GPU, *measures[1:])
        if column in METRIC_COLUMNS and column not in changed and _has(runs, column)
    ]


def _other_limits(runs: Sequence[Run]) -> bool:
    """Whether goodput is read under other limits than those that the runs were measured and logged with."""
    return any(
        run.row.get(f"slo_{one.name}") != (configuration_of(run.row).get("slo") or {}).get(one.name)
        for run in runs
        for one in fields(SloConfig)
    )


def _has(runs: Sequence[Run], column: str) -> bool:
    return any(run.row.get(column) is not None for run in runs)


def varied(variants: Sequence[Variant]) -> list[str]:
    """The columns that tell the variants apart, as few as do, of those that a run's config has. Where these
    do not, since a setting without a column differs, the name of the runs' first cell does, or of their own
    where an older version stored no other."""
    names = [name for name in (*CONFIGURATION, *SETTING) if name in CELLS.names]
    found: list[str] = []
    apart = min(1, len(variants))
    for name in names:
        told = len({tuple(one.facts[key] for key in (*found, name)) for one in variants})
        if told > apart:
            found.append(name)
            apart = told
    if apart == len(variants):
        return found
    known = all(run.row.get("run_of") for one in variants for run in one.runs)
    return [*found, "run_of" if known else "cell_id"]


def unsent(logged: Tracked, options: Options) -> str | None:
    """One line on the runs that are on this machine alone, without which panels are empty; None for none."""
    ids = {run_id(run.row) for run in logged.runs}
    count, folders = 0, []
    for study in options.studies:
        own = [
            one for one in (options.results_dir / study / "wandb").glob("offline-run-*") if _id(one) in ids
        ]
        waiting = [one for one in own if not any(one.glob("*.wandb.synced"))]
        count += len(waiting)
        folders += [f"{shlex.quote(str(options.results_dir / study / 'wandb'))}/offline-run-*"] * bool(
            waiting
        )
    if not count:
        return None
    return f"{counted(count, 'run')} of it on this machine alone; to upload: wandb sync {' '.join(folders)}"


def _id(folder: Path) -> str:
    """Of the run that an ``offline-run-TIME-ID`` is of."""
    return folder.name.split("-", 3)[-1]

"""Makes a report: reads, compares, draws, writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from orchestrator.errors import ConfigError
from orchestrator.report import figures, theme, views
from orchestrator.report.accuracy import accuracy_rows
from orchestrator.report.answer import answers
from orchestrator.report.comparisons import compare, with_verdicts
from orchestrator.report.findings import Findings
from orchestrator.report.multiplicity import adjusted
from orchestrator.report.names import Names
from orchestrator.report.options import Options
from orchestrator.report.pairs import pairs
from orchestrator.report.progress import Progress, silent
from orchestrator.report.read import count_cells, read_runs
from orchestrator.report.tables import (
    Table,
    accuracy_table,
    apart_table,
    comparison_tables,
    measured_table,
)
from orchestrator.report.theme import Figure
from orchestrator.report.variants import Run, sort_out
from orchestrator.report.wandb_push import can_be_made, keep, push
from orchestrator.report.workers import workers
from orchestrator.tabular import csv_text, tabular, tex


@dataclass(frozen=True)
class Made:
    """The page's file; of a push, the address of the report on Weights & Biases, and what is still to do."""

    page: Path
    url: str | None = None
    note: str | None = None


def find(runs: Sequence[Run], options: Options, say: Progress = silent) -> Findings:
    """Raises ConfigError for a baseline that no cell has."""
    variants, apart = sort_out(runs)
    found, alone = pairs(variants, options.baseline) if variants else ([], [])
    names = Names(variants)
    lines = with_verdicts(adjusted(compare(found, partial(say, "comparing pairs"))), options)
    said = answers(variants, lines, options, names)
    return Findings(variants, apart, alone, lines, accuracy_rows(variants), said, names)


def make_report(options: Options, command: str, say: Progress = silent) -> Made:
    """Writes the folder ``options.out``. Raises ConfigError, before it writes anything, for what cannot be
    reported, and PushError, after that, for what cannot be pushed."""
    from orchestrator.report.page import page
    from orchestrator.report.wandb_report import report_of, tracked, unsent

    on_wandb = can_be_made(options)
    with workers(count_cells(options)) as mapped:
        findings = find(read_runs(options, mapped, say), options, say)
        say("making figures and tables")
        shown = _figures(findings, options)
        pictures = mapped(theme.picture, [theme.specification(figure) for figure in shown])
        tables = _tables(findings, options)
        files = _files(options.out)
        try:
            drawn = []
            for figure in shown:
                (files / f"{figure.name}.csv").write_text(csv_text(figure.rows))
            for table in tables:
                (files / f"table-{table.name}.csv").write_text(csv_text(table.rows))
                (files / f"table-{table.name}.tex").write_text(_latex(table))
            say("drawing figures", 0, len(shown))
            for figure, (svg, png) in zip(shown, pictures, strict=True):
                (files / f"{figure.name}.svg").write_text(theme.on_white(svg))
                (files / f"{figure.name}.png").write_bytes(png)
                drawn.append((figure, svg))
                say("drawing figures", len(drawn), len(shown))
            say("writing the page")
            path = options.out / "index.html"
            path.write_text(page(findings, tables, drawn, options, command))
            if on_wandb:
                logged = tracked(findings, options)
                report = report_of(findings, tables, options, logged)
                keep(report, options.out)
        except OSError as error:
            raise ConfigError(f"out={options.out} cannot be written ({error.strerror})") from error
    if not options.wandb:
        return Made(path)
    say("pushing to Weights & Biases")
    return Made(path, push(report, options.out), unsent(logged, options))


def _files(out: Path) -> Path:
    try:
        (out / "files").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"out={out} cannot be made ({error.strerror}): name a folder that can be"
        ) from error
    return out / "files"


def _tables(findings: Findings, options: Options) -> list[Table]:
    names = findings.names
    tables = [
        *comparison_tables(findings.lines, options, names),
        *views.tables(findings),
        accuracy_table(findings.accuracies, names),
        measured_table(findings.variants, names) if findings.variants else None,
        apart_table(findings.apart),
    ]
    return [table for table in tables if table is not None]


def _latex(table: Table) -> str:
    """A table environment."""
    caption = f"\\caption{{{tex(table.title)}. {tex(table.note)}}}"
    lines = tabular(table.head, table.cells, len(table.head))
    return "\n".join(["\\begin{table}", caption, *lines, "\\end{table}", ""])


def _figures(findings: Findings, options: Options) -> list[Figure]:
    from altair.utils.schemapi import debug_mode

    variants, names = findings.variants, findings.names
    with debug_mode(False):  # it would look at each number of a figure several times
        found = [
            figures.differences(findings.lines, names),
            figures.throughput(variants, names),
            figures.latency(variants, names),
            *views.figures(findings, options),
        ]
    return [figure for figure in found if figure is not None]

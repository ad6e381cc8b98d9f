"""``python -m orchestrator.show [results_dir=results] study=NAME``: a stored study, without its command.

The table that its sweep ended with, each row with its cell's id, and:

format=table   or markdown, latex (the same table), csv (every column of every cell, unrounded)
cell=ID        one cell alone: all that is stored of it (an id's beginning is enough)
wrong=N        the first N answers that were graded wrong, of the study or of ``cell``, with their questions
forget=ID      takes the cell out of the study: the next sweep measures it again. Its files are kept aside
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestrator.cell import by_key
from orchestrator.errors import ConfigError, StorageError
from orchestrator.metrics.stats import without_nan
from orchestrator.progress.cell_notes import print_notes
from orchestrator.progress.formats import latex, markdown
from orchestrator.progress.line import Line, runs_of
from orchestrator.progress.results_table import grids, print_grid, wide_console
from orchestrator.records import cut_off
from orchestrator.store.claims import Claims
from orchestrator.store.files import or_storage_error
from orchestrator.store.frames import check_studies
from orchestrator.store.read import read_attempts, read_cells, read_requests
from orchestrator.store.versions import refuse_newer
from orchestrator.store.write import clean_partial, forget
from orchestrator.tabular import csv_text

DONE, WRONG = 0, 2
PIPED = 400  # characters of a line in a file or a pipe, so that no table is broken
FORMATS = ("table", "markdown", "latex", "csv")
KEYS = ("results_dir", "study", "format", "cell", "wrong", "forget")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """What a command line asks for."""

    study_dir: Path
    format: str = "table"
    cell: str | None = None
    wrong: int | None = None
    forget: str | None = None


def main() -> None:
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = DONE
    raise SystemExit(code)


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit code: 0, or 2 where it asks for what there is not."""
    if set(arguments) & {"-h", "--help"}:
        print(__doc__)
        return DONE
    try:
        _show(parse(arguments))
    except (ConfigError, StorageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG
    return DONE


def parse(arguments: Sequence[str]) -> Asked:
    """Raises ConfigError for a key or a value that is none, and for a study that is not there."""
    given: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key not in KEYS or not equals:
            raise ConfigError(f"{argument}: must be KEY=VALUE with one of the keys {', '.join(KEYS)}")
        if key in given or not value:
            raise ConfigError(f"{argument}: {'is there twice' if key in given else 'has no value'}")
        given[key] = value
    results_dir = Path(given.get("results_dir", "results"))
    if "study" not in given:
        there = sorted(path.parent.name for path in results_dir.glob("*/cells"))
        raise ConfigError(f"study= is missing: name one; there are {', '.join(there) or 'none'}")
    study = given["study"]
    check_studies(results_dir, [study])
    if (form := given.get("format", "table")) not in FORMATS:
        raise ConfigError(f"format={form}: must be one of {', '.join(FORMATS)}")
    wrong = given.get("wrong")
    if wrong is not None and not re.fullmatch(r"[1-9]\d{0,8}", wrong, re.ASCII):
        raise ConfigError(f"wrong={wrong}: must be a whole number from 1 up")
    if wrong is not None and form != "table":
        raise ConfigError(f"format={form}: not with wrong={wrong}, which prints texts")
    if "forget" in given and given.keys() & {"format", "cell", "wrong"}:
        raise ConfigError(f"forget={given['forget']}: goes with results_dir and study alone")
    number = None if wrong is None else int(wrong)
    return Asked(results_dir / study, form, given.get("cell"), number, given.get("forget"))


def _show(asked: Asked) -> None:
    if asked.forget is not None:
        return _forget(asked.study_dir, asked.forget)
    refuse_newer(asked.study_dir)
    table = read_cells(asked.study_dir)
    rows: list[Row] = [without_nan(row) for row in table.to_pylist()]
    if not rows:
        raise ConfigError(f"{asked.study_dir}: holds no cell that can be read")
    if asked.cell is not None:
        chosen = _chosen(asked.cell, [str(row["cell_id"]) for row in rows], "cell")
        rows = [row for row in rows if row["cell_id"] == chosen]
    console = wide_console(PIPED)
    if asked.wrong is not None:
        _print_wrong(asked, rows, console)
    elif asked.format == "csv":
        sys.stdout.write(csv_text(rows, table.column_names))
    elif asked.cell is not None and asked.format == "table":
        _print_cell(asked.study_dir, rows[0], console)
    else:
        lines, varied = lines_of(rows)
        tables = grids(lines, varied, f"Study '{asked.study_dir.name}'", ids=True)
        if asked.format == "table":
            for one in tables:
                print_grid(one, console)
            _print_runs(lines, console)
            print_notes(lines, console)
        else:
            form = markdown if asked.format == "markdown" else latex
            sys.stdout.write("\n".join(form(one) for one in tables))
    return None


def _print_runs(lines: Sequence[Line], console: Console) -> None:
    """The ids of all runs of a row, which shows the first one's."""
    for first, *others in runs_of(lines):
        if others:
            said = ", ".join(one.cell_id for one in others)
            console.print(f"runs  {first.cell_id}: also {said}", markup=False, highlight=False)


def lines_of(rows: Sequence[Row]) -> tuple[list[Line], list[str]]:
    """The cells of a study in the order of what tells them apart, and the overrides that do: those whose
    value differs, or that not all have."""
    overrides = [by_key(row.get("overrides") or ()) for row in rows]
    keys = dict.fromkeys(key for own in overrides for key in own)
    varied = [key for key in keys if len({own.get(key) for own in overrides}) > 1]
    lines = []
    for row, own in zip(rows, overrides, strict=True):
        words = " ".join(f"{key}={own[key]}" for key in varied if key in own)
        run = row.get("run") or 1
        label = words or f"{row.get('model')}/{row.get('engine')}/{'+'.join(row.get('opt') or ())}"
        label = ("SIMULATED " if row.get("simulated") else "") + label + (f" run={run}" if run > 1 else "")
        cell_id = str(row["cell_id"])
        of = str(row.get("run_of") or cell_id)
        lines.append(Line(cell_id, of, bool(row.get("simulated")), str(row.get("model")), own, label, row))
    lines.sort(
        key=lambda line: (
            [_natural(line.overrides.get(key, "")) for key in varied],
            line.run_of,
            (line.row or {}).get("run") or 1,
        )
    )
    return lines, varied


def _natural(text: str) -> list[tuple[bool, float, str]]:
    """By its numbers, where it has some: 64 comes before 128."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(number % 2 == 0, float(one) if number % 2 else 0.0, one) for number, one in enumerate(parts)]


def _chosen(asked: str, cell_ids: Sequence[str], key: str) -> str:
    """The cell whose id begins so. Raises ConfigError where none or several do."""
    found = [cell_id for cell_id in cell_ids if cell_id.startswith(asked)]
    if len(found) != 1:
        said = f"is the beginning of {len(found)} cells' ids" if found else "is no cell of the study"
        raise ConfigError(f"{key}={asked}: {said}; it has {', '.join(found or cell_ids)[:400]}")
    return found[0]


def _print_cell(study_dir: Path, row: Row, console: Console) -> None:
    width = max(map(len, row))
    for name, value in row.items():
        if value is not None:
            console.print(f"{name:{width}}  {_one(value)}", markup=False, highlight=False, soft_wrap=True)
    for kept in read_attempts(study_dir, str(row["cell_id"])):
        at = "" if kept.stored_at is None else f" of {kept.stored_at.isoformat(timespec='seconds')}"
        said = f"kept attempt {kept.attempt_id}{at}: {kept.status}, {kept.requests} requests"
        why = f": {kept.reason}" if kept.reason else ""
        console.print(_visible(said + why), markup=False, highlight=False, soft_wrap=True)


def _one(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{value:.6g}" if isinstance(value, float) else _visible(text)


def _print_wrong(asked: Asked, rows: Sequence[Row], console: Console) -> None:
    lines, _ = lines_of(rows)
    graded = left = 0
    for line in lines:
        requests = read_requests(asked.study_dir, [line.cell_id]).to_pylist()
        wrong = [one for one in requests if one["correct"] is False]
        graded += sum(one["correct"] is not None for one in requests)
        for one in wrong[: max((asked.wrong or 0) - left, 0)]:
            _print_answer(line, one, console)
        left += len(wrong)
    said = f"{left} of {graded} graded answers are wrong" if graded else "no answer of these cells is graded"
    console.print(said, markup=False, highlight=False)


def _print_answer(line: Line, one: Row, console: Console) -> None:
    cut = ", cut off" if cut_off(one["finish_reason"]) else ""
    texts = {
        "question": one["question"] or "not stored: the cell is of a version that kept its hash alone",
        "answer": one["response_text"] or "",
        "expected": one["reference"],
        "read from it": "nothing" if one["predicted"] is None else one["predicted"],
    }
    parts = [f"=== {line.cell_id}  {line.label}  item {one['item_id']}, repeat {one['repeat']}{cut}"]
    parts += [f"--- {name}\n{text}" for name, text in texts.items()]
    console.print(_visible("\n".join(parts)), markup=False, highlight=False, soft_wrap=True)


def _visible(text: str) -> str:
    """Without what would steer the terminal."""
    return "".join(one if one.isprintable() or one in "\n\t" else "\N{REPLACEMENT CHARACTER}" for one in text)


def _forget(study_dir: Path, asked: str) -> None:
    cell_ids = [path.stem for path in sorted((study_dir / "cells").glob("[!.]*.parquet"))]
    cell_id = _chosen(asked, cell_ids, "forget")
    rows = read_cells(study_dir).select(["cell_id", "run_of"]).to_pylist()
    run_of = {row["cell_id"]: row["run_of"] or row["cell_id"] for row in rows}
    others = [one for one, of in run_of.items() if one != cell_id and of == run_of.get(cell_id)]
    with Claims(study_dir, "show") as claims:
        if not claims.take(cell_id):
            raise ConfigError(f"forget={asked}: another command has the cell now; end it first")
        with or_storage_error(study_dir):
            clean_partial(study_dir)
            kept = forget(study_dir, cell_id)
    print(f"{cell_id} is out of the study; its files are in {kept}, and the next sweep measures it again")
    if others:
        print(f"it was one run of several; the row's others stay in the study: {', '.join(others)}")


if __name__ == "__main__":
    main()

"""The page: one file that asks nothing of the network."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from orchestrator.report.answer import Answer, headline
from orchestrator.report.blocks import blocks_note
from orchestrator.report.findings import Findings
from orchestrator.report.options import Options
from orchestrator.report.overall import overall
from orchestrator.report.settings import configuration_of
from orchestrator.report.tables import Table, alone_notes
from orchestrator.report.theme import Figure, inline, stylesheet
from orchestrator.report.variants import Run
from orchestrator.secrets import MASK
from orchestrator.store.schema import quoted_from

ANSWERS_SHOWN = 8  # the others are folded away


def page(
    findings: Findings,
    tables: Sequence[Table],
    figures: Sequence[tuple[Figure, str]],
    options: Options,
    command: str,
) -> str:
    """HTML, complete; ``figures`` with their SVG. All text that comes from results is escaped."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("orchestrator.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    style = files("orchestrator.report").joinpath("page.css").read_text()
    pictures = [{"of": figure, "svg": Markup(inline(figure.name, drawn))} for figure, drawn in figures]
    runs = [run for variant in findings.variants for run in variant.runs]
    commands, secrets = sweeps(runs, options)
    text: str = environment.get_template("page.html").render(
        title=f"Report: {', '.join(options.studies)}",
        style=Markup(style + stylesheet()),
        answers=in_order(findings.answers),
        headline=headline(findings.answers),
        answers_shown=ANSWERS_SHOWN,
        overall=overall(findings.lines, options),
        unmeasured=unmeasured(findings),
        cautions=cautions(findings, options),
        limits=limits_said(runs, options),
        in_blocks=blocks_note(findings.lines),
        shared=findings.names.shared(),
        comparisons=[table for table in tables if table.name not in ("accuracy", "measured", "apart")],
        others=[table for table in tables if table.name in ("accuracy", "measured", "apart")],
        figures=pictures,
        command=command,
        sweeps=commands,
        secrets=secrets,
        versions=_versions(runs),
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        cells=len(runs) + len(findings.apart),
    )
    return text.replace(" %", "\u00a0%")  # a number and its unit stay on one line


def in_order(found: Sequence[Answer]) -> list[Answer]:
    """As they are shown: where there is nothing to choose comes last."""
    return sorted(found, key=lambda one: one.choice is None)


def cautions(findings: Findings, options: Options) -> list[str]:
    """What a reader has to know before any number."""
    said = []
    if not findings.variants:
        said.append(
            "No cell of these studies counts: there is nothing to compare. Why, is said under Set apart."
        )
    if findings.apart:
        kinds = Counter(one.kind for one in findings.apart)
        named = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        said.append(f"Set apart, and in no comparison and no figure: {named}.")
    measured = [one for one in findings.variants if quoted_from(one.row) is None]
    single = sum(len(variant.runs) == 1 for variant in measured)
    if single:
        said.append(
            f"{single} of {len(measured)} configurations were measured once: of their times and "
            "rates no difference can be significant. The same sweep with more runs adds what is missing."
        )
    flagged = Counter(flag for row in findings.accuracies for flag in row.flags)
    if flagged:
        named = ", ".join(f"{count} × {flag}" for flag, count in flagged.most_common())
        said.append(f"Accuracies that cannot be what they seem: {named}; see the table of accuracy.")
    if any(variant.facts["weights"] == "dummy" for variant in findings.variants):
        said.append(
            "Weights are random (weights=dummy): times hold, accuracy and lengths of answers do not exist."
        )
    return [*said, *alone_notes(findings.alone, findings.variants, findings.names)]


def unmeasured(findings: Findings) -> list[str]:
    """What stands above all else where the numbers are simulated or quoted: they count only where nothing was
    measured."""
    sources = {quoted_from(run.row) for one in findings.variants for run in one.runs if run.row["simulated"]}
    which = "All of this" if len(sources) == 1 else "A part of this"
    said = [
        f"{which} is QUOTED from {source}: none of it was measured here. What is not said there is absent, "
        "and a time or a rate that is given once has no interval."
        for source in sorted(one for one in sources if one is not None)
    ]
    if None in sources:
        said.append(f"{which} is SIMULATED: no number is a measurement of a server.")
    return said


def limits_said(runs: Sequence[Run], options: Options) -> list[str]:
    """Limits of times and margins, as they are in force."""
    names = ("ttft_s", "ttfvt_s", "tpot_s", "e2e_s", "itl_s")
    said = []
    for name in names:
        values = sorted({run.row[f"slo_{name}"] for run in runs if run.row.get(f"slo_{name}") is not None})
        if values:
            said.append(f"slo.{name} = {' or '.join(f'{value:g}' for value in values)} s")
    if said:
        said.append(f"met by at least {100 * options.slo_attainment:g} % of the requests")
    said.append(f"accuracy within {100 * options.accuracy_margin:g} points of the baseline")
    said.append(
        f"times and rates that differ by less than {100 * options.time_margin:g} % count as unchanged"
    )
    return said


def sweeps(runs: Sequence[Run], options: Options) -> tuple[list[str], list[str]]:
    """The commands that measure the cells again, where these results lie, and the keys that they lack since
    their values are secrets, which are stored nowhere."""
    most: dict[tuple[str, ...], int] = {}
    left_out = set()
    for run in runs:
        if quoted_from(run.row) is not None:
            continue  # no command measures it again
        config = configuration_of(run.row)
        typed = [str(one) for one in run.row.get("overrides") or ()]
        left_out |= {one.split("=", 1)[0].lstrip("+") for one in typed if MASK in one}
        tracker = {key: value for key, value in (config.get("tracker") or {}).items() if value is not None}
        name = tracker.pop("name", "none")
        own = [f"tracker={name}", *(f"tracker.{key}={value}" for key, value in tracker.items())]
        where = [f"study_name={run.study}", f"results_dir={options.results_dir}"]
        words = (*where, *(own if name != "none" else own[:1]), *(one for one in typed if MASK not in one))
        most[words] = max(most.get(words, 1), config.get("runs") or 1, run.row.get("run") or 1)
    command = ("python", "-m", "orchestrator.sweep")
    return [shlex.join((*command, *words, f"runs={count}")) for words, count in most.items()], sorted(
        left_out
    )


def _versions(runs: Sequence[Run]) -> list[tuple[str, str]]:
    def of(*names: str) -> str:
        seen: dict[str, Any] = {}
        for run in runs:
            seen.setdefault(" ".join(str(run.row.get(name) or "") for name in names).strip(), None)
        return ", ".join(sorted(one for one in seen if one))

    pairs = [
        ("Engines", of("engine", "engine_version")),
        ("Models", of("model", "model_revision")),
        ("Datasets", of("dataset", "dataset_revision")),
        ("Hardware", of("gpu_type")),
    ]
    return [(name, value) for name, value in pairs if value]

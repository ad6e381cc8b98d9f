"""One study: plan, run, summarise. What `orchestrator.sweep` and the Hydra launcher both call."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestrator.cell import Cell
from orchestrator.cluster.address import wanted
from orchestrator.cluster.environment import set_ray_environment
from orchestrator.cluster.kept import Kept
from orchestrator.config.schema import SloConfig, SweepConfig
from orchestrator.engines import ADAPTERS
from orchestrator.engines.version import interpreter
from orchestrator.errors import ConfigError
from orchestrator.metrics.stats import mean, present
from orchestrator.plan.known import Known, as_stored
from orchestrator.plan.plan import Job, Plan, make_plan
from orchestrator.progress.plan_table import show
from orchestrator.progress.results_table import print_summary, wide_console
from orchestrator.store.limits import under
from orchestrator.store.read import read_cells, read_status
from orchestrator.store.schema import METRIC_COLUMNS
from orchestrator.store.versions import refuse_newer
from orchestrator.store.write import check_possible, check_writable

DONE, INCOMPLETE, NOTHING_CAN_RUN = 0, 1, 2


@dataclass(frozen=True)
class StudyResult:
    """``objectives`` has one value per job, the mean of its runs; None where none of its cells has one."""

    exit_code: int
    objectives: tuple[float | None, ...]


def run(jobs: Sequence[Job], kept: Kept) -> StudyResult:
    """Plans and, unless it is a dry run, runs what is not done; a command's batches share what is ``kept``.
    Raises ConfigError before anything starts."""
    from_environment = jobs[0].config.ray.address is None
    jobs = [_with_address(job) for job in jobs]
    settings = jobs[0].config
    if settings.objective not in METRIC_COLUMNS:
        raise ConfigError(
            f"objective={settings.objective}: must be a metric, one of {', '.join(METRIC_COLUMNS)}"
        )
    refuse_newer(Path(settings.results_dir) / settings.study_name)
    plan = make_plan(jobs, _known)
    console = wide_console()
    if settings.dry_run == "json":
        sys.stdout.write(json.dumps(plan.to_json(), allow_nan=False) + "\n")
        return _nothing_run(plan)
    show(plan, console)
    if from_environment and settings.ray.address is not None and not kept.connected:
        console.print(
            f"on the Ray cluster that RAY_ADDRESS={settings.ray.address} names; "
            "ray.address=local starts one of the sweep's own",
            markup=False,
            highlight=False,
        )
    if settings.dry_run:
        return _nothing_run(plan)
    if plan.deployments:
        _check_can_run(plan)
        from orchestrator.cluster.run import run_plan  # Ray is imported only when something runs

        run_plan(plan, console, kept)
    rows = {str(row["cell_id"]): row for row in read_cells(plan.study_dir).to_pylist()}
    rows |= {
        planned.cell.cell_id: under(rows[planned.cell.cell_id], planned.cell.config.slo, plan.study_dir)
        for planned in plan.cells
        if planned.status != "skipped" and planned.cell.cell_id in rows
    }
    beside = _failed_beside(plan)
    print_summary(plan, rows, console, beside)
    if settings.report:
        _report(plan, [job.config.slo for job in jobs], console)
    code = INCOMPLETE if beside else _exit_code(plan, rows)
    return StudyResult(code, _objectives(plan, rows, settings.objective))


def _report(plan: Plan, limits: Sequence[SloConfig], console: Console) -> None:
    """Writes the study's report beside its results. What goes wrong with it is said and changes nothing else:
    the cells are stored, and the report's own command can be run again."""
    from orchestrator.report.build import make_report  # it draws, with libraries that nothing else needs
    from orchestrator.report.options import Options

    slo = limits[0] if all(one == limits[0] for one in limits) else None
    folder, study = plan.study_dir.parent, plan.study_dir.name
    options = Options(results_dir=folder, studies=(study,), out=plan.study_dir / "report", slo=slo)
    command = shlex.join(["python", "-m", "orchestrator.report", f"results_dir={folder}", f"study={study}"])
    try:
        said = f"report: {make_report(options, command).page}"
    except Exception as error:
        said = f"no report ({type(error).__name__}: {error}); again: {command}"
    console.print(said, markup=False, highlight=False)


def _failed_beside(plan: Plan) -> dict[str, str]:
    """Why a cell could not be measured again that was measured before, by its id: the measurement stands."""
    found = {}
    for planned in plan.with_status("planned"):
        before, now = planned.stored, read_status(plan.study_dir, planned.cell.cell_id)
        failure = None if now is None or now.status == "failed" else now.last_failure
        if failure is not None and (before is None or before.last_failure != failure):
            found[planned.cell.cell_id] = failure.reason or "no reason stored"
    return found


def _with_address(job: Job) -> Job:
    ray = replace(job.config.ray, address=wanted(job.config.ray.address))
    return replace(job, config=replace(job.config, ray=ray))


def _known(configs: Sequence[SweepConfig]) -> Known:
    """What planning is told of nodes, servers and the hub: asked, or for a dry run as the study has it."""
    settings = configs[0]
    study_dir = Path(settings.results_dir) / settings.study_name
    if settings.dry_run:
        check_possible(study_dir)
        return as_stored(configs, study_dir)
    set_ray_environment(settings.ray.address)
    from orchestrator.cluster.ask import ask

    return ask(configs, study_dir)


def _check_can_run(plan: Plan) -> None:
    """Raises ConfigError for what would stop every cell: results that cannot be written, no engine here."""
    check_writable(plan.study_dir)
    for config in (deployment.cells[0].config for deployment in plan.deployments):
        if config.engine.name in ADAPTERS and config.ray.address is None:
            interpreter(config.engine)


def _nothing_run(plan: Plan) -> StudyResult:
    possible = any(planned.status != "skipped" for planned in plan.cells)
    return StudyResult(DONE if possible else NOTHING_CAN_RUN, tuple(None for _ in plan.by_job()))


def _exit_code(plan: Plan, rows: Mapping[str, Mapping[str, Any]]) -> int:
    wanted = {planned.cell.cell_id for planned in plan.cells if planned.status != "skipped"}
    stored = {planned.cell.cell_id for planned in plan.cells} & rows.keys()
    if not wanted and not stored:
        return NOTHING_CAN_RUN
    done = {cell_id for cell_id in wanted | stored if cell_id in rows and rows[cell_id]["status"] == "done"}
    return DONE if done == wanted | stored else INCOMPLETE


def _objectives(
    plan: Plan, rows: Mapping[str, Mapping[str, Any]], objective: str
) -> tuple[float | None, ...]:
    """What a sweeper may optimise. Where the study holds real cells, simulated ones have no value: a sweeper
    would compare them."""
    any_real = any(not row["simulated"] for row in rows.values())

    def value(cell: Cell) -> float | None:
        stored = rows.get(cell.cell_id)
        row = stored and under(stored, cell.config.slo, plan.study_dir)
        if row is None or row["status"] != "done" or row[objective] is None:
            return None
        return None if row["simulated"] and any_real else float(row[objective])

    runs = ([value(planned.cell) for planned in job] for job in plan.by_job())
    return tuple(mean(present(values)) for values in runs)

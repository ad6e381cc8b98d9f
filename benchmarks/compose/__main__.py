"""``python -m benchmarks.compose``: how long a sweep's cells take to compose and to plan, beside plain Hydra.

Composing is done twice for each cell, as in a sweep: Hydra's sweeper checks all jobs, then the launcher makes
them. Planning is timed for a new study and for one whose cells are all done. Both loaders run in this one
process, one after the other, on one thread; the seconds are its CPU's, which on an idle machine are the
wall's. ``--plain N`` leaves plain Hydra out above N cells.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice, product

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from orchestrator.config.compose import SweepLoader, to_config
from orchestrator.config.schema import SweepConfig
from orchestrator.measure.row import cell_row
from orchestrator.paths import conf_dir
from orchestrator.plan.plan import Job, Plan, make_plan
from orchestrator.store import schema
from orchestrator.store.write import write_parquet

SWEEP = {
    "model": [
        *("r1-1.5b", "r1-7b", "r1-8b", "r1-14b", "r1-32b"),
        *("r1-70b", "qwq-32b", "qwen3-8b", "qwen3-32b", "llama-3.1-8b"),
    ],
    "opt": ["none", "fp8", "[fp8,kv-fp8]", "prefix-cache", "spec-ngram"],
    "dataset": ["gsm8k", "math500", "aime24", "gpqa-diamond"],
    "max_tokens": ["512", "1024", "2048", "3072", "3500"],
    "load.concurrency": [str(2**k) for k in range(10)],
}
FIXED = ["hardware=h200", "tracker=none"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--plain", type=int, default=1000, help="the most cells that plain Hydra composes")
    chosen = parser.parse_args()
    master, plain = _open()
    print(f"{'cells':>6} {'plain Hydra':>12} {'ours':>8} {'plan':>8} {'resume':>8}   CPU seconds")
    for count in chosen.cells:
        overrides = _overrides(count)
        hydra_s = _seconds(partial(_plain, plain, master, overrides)) if count <= chosen.plain else None
        began = time.process_time()
        jobs = _ours(SweepLoader(plain.get_search_path()), master, overrides)
        ours_s = time.process_time() - began
        with tempfile.TemporaryDirectory() as folder:
            jobs = [_into(job, folder) for job in jobs]
            began = time.process_time()
            plan = make_plan(jobs)
            plan_s = time.process_time() - began
            _store(plan)
            resume_s = _seconds(partial(make_plan, jobs))
        shown = "" if hydra_s is None else f"{hydra_s:.2f}"
        print(f"{count:>6} {shown:>12} {ours_s:>8.2f} {plan_s:>8.2f} {resume_s:>8.2f}", flush=True)


def _open() -> tuple[DictConfig, ConfigLoader]:
    ConfigStore.instance().store(name="sweep_schema", node=SweepConfig)
    OmegaConf.register_new_resolver("orchestrator_scratch", lambda: "unused", replace=True)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        swept = [f"{key}={','.join(values)}" for key, values in SWEEP.items()]
        return loader.load_configuration("sweep", [*swept, *FIXED], RunMode.MULTIRUN), loader


def _overrides(count: int) -> list[list[str]]:
    """The first ``count`` of a grid whose first 100 already vary every key but the last."""
    keys = list(SWEEP)
    grid = list(islice(product(*SWEEP.values()), 10**4))
    step = max(1, len(grid) // count)
    rows = grid[::step][:count]
    return [[*(f"{key}={value}" for key, value in zip(keys, row, strict=True)), *FIXED] for row in rows]


def _plain(loader: ConfigLoader, master: DictConfig, overrides: Sequence[list[str]]) -> list[Job]:
    for one in overrides:
        loader.load_sweep_config(master, one)
    return [Job(tuple(one), to_config(loader.load_sweep_config(master, one))) for one in overrides]


def _ours(loader: SweepLoader, master: DictConfig, overrides: Sequence[list[str]]) -> list[Job]:
    for one in overrides:
        loader.load_sweep_config(master, one)
    return [Job(tuple(one), loader.sweep_config(master, one)) for one in overrides]


def _into(job: Job, folder: str) -> Job:
    job.config.results_dir = folder
    return job


def _store(plan: Plan) -> None:
    """Makes every cell of the plan a finished one."""
    folder = plan.study_dir / "cells"
    folder.mkdir(parents=True)
    for cell in (planned.cell for planned in plan.cells):
        row = cell_row(
            cell,
            study=plan.study,
            status="done",
            reason=None,
            flags=(),
            attempts=1,
            started_at=None,
            duration_s=1.0,
            deployment_start_s=None,
            engine_version=None,
            gpus=1,
            nodes=1,
            items=None,
            metrics={},
            provenance={},
        )
        table = schema.cell_table(row | {"cell_id": cell.cell_id})
        with (folder / f"{cell.cell_id}.parquet").open("wb") as file:
            write_parquet(table, file, "cells")


def _seconds(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


if __name__ == "__main__":
    main()

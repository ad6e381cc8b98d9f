"""One run of Weights & Biases, from what is stored of one attempt at a cell.

The row's configuration is the run's config and its metrics the summary; the engine's gauges are the history,
over seconds of the cell; the requests are a table, and the three Parquet files an artifact. What the library
would gather by itself is switched off: the command line, which may hold secrets, and this machine's own load.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.config.schema import TrackerConfig
from orchestrator.store.attempts import FOLDERS, own_path
from orchestrator.store.read import read_requests, read_telemetry
from orchestrator.store.schema import METRIC_COLUMNS

if TYPE_CHECKING:
    import wandb

DEFAULT_PROJECT = "reasoning-orchestrator"
INIT_S = 30.0  # how long the service may take to accept a run
NAME_LENGTH = 64
TABLE_ROWS = 10_000  # the service's own limit
GAUGES = ("kv_usage", "running", "waiting")
# Of a request: what can be filtered and read in a table. Its texts and times of tokens are in the artifact.
REQUEST_COLUMNS = (
    *("item_id", "repeat", "outcome", "finish_reason", "correct", "predicted", "reference", "error"),
    *("prompt_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "sent_s"),
    *("ttft_s", "ttfvt_s", "thinking_s", "tpot_s", "e2e_s"),
)
_NAMED = ("model", "engine", "opt")  # in every run's name, whether they vary or not


def run_id(row: Mapping[str, Any]) -> str:
    """Of one attempt at a cell. Rows of older versions name none, and have a number."""
    return f"{row['cell_id']}-{row.get('attempt_id') or row['attempts']}"


def project_of(config: TrackerConfig) -> str:
    return config.project or os.environ.get("WANDB_PROJECT") or DEFAULT_PROJECT


def run_name(row: Mapping[str, Any], varied: Sequence[str]) -> str:
    """Model, engine and optimizations, then what tells the cell from others of its sweep, each by the last
    part of its key: ``r1-7b vllm fp8 concurrency=8``. At most 64 characters; what is cut ends with the
    beginning of the cell's id."""
    pairs = [one.lstrip("+").split("=", 1) for one in row["overrides"] if "=" in one]
    own = [(key, value) for key, value in pairs if key in varied and key not in _NAMED]
    last = Counter(key.rpartition(".")[2] for key, _ in own)
    told = [f"{short if last[short := key.rpartition('.')[2]] == 1 else key}={value}" for key, value in own]
    engine = "SIMULATED" if row["simulated"] else row["engine"]
    of_several = [f"run={row['run']}"] if (row.get("run") or 1) > 1 else []
    name = " ".join([row["model"], engine, "+".join(row["opt"]), *told, *of_several])
    if len(name) <= NAME_LENGTH:
        return name
    end = f"… {row['cell_id'][:6]}"
    return name[: NAME_LENGTH - len(end)].rstrip() + end


def log_row(
    study_dir: Path,
    row: Mapping[str, Any],
    config: TrackerConfig,
    mode: Literal["online", "offline"] | None,
    varied: Sequence[str] = (),
) -> bool:
    """Writes the run and ends it; whether it is on this machine alone. ``mode`` None leaves that to
    ``WANDB_MODE``."""
    import wandb

    # Where tables wait to be sent, an offline run's until it is synchronised: beside the run, not at home.
    os.environ.setdefault("WANDB_DATA_DIR", str(study_dir.absolute() / "wandb"))
    metrics = {key: row[key] for key in METRIC_COLUMNS if row.get(key) is not None}
    settings = {key: value for key, value in row.items() if key not in METRIC_COLUMNS and value is not None}
    settings |= {key: json.loads(row[key]) for key in ("engine_args", "provenance") if row.get(key)}
    simulated = "SIMULATED " if row["simulated"] else ""  # a group of its own: groups are averaged
    run = wandb.init(
        project=project_of(config),
        entity=config.entity,  # None: the library asks WANDB_ENTITY
        group=simulated + row["study"],
        job_type="simulation" if simulated else "measurement",
        name=run_name(row, varied),
        id=run_id(row),
        dir=str(study_dir),
        mode=mode,
        config=settings,
        tags=[row["status"], row["engine"], *row["opt"], *(["SIMULATED"] if simulated else [])],
        reinit="create_new",
        settings=wandb.Settings(
            silent=True,
            console="off",
            init_timeout=INIT_S,
            disable_git=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
            x_save_requirements=False,
        ),
    )
    try:
        _log_history(run, study_dir, row)
        _log_requests(run, study_dir, row)
        _log_files(run, study_dir, row)
        run.summary.update(metrics)
    finally:
        run.finish(exit_code=0 if row["status"] == "done" else 1)
    return bool(run.offline)


def _log_history(run: wandb.Run, study_dir: Path, row: Mapping[str, Any]) -> None:
    """The gauges over ``t_s``. No summary of them: the last sample of a cell is an idle engine's."""
    run.define_metric("t_s", hidden=True, summary="none")
    for gauge in GAUGES:
        run.define_metric(gauge, step_metric="t_s", summary="none")
    samples = read_telemetry(study_dir, row["cell_id"], row.get("attempt_id"))
    for sample in samples.select(["t_s", *GAUGES]).to_pylist():
        run.log({key: value for key, value in sample.items() if value is not None})


def _log_requests(run: wandb.Run, study_dir: Path, row: Mapping[str, Any]) -> None:
    import wandb

    requests = read_requests(study_dir, [row["cell_id"]], row.get("attempt_id"))
    if requests.num_rows:
        chosen = requests.select(REQUEST_COLUMNS).slice(0, TABLE_ROWS)
        rows = [list(one.values()) for one in chosen.to_pylist()]
        run.log({"requests": wandb.Table(columns=list(REQUEST_COLUMNS), data=rows, allow_mixed_types=True)})


def _log_files(run: wandb.Run, study_dir: Path, row: Mapping[str, Any]) -> None:
    """The cell's files, by name and not as copies: an offline run's would double what is stored."""
    import wandb

    artifact = wandb.Artifact(f"cell-{row['cell_id']}", type="measurement")
    for folder in FOLDERS:
        file = own_path(study_dir, row["cell_id"], folder)
        if file.exists():
            artifact.add_file(str(file), name=f"{folder}.parquet", policy="immutable", skip_cache=True)
    run.log_artifact(artifact)

"""Studies with planted effects: rows and requests as a measurement would have stored them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.records import Grade, Item, Record, Sample
from orchestrator.report.requests import Requests
from orchestrator.report.variants import Run
from orchestrator.store.write import commit
from tests.support.timelines import record


@dataclass(frozen=True)
class Planted:
    """What is true of one configuration. Times in seconds; ``noise`` is the standard deviation from run to
    run, a share; ``changes`` are columns of its row. Of a dataset with ``levels`` a question has as many
    times the tokens as its level says, to the power of ``steep``, and it has ``families`` by turns.
    ``thinks`` is the share of an answer's tokens that are thought, ``cut`` that of the answers that the
    budget cut off while they were nothing else."""

    opt: tuple[str, ...] = ("none",)
    tpot_s: float = 0.02
    ttft_s: float = 0.2
    tokens: float = 100.0
    accuracy: float = 0.7
    noise: float = 0.01
    items: int = 15
    runs: int = 4
    concurrency: int = 8
    model: str = "r1-7b"
    engine: str = "vllm"
    gpus: int = 1
    dataset: str = "math500"
    max_tokens: int = 4096
    thinking_budget: int | None = None
    thinks: float = 0.5
    cut: float = 0.0
    levels: int = 0
    steep: float = 1.0
    families: tuple[str, ...] = ()
    kind: str = "reasoning"
    parameters_b: float = 7.6
    load: str = "closed"
    changes: tuple[tuple[str, Any], ...] = ()
    tracker: tuple[tuple[str, str], ...] = ()

    def but(self, **changes: Any) -> Planted:
        return replace(self, **changes)


# What a run of Weights & Biases has beside the columns of `_row`, and where it was tracked to.
_COLUMNS = {"kv_usage_max": 0.4, "running_mean": 4.0, "waiting_mean": 0.0, "output_length_mean": 100.0}
TRACKED = Planted(
    runs=3, items=4, changes=tuple(_COLUMNS.items()), tracker=(("name", "wandb"), ("project", "bench"))
)

Cell = tuple[dict[str, Any], list[Record], list[Grade]]


def measured(planted: Planted, run: int, generator: np.random.Generator, level: float = 0.0) -> Cell:
    """One run. An item's difficulty is the same in all configurations and runs. ``level``: what the machine
    is like, the logarithm of the factor that its times take."""
    machine = float(np.exp(level + generator.normal(0, planted.noise)))
    shared = np.random.default_rng(0)  # what an item is does not depend on who answers it
    records, grades = [], []
    for item in range(planted.items):
        hard = float(np.exp(shared.normal(0, 0.4))) * (level_of(planted, item) or 1) ** planted.steep
        tokens = max(2, round(planted.tokens * hard * float(np.exp(generator.normal(0, 0.05)))))
        first = planted.ttft_s * machine * float(np.exp(generator.normal(0, 0.05)))
        last = first + planted.tpot_s * machine * (tokens - 1)
        is_cut = planted.cut > 0 and bool(generator.random() < planted.cut)
        thought = tokens - 1 if is_cut else min(int(tokens * planted.thinks), tokens - 1)
        chunks = [(first, 1, int(thought > 0)), (last, tokens - 1, thought)]
        ended = "length" if is_cut else "stop"
        records.append(record(0.0, chunks, request_id=f"r{item}", item_id=f"i{item}", finish_reason=ended))
        right = bool(generator.random() < planted.accuracy)
        grades.append(Grade("1", right and not is_cut))
    return _row(planted, run, machine, records, grades), records, grades


def level_of(planted: Planted, item: int) -> int | None:
    return 1 + item % planted.levels if planted.levels else None


def items_of(planted: Planted) -> dict[str, Item]:
    families = planted.families
    return {
        f"i{item}": Item(
            f"i{item}",
            (),
            "1",
            "math",
            group=families[item % len(families)] if families else None,
            level=level_of(planted, item),
        )
        for item in range(planted.items)
    }


def _row(
    planted: Planted, run: int, machine: float, records: Sequence[Record], grades: Sequence[Grade]
) -> dict[str, Any]:
    tokens = sum(one.output_tokens or 0 for one in records)
    rate = planted.concurrency / planted.tpot_s / machine
    ends = [one.end_s for one in records]
    firsts = [one.first_token_s for one in records if one.first_token_s is not None]
    cell = (
        f"{planted.model}-{planted.engine}-{'+'.join(planted.opt)}-{planted.concurrency}-{planted.max_tokens}"
    )
    first = f"{cell}-{planted.thinking_budget}-{planted.gpus}-{planted.dataset}-{planted.load}"
    config: dict[str, Any] = {
        "model": {"name": planted.model, "pair": "qwen2.5-math-7b", "context": 8192},
        "engine": {"name": planted.engine, "args": {}, "env": {}},
        "load": {"kind": planted.load, "duration_s": None},
        "dataset": {"name": planted.dataset, "sample": "hash", "shots": 0},
        "output_length": None,
    }
    config["model"]["parameters_b"] = planted.parameters_b
    config["tracker"] = dict(planted.tracker)
    row = {
        **{"study": "planted", "model": planted.model, "model_kind": planted.kind, "weights": "auto"},
        **{"engine": planted.engine, "engine_version": "1", "opt": list(planted.opt), "gpus": planted.gpus},
        **{
            "tensor_parallel_size": max(1, planted.gpus),
            "nodes": 1,
            "gpu_type": "h100" if planted.gpus else "cpu",
        },
        **{"dataset": planted.dataset, "items": planted.items, "load": planted.load, "repeats": 1, "seed": 0},
        **{"concurrency": planted.concurrency, "max_tokens": planted.max_tokens, "temperature": 0.6},
        "thinking_budget": planted.thinking_budget,
        **{"status": "done", "flags": [], "simulated": planted.engine == "simulated"},
        **{"cell_id": f"{first}-{run}", "run": run, "run_of": f"{first}-1", "attempts": 1},
        **{
            "overrides": [f"model={planted.model}", f"opt={planted.opt[0]}"],
            "provenance": {"config": config},
        },
        **{"output_token_per_s": rate, "requests_ok": len(records), "requests_total": len(records)},
        "output_token_per_s_per_gpu": rate / planted.gpus if planted.gpus else None,
        **{"output_tokens": tokens, "e2e_s_mean": float(np.mean(ends)), "e2e_s_p50": float(np.median(ends))},
        **{"ttft_s_p50": float(np.median(firsts)), "tpot_s_mean": planted.tpot_s * machine},
        **{"tpot_s_p50": planted.tpot_s * machine, "started_at": datetime.now(UTC)},
        "truncated_rate": float(np.mean([one.finish_reason == "length" for one in records])),
        "accuracy": float(np.mean([grade.correct is True for grade in grades])),
    }
    return row | dict(planted.changes)


def runs_of(planted: Sequence[Planted], seed: int = 0, drift: float | None = None) -> list[Run]:
    """As `report.read` would read them."""
    return [
        Run("planted", row, as_requests(records, grades, items_of(one)))
        for one, (row, records, grades) in _measured(planted, seed, drift)
    ]


def _measured(planted: Sequence[Planted], seed: int, drift: float | None) -> Iterator[tuple[Planted, Cell]]:
    """All runs of each, one configuration after the other; with a ``drift`` in blocks of one run of each, in
    random order, while the machine becomes slower by that share from the first block to the last."""
    generator = np.random.default_rng(seed)
    if drift is None:
        for one in planted:
            for run in range(one.runs):
                yield one, measured(one, run + 1, generator)
        return
    blocks = max(one.runs for one in planted)
    for block in range(blocks):
        for place, which in enumerate(generator.permutation(len(planted)).tolist()):
            if block < planted[which].runs:
                level = drift * (block + place / len(planted)) / blocks
                row, records, grades = measured(planted[which], block + 1, generator, level)
                inside = {"block": f"{seed}-{block}", "block_position": place + 1}
                yield planted[which], (row | inside, records, grades)


def as_requests(records: Sequence[Record], grades: Sequence[Grade], items: Mapping[str, Item]) -> Requests:
    firsts = [one.first_token_s for one in records]
    return Requests(
        {
            "item_id": [one.item_id for one in records],
            "outcome": [one.outcome for one in records],
            "finish_reason": [one.finish_reason for one in records],
            "sent_s": [one.sent_s for one in records],
            "end_s": [one.end_s for one in records],
            "ttft_s": firsts,
            "ttfvt_s": [one.first_visible_s for one in records],
            "e2e_s": [one.end_s for one in records],
            "tpot_s": [
                (one.end_s - first) / ((one.output_tokens or 2) - 1)
                for one, first in zip(records, firsts, strict=True)
                if first is not None
            ],
            "output_tokens": [one.output_tokens for one in records],
            "reasoning_tokens": [one.reasoning_tokens for one in records],
            "predicted": [grade.predicted for grade in grades],
            "correct": [grade.correct for grade in grades],
            "family": [items[one.item_id].group for one in records],
            "level": [items[one.item_id].level for one in records],
        }
    )


def store(
    results_dir: Path,
    planted: Sequence[Planted],
    seed: int = 0,
    study: str = "planted",
    drift: float | None = None,
) -> Path:
    """The same on the disk; returns the folder of results."""
    for one, (row, records, grades) in _measured(planted, seed, drift):
        samples = [Sample(float(t), kv_usage=t / 20, running=8.0 - t, waiting=0.0) for t in range(8)]
        row |= {"study": study}
        commit(results_dir / study, row["cell_id"], row, records, grades, samples, items=items_of(one))
    return results_dir

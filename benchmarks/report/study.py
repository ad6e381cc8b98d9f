"""A large study with planted effects, through the project's own metrics and writer."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from orchestrator.cell import Cell, ResolvedJob, make_cell, sampling
from orchestrator.config.schema import SweepConfig
from orchestrator.measure.row import cell_row
from orchestrator.metrics.measurement import Measurement, RunConditions
from orchestrator.metrics.summary import summarize
from orchestrator.paths import conf_dir
from orchestrator.records import Closed, Grade, Open, Record, Sample, Schedule
from orchestrator.store.write import commit

LOADS = (
    *("load.concurrency=16", "load=poisson load.rate=4", "load.concurrency=64", "load.concurrency=4"),
    *("load=poisson load.rate=1", "load.concurrency=256", "load.concurrency=8", "load=poisson load.rate=2"),
    *("load.concurrency=32", "load.concurrency=128"),
)
BUDGETS = (4096, 16384)
DATASETS = ("math500", "gsm8k")
MODELS = {  # seconds a token, share of right answers, tokens of an answer
    "r1-7b": (0.0060, 0.85, 1500),
    "qwen2.5-math-7b": (0.0060, 0.72, 500),
    "r1-1.5b": (0.0030, 0.74, 1800),
    "qwen2.5-math-1.5b": (0.0030, 0.66, 450),
    "r1-14b": (0.0105, 0.89, 1400),
}
OPTS = {  # times the seconds a token, minus right answers, times the tokens
    "none": (1.0, 0.0, 1.0),
    "fp8": (0.8, 0.005, 1.02),
    "kv-fp8": (0.97, 0.0, 1.0),
    "prefix-cache": (1.0, 0.0, 1.0),
    "spec-ngram": (0.9, 0.0, 1.0),
}
ENGINES = {"vllm": 1.0, "sglang": 0.96}  # times the seconds a token
CHUNKS, SAMPLES, SLO_TTFT_S, SLO_TPOT_S = 8, 240, 1.0, 0.02


def make(results_dir: Path, study: str, cells: int, requests: int, runs: int) -> Iterator[str]:
    """Stores what is missing of the study and gives the cells' ids, one after another. Everything follows
    from the arguments."""
    shapes = product(LOADS, BUDGETS, DATASETS, MODELS, ENGINES, OPTS, range(1, runs + 1))
    for number, (load, budget, dataset, model, engine, opt, run) in enumerate(islice(shapes, cells)):
        config = configuration(model, engine, opt, dataset, load)
        cell = make_cell(replace(config, max_tokens=budget, runs=runs), _facts(config), (opt,), run)
        cell = replace(cell, overrides=(f"model={model}", f"engine={engine}", f"opt={opt}", f"run={run}"))
        if not (results_dir / study / "cells" / f"{cell.cell_id}.parquet").exists():
            _measure(results_dir / study, cell, requests, np.random.default_rng(number))
        yield cell.cell_id


def most(runs: int) -> int:
    """How many cells there are at most."""
    return runs * len(LOADS) * len(BUDGETS) * len(DATASETS) * len(MODELS) * len(ENGINES) * len(OPTS)


@cache
def configuration(model: str, engine: str, opt: str, dataset: str, load: str) -> SweepConfig:
    """As a sweep composes it."""
    ConfigStore.instance().store(name="sweep_schema", node=SweepConfig)
    OmegaConf.register_new_resolver("orchestrator_scratch", lambda: "unused", replace=True)
    overrides = [f"model={model}", f"engine={engine}", f"opt={opt}", f"dataset={dataset}", *load.split()]
    overrides += ["hardware=h100", f"slo.ttft_s={SLO_TTFT_S}", f"slo.tpot_s={SLO_TPOT_S}"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = OmegaConf.to_object(compose("sweep", overrides))
    assert isinstance(config, SweepConfig)
    return config


def _facts(config: SweepConfig) -> ResolvedJob:
    return ResolvedJob(
        model_revision=str(config.model.revision),
        engine_version="1.0",
        engine_args={"max-model-len": config.model.context},
        engine_env={},
        dataset_revision="d1",
        wording="w1",
        gpu_type="h100",
        tensor_parallel_size=1,
        sampling=sampling(config),
        model_source=config.model.hub_id,
    )


def _measure(study_dir: Path, cell: Cell, requests: int, generator: np.random.Generator) -> None:
    config = cell.config
    schedule, records, grades = answers(cell, requests, generator)
    end_s = max(record.end_s for record in records)
    samples = list(_samples(end_s, config.load.concurrency or 16, generator))
    conditions = RunConditions(schedule, reasons=config.model.kind == "reasoning", gpus=1)
    metrics = summarize(Measurement(records, samples, conditions), grades, config.slo)
    row = cell_row(
        cell,
        study=study_dir.name,
        status="done",
        attempts=1,
        gpus=1,
        nodes=1,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        duration_s=end_s,
        deployment_start_s=60.0,
        items=requests,
        usage_mode="continuous",
        reasoning_from="field",
        metrics=metrics,
    )
    questions = {record.item_id: f"Question {record.item_id}: what is asked?" for record in records}
    commit(study_dir, cell.cell_id, row, records, grades, samples, {}, questions)


def answers(
    cell: Cell, requests: int, generator: np.random.Generator
) -> tuple[Schedule, list[Record], list[Grade]]:
    """What an item is does not depend on who answers it; a run has a pace of its own."""
    config = cell.config
    token_s, right, tokens = MODELS[config.model.name]
    times, lost, longer = OPTS[cell.opts[0]]
    of_item = np.random.default_rng(7)
    hard, luck = of_item.normal(0, 0.5, requests), of_item.random(requests)
    length = tokens * longer * np.exp(hard + generator.normal(0, 0.2, requests))
    length = np.clip(length.round(), 2, config.max_tokens).astype(int)
    pace = float(np.exp(generator.normal(0, 0.01))) * times * ENGINES[config.engine.name] * token_s
    in_flight = config.load.concurrency or 16
    tpot = pace * (1 + in_flight / 128) * np.exp(generator.normal(0, 0.03, requests))
    first = 0.05 * (1 + in_flight / 32) * np.exp(generator.normal(0, 0.2, requests))
    e2e = first + tpot * (length - 1)
    correct = luck + generator.normal(0, 0.05, requests) < right - lost
    if config.load.rate:
        sent = np.cumsum(generator.exponential(1 / config.load.rate, requests))
        schedule: Schedule = Open(sent)
    else:
        sent = _closed(e2e, in_flight)
        schedule = Closed(in_flight)
    thinks = 0.8 if config.model.kind == "reasoning" else 0.0
    records = [
        _record(i, float(sent[i]), float(first[i]), float(e2e[i]), int(length[i]), thinks, config.max_tokens)
        for i in range(requests)
    ]
    return schedule, records, [Grade(str(i % 97), bool(one)) for i, one in enumerate(correct)]


def _closed(e2e: np.ndarray[Any, np.dtype[np.float64]], in_flight: int) -> np.ndarray[Any, Any]:
    """When each request is sent: when one has ended."""
    ends, sent = [0.0] * in_flight, np.zeros(len(e2e))
    for i, took_s in enumerate(e2e):
        sent[i] = heapq.heappop(ends)
        heapq.heappush(ends, sent[i] + float(took_s))
    return sent


def _record(
    i: int, sent_s: float, first_s: float, e2e_s: float, tokens: int, thinks: float, budget: int
) -> Record:
    chunks = min(CHUNKS, tokens)
    at = sent_s + np.linspace(first_s, e2e_s, chunks)
    counts = np.diff(np.linspace(0, tokens, chunks + 1).round()).astype(np.int32)
    reasoning = np.where(np.arange(chunks) < round(thinks * chunks), counts, 0).astype(np.int32)
    visible = int(np.argmax(reasoning < counts))
    return Record(
        request_id=f"r{i}",
        item_id=f"i{i}",
        repeat=0,
        prompt_sha256=f"{i:064x}",
        scheduled_s=sent_s,
        sent_s=sent_s,
        first_token_s=float(at[0]),
        first_visible_s=float(at[visible]),
        last_token_s=float(at[-1]),
        end_s=float(at[-1]),
        prompt_tokens=100 + i % 50,
        output_tokens=tokens,
        reasoning_tokens=int(reasoning.sum()),
        cached_tokens=0,
        outcome="ok",
        finish_reason="length" if tokens >= budget else "stop",
        error=None,
        http_status=200,
        chunk_s=at,
        chunk_tokens=counts,
        chunk_reasoning=reasoning,
        reasoning_text=f"Let me think about {i}. " * 8 * bool(thinks),
        response_text=f"The answer is {i % 97}.",
        usage_mode="continuous",
        reasoning_from="field" if thinks else "none",
    )


def _samples(end_s: float, in_flight: int, generator: np.random.Generator) -> Iterator[Sample]:
    """From before the load to after it."""
    for i, t in enumerate(np.linspace(-1.0, end_s + 1.0, SAMPLES)):
        busy = 1.0 if 0 <= t <= end_s else 0.0
        yield Sample(
            float(t),
            kv_usage=busy * min(1.0, 0.3 + 0.01 * float(generator.random())),
            running=busy * in_flight,
            waiting=0.0,
            preemptions_total=0.0,
            prompt_tokens_total=100.0 * i,
            generation_tokens_total=1000.0 * i,
        )

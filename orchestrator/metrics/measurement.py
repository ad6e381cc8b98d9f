"""What one cell's measurement left, as one value: all that flags, metrics and rows are made from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from orchestrator.metrics.engine import batch_limit
from orchestrator.metrics.requests import cut
from orchestrator.metrics.window import Steps, Window, in_flight, measured_window
from orchestrator.records import Closed, Record, Sample, Schedule


@dataclass(frozen=True, slots=True)
class RunConditions:
    """How a measurement went, beside its records.

    ``gpus`` is the deployment's number of GPUs, 0 on a CPU. ``expected`` are the `Sample` fields that
    every sample must have, empty where there is nothing to ask. ``cache_reset`` is None when there was no way
    to reset the cache or to learn the outcome, True when there is no cache. ``shared_tokens`` are those of a
    prompt that all prompts begin with, None where the server did not tell. ``gpu_shared`` is None when
    nobody can tell, as on a CPU; ``gpu_watched`` is whether NVML was asked. ``asked_tokens`` is how long each
    request's answer was made to be, None where answers end by themselves; ``max_tokens`` is what was allowed
    each, None where nobody knows; ``thinking_budget`` is after how many tokens of reasoning it is ended, None
    for none, ``step_tokens`` how many of them a step of the engine writes at most. ``receive_lag_s_p99`` and
    ``receive_lag_s_max`` are of the client process that was latest to read, None where nobody measured.
    ``unasked_connections`` and ``mixed_connections`` are those of the load (`load.driver.LoadResult`), None
    where nobody counted.
    ``reasons`` is whether the model is one that thinks before it answers.
    ``ends_s`` is when a load with a duration was to end, None where it ends with its last request.
    """

    schedule: Schedule = field(default_factory=lambda: Closed(1))
    cache_reset: bool | None = True
    shared_tokens: float | None = None
    external: bool = False
    reasons: bool = False
    engine_restarted: bool = False
    gpus: int = 0
    gpu_shared: bool | None = None
    gpu_watched: bool = False
    asked_tokens: Mapping[str, int] | None = None
    max_tokens: int | None = None
    thinking_budget: int | None = None
    step_tokens: int = 1
    receive_lag_s_p99: float | None = None
    receive_lag_s_max: float | None = None
    unasked_connections: int | None = None
    mixed_connections: int | None = None
    ends_s: float | None = None
    expected: Collection[str] = ("kv_usage", "running", "generation_tokens_total")


@dataclass(frozen=True)
class Measurement:
    """``samples`` are the engine's and the GPUs' counters, from before the load to after it."""

    records: Sequence[Record]
    samples: Sequence[Sample] = ()
    conditions: RunConditions = field(default_factory=RunConditions)

    @cached_property
    def window(self) -> Window | None:
        """From the first request sent to the last one ended, or to the end of a load's duration that cut
        some off; None when nothing was sent."""
        return measured_window(self.records, self.conditions.ends_s)

    @cached_property
    def ok(self) -> tuple[Record, ...]:
        return tuple(record for record in self.records if record.outcome == "ok")

    @cached_property
    def cut(self) -> tuple[Record, ...]:
        """Those that the end of the load's duration cut off."""
        return tuple(record for record in self.records if cut(record))

    @cached_property
    def running(self) -> Steps:
        """Requests in flight over time, never more than the engine's batch holds."""
        return in_flight(self.records, limit=batch_limit(self.samples))

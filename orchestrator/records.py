"""The plain data types that pass from one room to the next.

Every time is a ``float`` in seconds on the cell's clock: ``time.perf_counter()`` (CLOCK_MONOTONIC, one
clock for every process of a host) minus the cell's start. ``None`` means absent; a value is never 0 or
NaN in its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Outcome = Literal["ok", "error", "timeout", "cancelled"]
AnswerKind = Literal["math", "choice", "none"]
TRUNCATED = frozenset(
    {
        *("length", "max_tokens", "max_output_tokens", "max_completion_tokens", "max_length", "model_length"),
        *("max_new_tokens", "max_tokens_reached", "token_limit", "length_limit", "context_length"),
        *("model_context_window_exceeded", "context_window_exceeded", "context_length_exceeded"),
    }
)
"""The finish_reasons, as `plain` writes them, of an answer that a budget of tokens or the model's context cut
off."""
Message = Mapping[str, str]
"""One chat message: ``{"role": ..., "content": ...}``."""


_WHOLE = frozenset(
    {
        *("stop", "stopped", "stop_sequence", "stop_token", "eos", "eos_token"),
        *("end", "end_turn", "end_of_turn"),
        *("complete", "completed", "done", "finish", "finished", "success", "normal"),
        *("tool_calls", "tool_call", "tool_use", "function_call"),
    }
)
"""The finish_reasons, as `plain` writes them, of an answer that its model ended."""


def plain(finish_reason: str) -> str:
    """In lower case, with ``_`` between its words: ``MaxTokens`` and ``max-tokens`` are ``max_tokens``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[\s-]+", "_", finish_reason.strip()).lower()


def cut_off(finish_reason: str | None) -> bool:
    """Whether it is one of `TRUNCATED`."""
    return finish_reason is not None and plain(finish_reason) in TRUNCATED


def known_finish(finish_reason: str | None) -> bool:
    """Whether it says that an answer is whole, or that it was cut off."""
    return finish_reason is not None and (plain(finish_reason) in _WHOLE or cut_off(finish_reason))


@dataclass(frozen=True, slots=True)
class Item:
    """One question, rendered to the chat messages that are sent, with what its answer is graded against.

    ``reference`` is the expected answer: LaTeX or a number for ``math``, the letter for ``choice``
    (``options`` then holds the option texts, A first). ``group`` is the subject or the family, ``level`` how
    hard it is (1 is the easiest), where the dataset says so.
    """

    item_id: str
    messages: tuple[Message, ...]
    reference: str
    kind: AnswerKind
    options: tuple[str, ...] = ()
    group: str | None = None
    level: int | None = None

    @property
    def text(self) -> str:
        """What is asked, as it is sent."""
        return "\n\n".join(message["content"] for message in self.messages)


@dataclass(frozen=True, slots=True)
class Request:
    """One request, rendered before the run: ``body`` is the whole JSON document as it goes on the wire."""

    request_id: str
    item_id: str
    repeat: int
    body: bytes
    prompt_sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class Open:
    """Request i is sent at ``times_s[i]`` after the start, whatever became of the others. Ascending."""

    times_s: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Closed:
    """At most ``concurrency`` requests in flight; the next is sent when one has ended."""

    concurrency: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Groups of ``size``; the next group is sent when the last request of this one has ended."""

    size: int


Schedule: TypeAlias = Open | Closed | Batch


@dataclass(frozen=True, slots=True)
class Record:
    """What happened to one request: the load client's output, the metrics' input.

    ``chunk_s``, ``chunk_tokens`` and ``chunk_reasoning`` have one entry per chunk that carried at least one
    new output token: its arrival, how many output tokens it added, and how many of those were reasoning.
    They add up to ``output_tokens`` and ``reasoning_tokens``. Without sound counts on each chunk
    ``chunk_tokens`` and ``chunk_reasoning`` are None and ``chunk_s`` holds every chunk with text. Without
    reasoning counts from the server ``chunk_reasoning`` and ``reasoning_tokens`` follow from which chunks
    carried reasoning text; both are None where the server counted more reasoning than output.

    ``sent_s`` is None when no byte was handed to the socket (the connection was refused, say).
    ``first_visible_s`` is the first chunk with non-blank text, or a tool call, outside the reasoning.
    ``usage_mode`` says what the server's counts were (`load.stream.usage`), ``reasoning_from`` where its
    reasoning was: ``field``, ``tags`` or ``none``; both are None in records of older versions. ``retries``:
    how often it was sent again, at most once, because the server had closed the idle connection that it was
    sent on; ``sent_s`` is then the first time. None in what an older version stored.
    ``cut_by_window``: the client cancelled it, or never sent it, because the load's ``duration_s`` was over.
    """

    request_id: str
    item_id: str
    repeat: int
    prompt_sha256: str
    scheduled_s: float
    sent_s: float | None
    first_token_s: float | None
    first_visible_s: float | None
    last_token_s: float | None
    end_s: float
    prompt_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    cached_tokens: int | None
    outcome: Outcome
    finish_reason: str | None
    error: str | None
    http_status: int | None
    chunk_s: NDArray[np.float64]
    chunk_tokens: NDArray[np.int32] | None
    chunk_reasoning: NDArray[np.int32] | None
    reasoning_text: str
    response_text: str
    cut_by_window: bool = False
    usage_mode: str | None = None
    reasoning_from: str | None = None
    retries: int | None = 0


@dataclass(frozen=True, slots=True)
class Grade:
    """A graded answer. ``predicted`` is None when no answer could be read; ``correct`` is None when the
    request cannot be graded at all (it failed, or the dataset has no references). ``vote`` is what it counts
    as in a majority: the first answer to the same item that it equals; None where nobody compared them."""

    predicted: str | None
    correct: bool | None
    vote: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Sample:
    """The engine's and the GPUs' counters at one moment; None where the source does not have the counter.

    Gauges in [0, 1]: ``kv_usage``, and ``spec_accept_rate``, that of an engine's last report. Counters are
    cumulative since the engine's start; ``queue_s_total`` and ``prefill_s_total`` are seconds, of
    ``queue_requests_total`` requests. ``engine_cpus`` are the CPUs that the engine's processes used since
    the sample before, ``engine_cpu_busiest`` those of the one that used most; ``engine_cpu_wait`` the number
    of their threads that waited for a CPU, on average. Of the
    CPUs that the engine may use, ``others_cpus`` are those that neighbours used and ``steal_cpus`` those that
    the hypervisor kept. ``cpu_pressure`` is the share of the time in which any task of the machine waited for
    a CPU. GPU tuples have one entry per GPU of the deployment: utilisation in [0, 1], memory in bytes, power
    in W, energy in J since the driver was loaded.
    """

    t_s: float
    kv_usage: float | None = None
    running: float | None = None
    waiting: float | None = None
    preemptions_total: float | None = None
    prefix_queries_tokens_total: float | None = None
    prefix_hits_tokens_total: float | None = None
    spec_drafts_total: float | None = None
    spec_drafted_total: float | None = None
    spec_accepted_total: float | None = None
    spec_accept_rate: float | None = None
    prompt_tokens_total: float | None = None
    generation_tokens_total: float | None = None
    queue_s_total: float | None = None
    queue_requests_total: float | None = None
    prefill_s_total: float | None = None
    engine_cpus: float | None = None
    engine_cpu_busiest: float | None = None
    engine_cpu_wait: float | None = None
    others_cpus: float | None = None
    steal_cpus: float | None = None
    cpu_pressure: float | None = None
    gpu_util: tuple[float, ...] | None = None
    gpu_memory_bytes: tuple[int, ...] | None = None
    gpu_power_w: tuple[float, ...] | None = None
    gpu_energy_j: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an OpenAI-compatible server listens. ``base_path`` precedes ``/v1/...``; ``tls``: it speaks
    https."""

    host: str
    port: int
    model: str
    api_key: str | None = field(default=None, repr=False)
    base_path: str = ""
    tls: bool = False

    @property
    def url(self) -> str:
        """Without ``/v1``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.base_path}"

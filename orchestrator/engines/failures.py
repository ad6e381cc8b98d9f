"""Why an engine failed, read from its log: a pure function over text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Cause = Literal[
    "oom",
    "oom_serving",
    "oom_wake",
    "gpu_busy",
    "unsupported",
    "bad_flag",
    "model_missing",
    "crash",
    "hang",
    "start_timeout",
]

TRY: dict[Cause, str] = {
    "oom": "a larger tensor_parallel_size, a smaller model.context, or a quantized checkpoint",
    "oom_serving": "a smaller hardware.gpu_memory_utilization, engine.args.max-num-seqs or load",
    "oom_wake": "nvidia-smi tells who took the memory; a smaller hardware.gpu_memory_utilization, or fewer "
    "engine.sleepers",
    "gpu_busy": "nvidia-smi tells who else is on the GPU",
    "unsupported": "another engine, another optimization, or a newer engine (engine.python)",
    "bad_flag": "correct engine.args; the engine's own --help lists what this version takes",
    "model_missing": "check model.hub_id, model.revision and model.path; gated models need HF_TOKEN",
    "crash": "run the command below by hand",
    "hang": "run the command below by hand; a smaller load tells whether it is only slow",
    "start_timeout": "a larger timeout.engine_start_s, or read in the log what it waits for",
}

# The first that matches wins: an engine that runs out of memory also prints that its core died.
_SIGNS: tuple[tuple[Cause, tuple[str, ...]], ...] = (
    ("gpu_busy", (r"Free memory on device .* is less than desired GPU memory utilization",)),
    (
        "oom",
        (
            r"OutOfMemoryError|CUDA out of memory|CUDA [Ee]rror: out of memory|\bMemoryError",
            r"failure .out of memory",
            r"No available memory for the cache|KV cache is needed, which is larger|Not enough memory",
            r"exceeds (?:the )?available.*memory",
            r"Available memory .* less than requested memory|Cannot allocate memory",
            r"DefaultCPUAllocator: can't allocate memory",
        ),
    ),
    (
        "bad_flag",
        (
            r"error: (?:unrecognized arguments|argument |ambiguous option|the following arguments)",
            r"invalid (?:reasoning|tool call) parser|[Pp]arser '.*' not found",
        ),
    ),
    (
        "unsupported",
        (
            r"(?:is|are) not supported|not supported by|does not support|NotImplementedError",
            r"not implemented for|Unknown quantization|Cannot find the config file for",
            r"no kernel image is available|does not recognize this architecture|no module or parameter named",
        ),
    ),
    (
        "model_missing",
        (
            r"(?:RepositoryNotFound|GatedRepo|RevisionNotFound|LocalEntryNotFound)Error|OfflineModeIsEnabled",
            r"is not a valid model identifier|Invalid repository ID or local directory",
        ),
    ),
    ("bad_flag", (r"validation errors? for \w*(?:Config|Args)",)),
)
_COMPILED = tuple((cause, re.compile("|".join(signs))) for cause, signs in _SIGNS)
_ERROR_LINE = re.compile(r"error|exception|failure", re.IGNORECASE)
_SECOND_HAND = re.compile(r"EngineDeadError|initialization failed\. See root cause above")
_CHATTER = re.compile(r"\b(?:DEBUG|INFO|WARNING)\b|Warning: ")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """``line`` is the log's line that says so, None when nothing there does."""

    cause: Cause
    line: str | None


def classify(log: str, *, serving: bool = False, oom_killed: bool = False) -> Diagnosis:
    """The cause of a failure from the engine's log. ``serving``: it had been ready. ``oom_killed``: the
    kernel killed a process for memory meanwhile, which the victim cannot log."""
    lines = log.splitlines()
    errors = [n for n, line in enumerate(lines) if _ERROR_LINE.search(line) and not _CHATTER.search(line)]
    for cause, pattern in _COMPILED:
        for number in errors:
            if pattern.search(lines[number]):
                return Diagnosis(_when(cause, serving), _said(lines, number))
    if oom_killed:
        return Diagnosis(_when("oom", serving), None)
    named = [
        number
        for number in errors
        if re.search(r"\w(?:Error|Exception)\b:", lines[number]) and not _SECOND_HAND.search(lines[number])
    ]
    return Diagnosis("crash", _said(lines, named[-1]) if named else None)


def tail(log: str, lines: int = 30) -> str:
    """The last ``lines`` lines that are not blank, each at most 400 characters."""
    kept = [line[:400] for line in log.splitlines() if line.strip()]
    return "\n".join(kept[-lines:])


def _when(cause: Cause, serving: bool) -> Cause:
    return "oom_serving" if cause == "oom" and serving else cause


def _said(lines: list[str], number: int) -> str:
    """The line, with the field and the complaint that follow a validation error on lines of their own."""
    said = [lines[number].strip()]
    if re.search(r"validation errors? for \w+$", said[0]):
        said += [line.strip() for line in lines[number + 1 : number + 3]]
    return "; ".join(said)[:600]

"""The three Parquet files of a cell: their columns, and rows from what was measured.

Absent is null. A schema may gain columns; a change of meaning raises the version in the file's metadata.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any

import orjson
import pyarrow as pa

from orchestrator.config.schema import SloConfig
from orchestrator.metrics import requests
from orchestrator.metrics.measurement import Measurement
from orchestrator.metrics.summary import summarize
from orchestrator.records import Grade, Item, Record, Sample
from orchestrator.store.finite import NOT_FINITE, all_finite, is_finite

VERSION = "2"
METADATA = {"schema_version": VERSION}
ENTRIES_AT_MOST = 2**31 - 2
"""Of all lists of one Arrow array together, or bytes of its texts: their offsets have 32 bits."""
ATTEMPT = "attempt_id"  # in the metadata of all three files of an attempt; absent in those of older versions

REQUESTS = pa.schema(
    {
        "cell_id": pa.string(),
        "attempt_id": pa.string(),
        "simulated": pa.bool_(),
        "request_id": pa.string(),
        "item_id": pa.string(),
        "family": pa.string(),
        "level": pa.int64(),
        "repeat": pa.int64(),
        "scheduled_s": pa.float64(),
        "sent_s": pa.float64(),
        "first_token_s": pa.float64(),
        "first_visible_s": pa.float64(),
        "last_token_s": pa.float64(),
        "end_s": pa.float64(),
        "ttft_s": pa.float64(),
        "ttfvt_s": pa.float64(),
        "ttfvt_censored": pa.bool_(),
        "thinking_s": pa.float64(),
        "tpot_s": pa.float64(),
        "tpot_thinking_s": pa.float64(),
        "tpot_visible_s": pa.float64(),
        "e2e_s": pa.float64(),
        "send_lag_s": pa.float64(),
        "prompt_tokens": pa.int64(),
        "output_tokens": pa.int64(),
        "reasoning_tokens": pa.int64(),
        "cached_tokens": pa.int64(),
        "outcome": pa.string(),
        "cut_by_window": pa.bool_(),
        "finish_reason": pa.string(),
        "error": pa.string(),
        "http_status": pa.int64(),
        "usage_mode": pa.string(),
        "reasoning_from": pa.string(),
        "retries": pa.int64(),
        "chunk_s": pa.list_(pa.float64()),
        "chunk_tokens": pa.list_(pa.int32()),
        "chunk_reasoning_tokens": pa.list_(pa.int32()),
        "prompt_sha256": pa.string(),
        "question": pa.string(),
        "reasoning_text": pa.string(),
        "response_text": pa.string(),
        "reference": pa.string(),
        "predicted": pa.string(),
        "vote": pa.string(),
        "correct": pa.bool_(),
    },
    METADATA,
)

_GPU_TYPES = {  # one entry a GPU, however many there are
    "gpu_util": pa.list_(pa.float64()),
    "gpu_memory_bytes": pa.list_(pa.int64()),
    "gpu_power_w": pa.list_(pa.float64()),
    "gpu_energy_j": pa.list_(pa.float64()),
}
GPU_COLUMNS = frozenset(_GPU_TYPES)

TELEMETRY = pa.schema(
    {
        "cell_id": pa.string(),
        "attempt_id": pa.string(),
        "simulated": pa.bool_(),
        "t_s": pa.float64(),
        **{field.name: pa.float64() for field in fields(Sample) if field.name not in {"t_s", *_GPU_TYPES}},
        **_GPU_TYPES,
    },
    METADATA,
)

JSON_COLUMNS = frozenset({"engine_args", "provenance"})
_COUNTS = frozenset(
    {
        *("requests_total", "requests_ok", "requests_failed", "requests_cut", "requests_cancelled"),
        *("retries", "slo_undecided", "unasked_connections", "preemptions", "prompt_tokens", "output_tokens"),
    }
)
METRIC_COLUMNS = tuple(summarize(Measurement(()), None, SloConfig()))

CELLS = pa.schema(
    {
        "cell_id": pa.string(),
        "attempt_id": pa.string(),
        "deployment_id": pa.string(),
        "study": pa.string(),
        "overrides": pa.list_(pa.string()),
        "model": pa.string(),
        "model_kind": pa.string(),
        "model_revision": pa.string(),
        **{f"model_{source}": pa.string() for source in ("hub_id", "path", "package")},
        "engine": pa.string(),
        "engine_version": pa.string(),
        "opt": pa.list_(pa.string()),
        "tensor_parallel_size": pa.int64(),
        "gpu_type": pa.string(),
        "gpus": pa.int64(),
        "nodes": pa.int64(),
        "dataset": pa.string(),
        "dataset_revision": pa.string(),
        "prompt": pa.string(),
        "items": pa.int64(),
        "load": pa.string(),
        "batch_size": pa.int64(),
        "concurrency": pa.int64(),
        "request_rate": pa.float64(),
        "burstiness": pa.float64(),
        "normalize": pa.bool_(),
        "usage": pa.string(),
        "usage_mode": pa.string(),
        "reasoning_from": pa.string(),
        "cache": pa.string(),
        "weights": pa.string(),
        "max_tokens": pa.int64(),
        "thinking_budget": pa.int64(),
        "seed": pa.int64(),
        "run": pa.int64(),
        "run_of": pa.string(),
        "block": pa.string(),
        "block_position": pa.int32(),
        "repeats": pa.int64(),
        "temperature": pa.float64(),
        "top_p": pa.float64(),
        "top_k": pa.int64(),
        "seeded": pa.bool_(),
        "min_p": pa.float64(),
        "presence_penalty": pa.float64(),
        "repetition_penalty": pa.float64(),
        "stop": pa.list_(pa.string()),
        "reasoning_effort": pa.string(),
        "slo_ttft_s": pa.float64(),
        "slo_ttfvt_s": pa.float64(),
        "slo_tpot_s": pa.float64(),
        "slo_e2e_s": pa.float64(),
        "slo_itl_s": pa.float64(),
        "engine_args": pa.string(),
        "provenance": pa.string(),
        "status": pa.string(),
        "reason": pa.string(),
        "flags": pa.list_(pa.string()),
        "attempts": pa.int64(),
        "started_at": pa.timestamp("us", tz="UTC"),
        "duration_s": pa.float64(),
        "deployment_start_s": pa.float64(),
        "since_wake_s": pa.float64(),
        "stored_at": pa.timestamp("us", tz="UTC"),
        "simulated": pa.bool_(),
        **{name: pa.int64() if name in _COUNTS else pa.float64() for name in METRIC_COLUMNS},
    },
    METADATA,
)


def request_rows(
    cell_id: str,
    records: Sequence[Record],
    grades: Sequence[Grade] | None,
    references: Mapping[str, str] | None = None,
    questions: Mapping[str, str] | None = None,
    *,
    items: Mapping[str, Item] | None = None,
    simulated: bool = False,
    attempt_id: str | None = None,
) -> pa.Table:
    """One row per record. ``grades`` are in the order of ``records``; ``references`` maps item_id to the
    expected answer, ``questions`` to the text that was sent, ``items`` to the item; ``attempt_id`` names the
    measurement, in a column and in the metadata."""
    graded = grades if grades is not None else [Grade(None, None)] * len(records)
    known, asked, of = references or {}, questions or {}, items or {}
    rows = [
        {
            "cell_id": cell_id,
            "attempt_id": attempt_id,
            "simulated": simulated,
            "request_id": record.request_id,
            "item_id": record.item_id,
            "family": None if (item := of.get(record.item_id)) is None else item.group,
            "level": None if item is None else item.level,
            "repeat": record.repeat,
            "scheduled_s": record.scheduled_s,
            "sent_s": record.sent_s,
            "first_token_s": record.first_token_s,
            "first_visible_s": record.first_visible_s,
            "last_token_s": record.last_token_s,
            "end_s": record.end_s,
            "ttft_s": requests.ttft_s(record),
            "ttfvt_s": requests.ttfvt_s(record),
            "ttfvt_censored": requests.ttfvt_censored(record),
            "thinking_s": requests.thinking_s(record),
            "tpot_s": requests.tpot_s(record),
            "tpot_thinking_s": requests.tpot_thinking_s(record),
            "tpot_visible_s": requests.tpot_visible_s(record),
            "e2e_s": requests.e2e_s(record),
            "send_lag_s": requests.send_lag_s(record),
            "prompt_tokens": record.prompt_tokens,
            "output_tokens": record.output_tokens,
            "reasoning_tokens": record.reasoning_tokens,
            "cached_tokens": record.cached_tokens,
            "outcome": record.outcome,
            "cut_by_window": record.cut_by_window,
            "finish_reason": record.finish_reason,
            "error": _encodable(record.error),
            "http_status": record.http_status,
            "usage_mode": record.usage_mode,
            "reasoning_from": record.reasoning_from,
            "retries": record.retries,
            "chunk_s": record.chunk_s,
            "chunk_tokens": record.chunk_tokens,
            "chunk_reasoning_tokens": record.chunk_reasoning,
            "prompt_sha256": record.prompt_sha256,
            "question": asked.get(record.item_id),
            "reasoning_text": _encodable(record.reasoning_text),
            "response_text": _encodable(record.response_text),
            "reference": known.get(record.item_id),
            "predicted": _encodable(grade.predicted),
            "vote": _encodable(grade.vote),
            "correct": grade.correct,
        }
        for record, grade in zip(records, graded, strict=True)
    ]
    return _table(rows, REQUESTS, attempt_id)


def telemetry_rows(
    cell_id: str,
    samples: Sequence[Sample],
    gpus: int,
    *,
    simulated: bool = False,
    attempt_id: str | None = None,
) -> pa.Table:
    """One row per sample. Raises ValueError when a sample has more GPUs than ``gpus`` says."""
    first = {"cell_id": cell_id, "attempt_id": attempt_id, "simulated": simulated}
    names = [name for name in TELEMETRY.names if name not in first]
    rows = [first | {name: getattr(sample, name) for name in names} for sample in samples]
    most = max((len(row[name] or ()) for row in rows for name in GPU_COLUMNS), default=0)
    if most > max(gpus, 1):
        raise ValueError(f"{most} GPUs were sampled, the deployment has {gpus}")
    return _table(rows, TELEMETRY, attempt_id)


def cell_table(row: Mapping[str, Any]) -> pa.Table:
    """One row. Columns not given are null; mappings in the JSON columns are encoded, keys sorted. Raises
    ValueError for a column the schema does not know, and for a row that says of itself that it is simulated
    where its engine says that it is not, or the reverse; one whose numbers are quoted (``quoted_from`` in its
    provenance) counts as simulated, whatever its engine."""
    if unknown := row.keys() - set(CELLS.names):
        raise ValueError(f"no such column in cells: {', '.join(sorted(unknown))}")
    unmeasured = row.get("engine") == "simulated" or quoted_from(row) is not None
    if "engine" in row and unmeasured != bool(row.get("simulated")):
        raise ValueError(f"engine={row['engine']} and simulated={row.get('simulated')} in one row")
    encoded = {
        name: orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
        if name in JSON_COLUMNS and value is not None and not isinstance(value, str)
        else value
        for name, value in row.items()
    }
    encoded["reason"] = _encodable(encoded.get("reason"))
    for name, value in encoded.items():
        if not is_finite(value):
            raise ValueError(f"column {name} {NOT_FINITE}")
    # As one struct: made column by column, its hundreds of columns of one value take five times as long.
    row_array = pa.array([encoded], pa.struct(list(CELLS)))
    table = pa.Table.from_batches([pa.RecordBatch.from_struct_array(row_array)])
    return _of_attempt(table, encoded.get("attempt_id"))


def quoted_from(row: Mapping[str, Any]) -> str | None:
    """Where the cell's numbers are quoted from, of one that was not measured here; None of all others."""
    stored = row.get("provenance")
    try:
        found = orjson.loads(stored) if isinstance(stored, str) else stored
    except orjson.JSONDecodeError:
        return None
    source = found.get("quoted_from") if isinstance(found, Mapping) else None
    return None if source is None else str(source)


def _table(
    rows: Sequence[Mapping[str, Any]],
    schema: pa.Schema,
    attempt_id: str | None,
    at_most: int = ENTRIES_AT_MOST,
) -> pa.Table:
    """Columns by the schema. Raises ValueError for NaN or infinity: neither ever means anything here."""
    columns = [_column([row.get(field.name) for row in rows], field.type, at_most) for field in schema]
    for field, column in zip(schema, columns, strict=True):
        if not all_finite(column):
            raise ValueError(f"column {field.name} {NOT_FINITE}")
    return _of_attempt(pa.table(columns, schema=schema), attempt_id)


def _of_attempt(table: pa.Table, attempt_id: str | None) -> pa.Table:
    metadata = METADATA if attempt_id is None else {**METADATA, ATTEMPT: attempt_id}
    return table.replace_schema_metadata(metadata)


def _column(values: Sequence[Any], kind: pa.DataType, at_most: int) -> pa.ChunkedArray:
    """In chunks of ``at_most`` entries of lists, or bytes of text, unless a single value has more."""
    ends: list[int] = []
    if pa.types.is_list(kind) or pa.types.is_string(kind):
        entries = 0
        for index, value in enumerate(values):
            size = 0 if value is None else len(value)
            if isinstance(value, str) and not value.isascii():
                size = len(value.encode())
            if entries + size > at_most and entries:
                ends.append(index)
                entries = 0
            entries += size
    pieces = [values[start:end] for start, end in pairwise([0, *ends, len(values)])]
    return pa.chunked_array([pa.array(piece, kind) for piece in pieces], kind)


def _encodable(text: str | None) -> str | None:
    """A model may emit half of a surrogate pair, which UTF-8 cannot hold: it becomes a question mark."""
    return None if text is None else text.encode("utf-8", "replace").decode()

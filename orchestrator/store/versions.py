"""Versions of the stored files: what a file of an older one means today, and which are too new to be read.

1  one GPU's telemetry was a number, several GPUs' a list
2  always a list; `requests` have their question
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.errors import ConfigError
from orchestrator.store.attempts import UNREADABLE
from orchestrator.store.schema import CELLS, GPU_COLUMNS, REQUESTS, TELEMETRY, VERSION

_SCHEMAS = {"cells": CELLS, "requests": REQUESTS, "telemetry": TELEMETRY}
# Read out of each schema once: pyarrow makes all of its names anew whenever they are asked for.
_FIELDS = {folder: {field.name: field for field in schema} for folder, schema in _SCHEMAS.items()}


class NewerError(ValueError):
    """A file is of a version that this one knows nothing of."""


def check_version(metadata: Mapping[bytes, bytes] | None) -> None:
    """Raises NewerError where a file with this metadata is of a version that this one knows nothing of."""
    said = (metadata or {}).get(b"schema_version", b"1").decode(errors="replace")
    if not said.isdecimal() or int(said) > int(VERSION):
        raise NewerError(f"schema_version={said}: this version of the program reads up to {VERSION}")


def refuse_newer(study_dir: Path) -> None:
    """Raises ConfigError for the first row of the study that only a newer version of the program can read:
    what this one made of the others would not be the study."""
    for path in sorted((study_dir / "cells").glob("[!.]*.parquet")):
        try:
            metadata = pq.read_metadata(path).metadata
        except UNREADABLE:
            continue  # damaged: `read` says so, and it counts as not there
        try:
            check_version(metadata)
        except NewerError as error:
            raise ConfigError(f"{path}: {error}; use the version that stored it, or another study") from None


def migrated(table: pa.Table, folder: str) -> pa.Table:
    """A file's table as this version would have stored it. Raises ValueError where it is of a newer one, and
    pyarrow's exceptions where a column has another type than it must."""
    check_version(table.schema.metadata)
    if folder == "telemetry":
        for name in GPU_COLUMNS & set(table.column_names):
            if not pa.types.is_list(table.schema.field(name).type):
                table = table.set_column(table.column_names.index(name), name, _in_lists(table[name]))
    known, schema = _FIELDS[folder], table.schema
    if schema.equals(_SCHEMAS[folder]):
        return table
    there = [field for field in schema if field.name in known]
    if any(field != known[field.name] for field in there) or len(set(schema.names)) < len(schema):
        pa.unify_schemas([pa.schema([known[name] for name in {field.name: 0 for field in there}]), schema])
    return table


def _in_lists(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Each number in a list of its own; null stays null."""
    lists = [
        [[value] if value is not None else None for value in chunk.to_pylist()] for chunk in column.chunks
    ]
    kind = pa.list_(column.type)
    return pa.chunked_array([pa.array(one, kind) for one in lists], kind)

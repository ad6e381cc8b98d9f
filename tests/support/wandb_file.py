"""Reads what Weights & Biases' library writes of an offline run: the log format of LevelDB, of protobufs."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

pb: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")  # unseen by type checks

BLOCK = 32 << 10
FILE_HEADER = 7  # ``:W&B``, a magic number, a version
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[Any]:
    """In the order written. A record may be in parts, none of which crosses a block's end."""
    content, at, parts = path.read_bytes(), FILE_HEADER, b""
    while at + 7 <= len(content):
        if BLOCK - at % BLOCK < 7:  # too little for a header: padding
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)  # behind the checksum
        part = content[at + 7 : at + 7 + length]
        at += 7 + length
        parts = part if kind in (FULL, FIRST) else parts + part
        if kind in (FULL, LAST):
            record = pb.Record()
            record.ParseFromString(parts)
            yield record

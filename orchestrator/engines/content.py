"""What a file or a folder holds, as a hash of every byte: a file rewritten in place is another one.

A file's hash is kept under `paths.home` by its path, size, inode and times, so that weights are read once
(about a second a GiB and CPU) and looked up after. Times alone could be set back by whoever rewrites a file;
that of its last change of status cannot.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from orchestrator import paths

# A file that was changed this short a time ago may be changed again without a new time on it.
SETTLED_S = 2.0
_DIGITS = 16


def of_file(file: Path) -> str:
    """SHA-256 in hex. Raises OSError."""
    stat = file.stat()
    key = (str(file.resolve()), stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns)
    if time.time() - max(stat.st_mtime, stat.st_ctime) < SETTLED_S:
        return _read(file)
    return _of(file, key)


def of_folder(folder: Path) -> str:
    """The first 16 hex digits of SHA-256 over the names and contents of a folder's files, below it too,
    hidden ones left out. Raises OSError."""
    files = []
    for root, below, names in os.walk(folder, followlinks=True, onerror=_raise):
        below[:] = _visible(below)  # those that `os.walk` goes into
        files += [Path(root, name) for name in _visible(names)]
    files.sort()
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        contents = list(pool.map(of_file, files))
    digest = hashlib.sha256()
    for file, content in zip(files, contents, strict=True):
        digest.update(f"{file.relative_to(folder)}\0{content}\0".encode())
    return digest.hexdigest()[:_DIGITS]


def of_named(value: Any) -> dict[str, str]:
    """The content of every file and folder that a string in ``value``, however deep, names by a path which
    begins with ``/`` or ``~``: path -> 16 hex digits. One that is not there, a node's say, is left out."""
    if isinstance(value, Mapping):
        return {path: found for one in value.values() for path, found in of_named(one).items()}
    if isinstance(value, list | tuple):
        return {path: found for one in value for path, found in of_named(one).items()}
    if not isinstance(value, str) or not value.startswith(("/", "~")):
        return {}
    path = Path(value).expanduser()
    with suppress(OSError):
        if path.is_file():
            return {value: of_file(path)[:_DIGITS]}
        if (path / "config.json").is_file():
            return {value: of_folder(path)}
    return {}


def _visible(names: list[str]) -> list[str]:
    return [name for name in names if not name.startswith(".")]


def _raise(error: OSError) -> None:
    raise error


@lru_cache(maxsize=4096)
def _of(file: Path, key: tuple[str, int, int, int, int]) -> str:
    kept = paths.home() / "contents" / f"{hashlib.sha256(key[0].encode()).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads(kept.read_text())
        if known["of"] == list(key):
            return str(known["sha256"])
    found = _read(file)
    with suppress(OSError):  # a home that cannot be written only costs time
        paths.made(kept.parent)
        fresh = kept.with_name(f".{kept.name}.{os.getpid()}")
        fresh.write_text(json.dumps({"of": key, "sha256": found}))
        fresh.replace(kept)
    return found


def _read(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()

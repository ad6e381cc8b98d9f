"""Where rows come from: a local JSON-lines file, or the hub through the ``datasets`` library."""

from __future__ import annotations

import codecs
import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from orchestrator.config.schema import DatasetConfig
from orchestrator.datasets.question import Row
from orchestrator.errors import ConfigError


def local(path: str) -> tuple[Sequence[Row], str]:
    """The rows of a JSON-lines file and ``sha256:`` with the first 16 hex digits of its content's hash.

    Raises ConfigError when the file is absent, empty, or has a line that is not a JSON object.
    """
    file = Path(path).expanduser()
    try:
        stat = file.stat()
        return _read(file.resolve(), stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise ConfigError(
            f"dataset.path={path}: {error.strerror or error}; it must be a JSON-lines file"
        ) from error


@functools.lru_cache(maxsize=8)
def _read(file: Path, _mtime_ns: int, _size: int) -> tuple[Sequence[Row], str]:
    content = file.read_bytes()
    if found := _encoding(content):
        raise ConfigError(f"dataset.path={file}: the file is written in {found}; it must be UTF-8")
    rows: list[Row] = []
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"dataset.path={file}: line {number} is not written in UTF-8, which the file must be"
            ) from error
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                f"dataset.path={file}: line {number} is not JSON ({_one_line(error)}); "
                "each line must be one JSON object"
            ) from error
        if not isinstance(row, dict):
            raise ConfigError(
                f"dataset.path={file}: line {number} is a JSON {type(row).__name__}; "
                "each line must be one JSON object"
            )
        rows.append(row)
    if not rows:
        raise ConfigError(f"dataset.path={file}: the file has no rows; it must hold one JSON object a line")
    return rows, "sha256:" + hashlib.sha256(content).hexdigest()[:16]


def _encoding(content: bytes) -> str | None:
    """UTF-16 or UTF-32 where the file is, by its first bytes: a mark, or the zeros of a bracket."""
    for mark, name in (
        (codecs.BOM_UTF32_LE, "UTF-32"),  # which begins with UTF-16's
        (codecs.BOM_UTF32_BE, "UTF-32"),
        (codecs.BOM_UTF16_LE, "UTF-16"),
        (codecs.BOM_UTF16_BE, "UTF-16"),
        (b"{\0\0\0", "UTF-32"),
        (b"\0\0\0{", "UTF-32"),
        (b"{\0", "UTF-16"),
        (b"\0{", "UTF-16"),
    ):
        if content.startswith(mark):
            return name
    return None


def hub(dataset: DatasetConfig) -> Sequence[Row]:
    """The rows of a hub dataset at ``dataset.revision``, from the local cache where it has them.

    Raises ConfigError when the dataset is gated and this machine has no access, when the hub cannot be
    reached and the cache does not have it, and when the subset, split or revision does not exist.
    """
    if not dataset.hub_id:
        raise ConfigError(f"dataset.hub_id=null: set it or dataset.path for dataset.name={dataset.name}")
    from datasets.exceptions import DatasetNotFoundError

    try:
        return _fetch(dataset.hub_id, dataset.subset, dataset.split, dataset.revision)
    except DatasetNotFoundError as error:
        if dataset.gated or "gated" in str(error):
            raise ConfigError(_gated(dataset.hub_id)) from error
        raise ConfigError(
            f"dataset.hub_id={dataset.hub_id}: not on the hub at revision {dataset.revision or 'main'}; "
            "correct dataset.hub_id or dataset.revision, or point dataset.path at a local JSON-lines file"
        ) from error
    except ValueError as error:  # an unknown subset or split; the library names the ones that exist
        raise ConfigError(
            f"dataset.subset={dataset.subset} dataset.split={dataset.split} of {dataset.hub_id}: "
            f"{_one_line(error)}"
        ) from error
    except OSError as error:  # ConnectionError and the hub client's HTTP errors are OSErrors
        raise ConfigError(
            f"dataset.hub_id={dataset.hub_id}: not in the local cache, and the hub cannot be reached "
            f"({_one_line(error)}); point dataset.path at a local JSON-lines file, or bring the cache "
            "(HF_HOME) from a machine with a network"
        ) from error


@functools.lru_cache(maxsize=4)
def _fetch(hub_id: str, subset: str | None, split: str, revision: str | None) -> Sequence[Row]:
    import datasets  # takes a second to import, and most runs never need it

    return list(datasets.load_dataset(hub_id, subset, split=split, revision=revision))


def _gated(hub_id: str) -> str:
    return (
        f"dataset.hub_id={hub_id}: this dataset is gated; accept its terms at "
        f"https://huggingface.co/datasets/{hub_id} and log in (`hf auth login`) or set HF_TOKEN, "
        "or point dataset.path at a local copy"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

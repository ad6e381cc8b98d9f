"""The few operations on small files that claims and locks are made of: what an object store offers too."""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from orchestrator.store.process import Process, parse, this_process

# Some file systems know no hard links; some of them say so in odd ways.
NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})
_TRIES = 5


class Files(Protocol):
    """Small files by name; a name may have a folder before it. Every operation raises OSError."""

    def create_exclusively(self, name: str, content: bytes) -> bool:
        """Makes the file with its whole content; False where there is one. Of many callers one gets True."""

    def read(self, name: str) -> bytes | None:
        """None where there is no such file."""

    def replace(self, name: str, content: bytes) -> None:
        """A reader sees the old content or the new one, wholly."""

    def delete(self, name: str) -> None:
        """Nothing where there is no such file."""

    def list(self, folder: str = "") -> list[str]:
        """Names of the files in it, without the folder; empty where there is none."""


class LocalFiles:
    """A folder of this machine or of NFS. Folders below ``root`` are made as needed, the parent of ``root``
    never is: where somebody removed it, writing raises FileNotFoundError."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def create_exclusively(self, name: str, content: bytes) -> bool:
        target = self._root / name
        temporary = self._written(target, content)
        try:
            os.link(temporary, target)
        except FileExistsError:
            # NFS may repeat a request whose answer was lost: then the file that is there is this one.
            return temporary.stat().st_nlink == 2
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            return _created(target, content)
        else:
            return True
        finally:
            temporary.unlink(missing_ok=True)

    def read(self, name: str) -> bytes | None:
        for left in reversed(range(_TRIES)):
            try:
                return (self._root / name).read_bytes()
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno != errno.ESTALE or not left:  # NFS: it was replaced while it was opened
                    raise
        raise AssertionError

    def replace(self, name: str, content: bytes) -> None:
        target = self._root / name
        temporary = self._written(target, content)
        try:
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        (self._root / name).unlink(missing_ok=True)

    def list(self, folder: str = "") -> list[str]:
        try:
            with os.scandir(self._root / folder) as entries:
                return sorted(entry.name for entry in entries if not entry.is_dir())
        except FileNotFoundError:
            return []

    def _written(self, target: Path, content: bytes) -> Path:
        temporary = temporary_name(target)
        for left in reversed(range(_TRIES)):
            try:
                temporary.write_bytes(content)
                return temporary
            except FileNotFoundError:
                if not left:
                    raise
                self._make(target.parent)  # again: whoever leaves last removes the empty folder
            except OSError:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
        raise AssertionError

    def _make(self, folder: Path) -> None:
        if folder != self._root:
            self._make(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir()


def temporary_name(target: Path) -> Path:
    """Hidden, used once, and named by its writer: ``.NAME.NONCE.PROCESS.tmp``."""
    return target.with_name(f".{target.stem}.{uuid4().hex[:8]}.{this_process()}.tmp")


def writer_of(name: str) -> Process | None:
    """Of a temporary file, by its name; None of any other."""
    found = re.search(r"\.[0-9a-f]{8}\.([0-9a-f-]+@.+)\.tmp$", name)
    return parse(found[1]) if found and name.startswith(".") else None


def _created(target: Path, content: bytes) -> bool:
    """Without hard links: exclusive as well, but for a moment a reader may see a part of the content."""
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)
    return True

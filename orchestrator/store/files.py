"""The few operations on files that a study is made of. Claims and locks need those of `Files` alone, which an
object store offers too."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from orchestrator.errors import StorageError
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


@contextmanager
def or_storage_error(study_dir: Path) -> Iterator[None]:
    """Raises StorageError, in one line, for an OSError in its block."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"results_dir={study_dir}: its cells and the claims on them cannot be read or written "
            f"({error.strerror or error}); what was finished is kept"
        ) from error


def temporary_name(target: Path) -> Path:
    """Hidden, used once, and named by its writer: ``.NAME.NONCE.PROCESS.tmp``."""
    return target.with_name(f".{target.stem}.{uuid4().hex[:8]}.{this_process()}.tmp")


def writer_of(name: str) -> Process | None:
    """Of a temporary file, by its name; None of any other."""
    found = re.search(r"\.[0-9a-f]{8}\.([0-9a-f-]+@.+)\.tmp$", name)
    return parse(found[1]) if found and name.startswith(".") else None


def link(source: Path, target: Path) -> None:
    """A second name, on the disk when this returns; a copy where there are no hard links. Nothing where
    ``target`` is there."""
    make_folder(target.parent)
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        between = temporary_name(target)
        try:
            shutil.copyfile(source, between)
            with between.open("rb") as file:
                os.fsync(file.fileno())
            between.replace(target)
        finally:
            between.unlink(missing_ok=True)
    sync_folder(target.parent)


def make_folder(folder: Path) -> None:
    """With its parents, on the disk when this returns."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        folder.mkdir(exist_ok=True)
    except FileNotFoundError:  # somebody who cleaned up has just removed the empty parent
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """A rename is on the disk once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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

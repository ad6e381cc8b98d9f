"""Who measures which cell, where several drivers share a study: a claim per cell and a heartbeat per driver.

``claims/CELL_ID`` says whose the cell is, ``claims/drivers/DRIVER`` that the driver lives: it is written anew
every ``heartbeat_s``. Nobody compares the clocks of two hosts: a driver counts as gone when its file has not
changed for ``stale_s`` while another one watched, or at once where its process is seen to be gone.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType

import orjson

from orchestrator.errors import StorageError
from orchestrator.store.files import Files, LocalFiles, or_storage_error, writer_of
from orchestrator.store.lease import Lease, Leases, Watch, decode
from orchestrator.store.process import Process, parse, this_process

FOLDER = "claims"
DRIVERS = "drivers"

logger = logging.getLogger(__name__)


class Claims:
    """One driver's claims in one study; a context manager, usable from any thread.

    Inside the block a thread writes the heartbeat and removes what drivers that are gone have left; at the
    end every claim is given back. ``owner`` is a name for people, such as a host's and a job's; drivers of
    the same name are told apart. All methods raise StorageError when the study's folder is gone or cannot
    be written.
    """

    def __init__(
        self,
        study_dir: Path,
        owner: str,
        *,
        stale_s: float = 60.0,
        heartbeat_s: float = 10.0,
        now: Callable[[], float] = time.monotonic,
        files: Files | None = None,
    ) -> None:
        if not 0 < heartbeat_s <= stale_s / 2:
            raise ValueError(
                f"heartbeat_s={heartbeat_s}: must be above 0 and at most stale_s/2={stale_s / 2}"
            )
        self.driver = f"{re.sub(r'[^A-Za-z0-9_-]+', '-', owner)[:80].strip('-')}-{secrets.token_hex(4)}"
        self._owner, self._study_dir = owner, study_dir
        self._stale_s, self._heartbeat_s, self._now = stale_s, heartbeat_s, now
        self._files = LocalFiles(study_dir / FOLDER) if files is None else files
        self._local = files is None
        self._leases = Leases(self._files, self.driver, self._gone)
        self._watch = Watch(now, stale_s / 2)
        self._mine: dict[str, Lease] = {}
        self._beats, self._beaten_at = 0, -float("inf")
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, name="claims", daemon=True)

    def __enter__(self) -> Claims:
        with self._storage():
            self._beat()
            self._sweep()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        try:
            for cell_id in list(self._mine):
                self.release(cell_id)
            with self._storage():
                self._files.delete(self._heartbeat_file(self.driver))
        except StorageError as failure:  # the others see that the process is gone, or no more heartbeats
            logger.warning("claims were not given back: %s", failure)
        if self._local:
            for folder in (self._study_dir / FOLDER / DRIVERS, self._study_dir / FOLDER):
                with suppress(OSError):  # others have files there
                    folder.rmdir()

    def take(self, cell_id: str) -> bool:
        """Claims the cell. True also where it is this driver's already; False where a driver that is not
        known to be gone has it. Look at what is stored of the cell after this and before measuring: who
        had it before may have measured it."""
        with self._lock, self._storage():
            if self._beaten_at == -float("inf"):
                self._beat()
            if cell_id in self._mine and self.ours(cell_id):
                return True
            lease = self._leases.take(cell_id)
            if lease is None:
                self._check_folder()
                return False
            self._mine[cell_id] = lease
            return True

    def ours(self, cell_id: str) -> bool:
        """Whether the cell is this driver's, by the file: to be asked right before measuring. A driver that
        was stopped for long makes sure that nobody is just taking the cell from it."""
        with self._lock, self._storage():
            lease = self._mine.get(cell_id)
            if lease is None:
                return False
            late = self._now() - self._beaten_at > self._stale_s / 2
            if late:
                self._beat()
                with self._leases.sole_right(cell_id, lease) as granted:
                    still = granted
            else:
                still = self._leases.read(cell_id) == lease
            if not still:
                self._check_folder()
                if not late or self._leases.read(cell_id) != lease:
                    del self._mine[cell_id]
            return still

    def nonce(self, cell_id: str) -> str | None:
        """What names this driver's claim on the cell, for `stands`; None where it has none."""
        with self._lock:
            lease = self._mine.get(cell_id)
            return None if lease is None else lease.nonce

    def release(self, cell_id: str) -> None:
        """Gives the cell back; nothing where it is not this driver's any more."""
        with self._lock, self._storage():
            lease = self._mine.get(cell_id)
            if lease is not None:
                self._leases.drop(cell_id, lease)
                del self._mine[cell_id]

    def taken_elsewhere(self, cell_ids: Collection[str]) -> set[str]:
        """Those of the cells that other drivers have, which are not known to be gone."""
        with self._storage():
            claimed = set(self._files.list()).intersection(cell_ids)
            found = {cell_id: self._leases.read(cell_id) for cell_id in sorted(claimed)}
            return {
                cell_id
                for cell_id, lease in found.items()
                if lease is not None and lease.owner != self.driver and not self._gone(lease)
            }

    def _gone(self, lease: Lease) -> bool:
        """By its process where that would be seen here, else by its driver's heartbeat."""
        if lease.owner == self.driver:
            return False
        return lease.process.is_gone() or self._silent(lease.owner or lease.nonce)

    def _silent(self, driver: str) -> bool:
        content = self._files.read(self._heartbeat_file(driver))
        return self._watch.unchanged_s(driver, content) >= self._stale_s

    @staticmethod
    def _heartbeat_file(driver: str) -> str:
        return f"{DRIVERS}/{driver}"

    def _beat(self) -> None:
        """Raises OSError."""
        with self._lock:
            self._beats += 1
            began = self._now()
            content = {"owner": self._owner, "process": str(this_process()), "beat": self._beats}
            self._files.replace(self._heartbeat_file(self.driver), orjson.dumps(content))
            self._beaten_at = began

    def _live(self) -> None:
        while not self._ended.wait(self._heartbeat_s):
            try:
                self._beat()
                self._sweep()
            except OSError as error:
                # `take` and `ours` write too and raise; a file server that comes back finds this going on.
                logger.warning("the heartbeat of %s was not written: %s", self.driver, error)

    def _sweep(self) -> None:
        """Looks at every other driver once; removes what those have left that are gone. Raises OSError."""
        drivers = [name for name in self._files.list(DRIVERS) if not name.startswith(".")]
        others = {name: self._process(name) for name in drivers if name != self.driver}
        gone = {name: process for name, process in others.items() if self._driver_gone(name, process)}
        for name in self._files.list():
            lease = None if name.startswith(".") else self._leases.read(name)
            # Every claim, not those of these drivers: one whose end was cut short has no heartbeat file.
            if lease is not None and self._gone(lease):
                self._leases.drop(name, lease, only_if_gone=True)
        self._leases.sweep_markers()
        for driver in gone:
            self._files.delete(self._heartbeat_file(driver))
            self._watch.forget(driver)
        for folder in ("", f"{DRIVERS}/"):
            for name in self._files.list(folder):
                writer = writer_of(name)
                if writer is not None and (writer in gone.values() or writer.is_gone()):
                    self._files.delete(folder + name)

    def _process(self, driver: str) -> Process | None:
        content = self._files.read(self._heartbeat_file(driver))
        with suppress(ValueError, TypeError, KeyError):
            return parse(str(orjson.loads(content or b"")["process"]))
        return None

    def _driver_gone(self, driver: str, process: Process | None) -> bool:
        return self._silent(driver) or (process is not None and process.is_gone())

    def _check_folder(self) -> None:
        """A claim that is not there may be so because nothing is there any more. Raises OSError."""
        if self._files.read(self._heartbeat_file(self.driver)) is None:
            self._beat()

    def _storage(self) -> AbstractContextManager[None]:
        return or_storage_error(self._study_dir)


def stands(study_dir: Path, cell_id: str, nonce: str) -> bool:
    """Whether the claim of that nonce is still the cell's: what a worker asks that measures for a driver.
    Raises OSError."""
    content = LocalFiles(study_dir / FOLDER).read(cell_id)
    return content is not None and decode(content).nonce == nonce

"""Files of which each belongs to one owner until it is given back or its owner is gone.

A lease is one file, created exclusively, whose content names its owner and a nonce that never comes again.
It is changed only by whoever has the sole right to: the creator of a marker named by the nonce, who then
reads the lease once more. So of all that find an owner gone exactly one takes over, however late the others
act. A marker whose maker is gone is passed by in the same way: by a marker named by both nonces.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import orjson

from orchestrator.store.files import Files, writer_of
from orchestrator.store.process import Process, this_process

_TRIES = 8
_MAX_NAME = 200
_MARKER = ".change."


@dataclass(frozen=True)
class Lease:
    """``since`` is by the clock of its owner's host, for people to read."""

    nonce: str
    owner: str
    process: Process
    since: datetime

    def encode(self) -> bytes:
        return orjson.dumps(asdict(self) | {"since": self.since.isoformat()})


def draw(owner: str) -> Lease:
    return Lease(secrets.token_hex(8), owner, this_process(), datetime.now(UTC))


def decode(content: bytes) -> Lease:
    """What is no lease, such as one that is being written where there are no hard links, is one of nobody
    known, told apart by its content."""
    try:
        row = orjson.loads(content)
        since = datetime.fromisoformat(row["since"])
        return Lease(str(row["nonce"]), str(row["owner"]), Process(**row["process"]), since)
    except (ValueError, TypeError, KeyError):
        nonce = hashlib.sha256(content).hexdigest()[:16]
        return Lease(nonce, "", Process("", "", 0, 0), datetime.fromtimestamp(0, UTC))


class Watch:
    """How long contents have stayed as they are, by this process's own clock alone. A gap between two looks
    counts at most ``most_s``: whoever was stopped has not watched."""

    def __init__(self, now: Callable[[], float], most_s: float) -> None:
        self._now, self._most_s = now, most_s
        self._seen: dict[str, tuple[bytes | None, float, float]] = {}  # content, watched, last look
        self._lock = threading.Lock()

    def unchanged_s(self, name: str, content: bytes | None) -> float:
        with self._lock:
            now = self._now()
            before, watched_s, looked = self._seen.get(name, (content, 0.0, now))
            if before != content:
                watched_s = 0.0
            else:
                watched_s += min(now - looked, self._most_s)
            self._seen[name] = (content, watched_s, now)
            return watched_s

    def forget(self, name: str) -> None:
        with self._lock:
            self._seen.pop(name, None)


class Leases:
    """Leases among ``files`` for one owner. ``gone`` judges the owner of another's. All methods raise
    OSError."""

    def __init__(self, files: Files, owner: str, gone: Callable[[Lease], bool]) -> None:
        self._files, self._owner, self._gone = files, owner, gone

    def read(self, name: str) -> Lease | None:
        content = self._files.read(name)
        return None if content is None else decode(content)

    def take(self, name: str) -> Lease | None:
        """The new lease; None where somebody else's stands, or where others were quicker all the time."""
        mine = draw(self._owner)
        for _ in range(_TRIES):
            if self._files.create_exclusively(name, mine.encode()):
                return mine
            if (other := self.read(name)) is None:
                continue
            if not self._gone(other):
                return None
            with self.sole_right(name, other) as granted:
                # Once more: its owner may have been stopped and have come back.
                if granted and self._gone(other):
                    self._files.replace(name, mine.encode())
                    return mine
        return None

    def drop(self, name: str, lease: Lease, *, only_if_gone: bool = False) -> bool:
        """Removes it if it still stands. Whether it is no longer there."""
        for _ in range(_TRIES):
            with self.sole_right(name, lease) as granted:
                if granted:
                    if only_if_gone and not self._gone(lease):
                        return False
                    self._files.delete(name)
                    return True
            if self.read(name) != lease:
                return True
            time.sleep(0.01)  # somebody looks whether its owner is gone
        return False

    @contextmanager
    def sole_right(self, name: str, lease: Lease) -> Iterator[bool]:
        """Whether inside the block nobody else changes ``name`` and it still is ``lease``."""
        mine, chain = draw(self._owner), [f".{name}{_MARKER}{lease.nonce}"]
        while not self._files.create_exclusively(chain[-1], mine.encode()):
            other = self.read(chain[-1])
            if other is None or not self._gone(other) or len(chain[-1]) > _MAX_NAME:
                yield False
                return
            chain.append(f"{chain[-1]}.{other.nonce}")
        try:
            yield self.read(name) == lease
        finally:
            # The shorter ones are of the dead. While the lease stands they must stay: others pass by them.
            stands = self.read(name) == lease
            for one in chain[-1:] if stands else chain:
                self._files.delete(one)

    def sweep_markers(self) -> None:
        """Removes the markers that were left by owners that are gone, of leases that are gone too."""
        for file in self._files.list():
            name, of_marker, nonces = file.removeprefix(".").partition(_MARKER)
            if not file.startswith(".") or not of_marker or writer_of(file):
                continue
            stands, left = self.read(name), self.read(file)
            outlived = stands is None or stands.nonce != nonces.partition(".")[0]
            if outlived and left is not None and self._gone(left):
                self._files.delete(file)

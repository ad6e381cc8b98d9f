"""Which process wrote a file, so that whoever finds it can tell whether that process still lives."""

from __future__ import annotations

import hashlib
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """``machine`` says which table of processes ``pid`` is of: containers may share a host's name. ``start``
    is in clock ticks since the machine was started, so that a pid that was given again is another process."""

    host: str
    machine: str
    pid: int
    start: int

    def is_gone(self) -> bool:
        """True only where it would be seen here if it lived: a process elsewhere is never gone by this."""
        if not self.machine or self.machine != machine():
            return False
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except OSError:  # another user's
            pass
        start = _start(self.pid)
        return start is not None and start != self.start

    def __str__(self) -> str:
        """As part of a file's name."""
        return f"{self.pid}-{self.start}-{self.machine}@{self.host}"


def this_process() -> Process:
    return Process(socket.gethostname(), machine(), os.getpid(), _start(os.getpid()) or 0)


def parse(text: str) -> Process | None:
    """What `str` made of a process; None for anything else."""
    who, at, host = text.partition("@")
    numbers = who.split("-")
    if not at or len(numbers) != 3 or not (numbers[0].isdigit() and numbers[1].isdigit()):
        return None
    return Process(host, numbers[2], int(numbers[0]), int(numbers[1]))


@cache
def machine() -> str:
    """Sixteen hex digits of this kernel's boot and this pid namespace; empty where neither can be known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        namespace = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return ""
    return hashlib.sha256(f"{boot}{namespace}".encode()).hexdigest()[:16]


def _start(pid: int) -> int | None:
    """None where it cannot be read, -1 of one that has ended and whose parent has not asked."""
    with suppress(OSError, ValueError, IndexError):
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return -1 if after_name[0] in "ZX" else int(after_name[19])
    return None

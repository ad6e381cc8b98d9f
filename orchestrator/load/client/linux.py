"""What the load generator needs of Linux beyond Python 3.11's standard library."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import struct
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_CLOCK_MONOTONIC, _TFD_TIMER_ABSTIME, _TFD_NONBLOCK, _TFD_CLOEXEC = 1, 1, 0o4000, 0o2000000
_DOUBLE = struct.Struct("=d")
_ROOM_FOR_SOCKETS = 16_384
_PR_SET_PDEATHSIG, _PR_SET_TIMERSLACK = 1, 29


def go_first() -> None:
    """Ask to run before others: a client that waits for a core measures its own wait. Niceness alone does not
    reach across sessions where the kernel groups them (``sched_autogroup``), so real-time scheduling is tried
    first. Only root may do either; the send lag shows whether it was needed."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, -10)


class Timer:
    """A timerfd on ``perf_counter``'s clock: exact to some µs, where libuv's own timers count whole ms.

    ``fd`` becomes readable at the time last armed.
    """

    def __init__(self) -> None:
        self.fd: int = _libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def arm(self, at_s: float) -> None:
        """Become readable at ``at_s`` (a ``perf_counter`` value), at once when it is past."""
        nanoseconds = max(1, int(at_s * 1e9))
        spec = (ctypes.c_int64 * 4)(0, 0, *divmod(nanoseconds, 1_000_000_000))
        if _libc.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)

    def close(self) -> None:
        os.close(self.fd)


class Tickets:
    """The numbers 0 to total - 1, each handed out exactly once over all processes that share ``fd``.

    The count is the offset of a memory file, which is one for all processes that its descriptor is sent to.
    The lock is needed: Linux advances the offset of a memory file without one.
    """

    def __init__(self, fd: int, total: int) -> None:
        self.fd = fd
        self._total = total

    @classmethod
    def create(cls, total: int) -> Tickets:
        return cls(os.memfd_create("tickets"), total)

    def take(self) -> int | None:
        """The next number; None when all are taken."""
        fcntl.lockf(self.fd, fcntl.LOCK_EX)
        number = os.lseek(self.fd, 1, os.SEEK_CUR) - 1
        fcntl.lockf(self.fd, fcntl.LOCK_UN)
        return number if number < self._total else None

    def hand_in(self, at_s: float) -> tuple[int, float]:
        """The next number, and the latest ``at_s`` that any process has handed in by then. Requests that end
        together are not seen in the order of their ends."""
        fcntl.lockf(self.fd, fcntl.LOCK_EX)
        number = os.lseek(self.fd, 1, os.SEEK_CUR) - 1
        latest_s = max(at_s, *_DOUBLE.unpack(os.pread(self.fd, 8, 0))) if number else at_s
        os.pwrite(self.fd, _DOUBLE.pack(latest_s), 0)
        fcntl.lockf(self.fd, fcntl.LOCK_UN)
        return number, latest_s


def peak_rss_bytes() -> int:
    """The most memory that this process had at once. Not ``ru_maxrss``, which begins with what the process
    had that started it."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def die_with_parent(parent: int) -> None:
    """Kill this process when the thread that started it ends. Exits at once when it already has."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def exact_timers() -> None:
    """Ask for wake-ups within a ns of their time instead of the default 50 µs."""
    _libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def allow_many_sockets() -> None:
    """Raise the soft limit of open files to the hard one, and have the kernel make room for them now: to
    enlarge a process's table of descriptors (at 256, 512, …) takes it some 10 ms, which a request would be
    late by."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    highest = min(hard, _ROOM_FOR_SOCKETS) - 1
    with contextlib.suppress(OSError):
        os.close(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, highest))

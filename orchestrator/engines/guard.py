"""The process between a worker and its engine: nothing below it outlives the worker. Standard library only,
run as a file, isolated (``python -I -S``), so that it is up in some 20 ms:

    python -I -S guard.py LIFE_FD SHARED_FD GRACE_S COMMAND...

``LIFE_FD`` is the read end of a pipe whose write end only the worker holds. When the worker writes to it, the
engine gets SIGTERM, ``GRACE_S`` seconds, and SIGKILL, and so does every process below it; when it closes
without that, because the worker was killed, the same within `ORPHANED_S`: whoever is next on the GPU waits.
Orphans are adopted (child subreaper), so that a process that forked twice or started its
own session is found as well. There are two guards, one below the other, so that each can clean up after the
other should the kernel kill it. Exits with the engine's code, or 128 + signal.

A killed engine leaves its shared memory behind, files in /dev/shm with names drawn at random. Those that are
new since the guard began and that a process below has open or mapped are noted every few seconds, in the
memory file ``SHARED_FD``, which whoever cleans up last reads: they are removed once nobody uses them. And
where the log, its standard output, has the engine's API key or another secret, that is covered; until then
only its owner may read it.
"""

from __future__ import annotations

import ctypes
import importlib.util
import io
import os
import select
import signal
import stat
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
POLL_S = 0.1
ORPHANED_S = 3.0  # enough for an engine that serves; one that is still starting heeds no SIGTERM
SHARED = Path("/dev/shm")
NOTE_EVERY_S = 5.0
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def main(life_fd: int, shared_fd: int, grace_s: float, command: list[str]) -> int:
    """The outer process: waits for the inner one, and ends what that leaves should it be killed."""
    os.set_inheritable(shared_fd, False)
    shared = Shared(shared_fd, frozenset(_names()))
    _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    outer = os.getpid()
    inner = os.fork()
    if inner == 0:
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        os._exit(_guard(outer, life_fd, shared, grace_s, command))
    code: int | None = None
    while code is None:
        pid, status = os.waitpid(-1, 0)
        if pid == inner:
            ended = os.waitstatus_to_exitcode(status)
            code = ended if ended >= 0 else 128 - ended
    _end_everything(inner)
    remove_unused(shared_fd)
    cover_secrets()
    return code


def _guard(parent: int, life_fd: int, shared: Shared, grace_s: float, command: list[str]) -> int:
    """The inner process: runs the engine and holds the other end of the worker's life."""
    os.set_inheritable(life_fd, False)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wake_fd, wake_write_fd = os.pipe()
    os.set_blocking(wake_write_fd, False)
    signal.set_wakeup_fd(wake_write_fd, warn_on_full_buffer=False)
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    signal.signal(signal.SIGCHLD, lambda *_: None)

    engine = _spawn(command)
    code: int | None = None
    while code is None and not stopping:
        ready, _, _ = select.select([life_fd, wake_fd], [], [], 1.0)
        if wake_fd in ready:
            os.read(wake_fd, 512)
        code = _reap(engine)
        shared.note()
        if life_fd in ready:
            stopping = True
            if not os.read(life_fd, 1):
                grace_s = min(grace_s, ORPHANED_S)
        # The parent's number is looked at too: a child that the worker forked may hold the pipe open.
        stopping = stopping or os.getppid() != parent

    shared.note(at_once=True)
    if code is None:
        _signal(engine, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while code is None and time.monotonic() < deadline:
            time.sleep(POLL_S)
            code = _reap(engine)
    ended = _end_everything(engine)
    remove_unused(shared.fd)
    code = ended if code is None else code
    return 0 if code is None else code


class Shared:
    """The shared memory of the processes below this one, noted in the memory file ``fd``. ``before`` are the
    names that were there first, which are somebody else's: weights, say."""

    def __init__(self, fd: int, before: frozenset[str]) -> None:
        self.fd = fd
        self._before = before
        self._noted: set[str] = set()
        self._due_s = 0.0

    def note(self, *, at_once: bool = False) -> None:
        now_s = time.monotonic()
        if now_s < self._due_s and not at_once:
            return
        self._due_s = now_s + NOTE_EVERY_S
        new = _used(_descendants(os.getpid())) - self._before - self._noted
        if new:
            self._noted |= new
            os.pwrite(self.fd, "\n".join(sorted(self._noted)).encode(), 0)


def remove_unused(fd: int) -> None:
    """Removes the shared memory noted in ``fd`` that no living process has open or mapped."""
    noted = set(os.pread(fd, os.fstat(fd).st_size, 0).decode().split("\n")) & _names().keys()
    if not noted:
        return
    everybody = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    for name in noted - _used(everybody):
        with suppress(OSError):
            (SHARED / name).unlink()


def cover_secrets() -> None:
    """Some engines log their arguments. The worker covers the key and other secrets in place once they serve;
    where it was killed before, nobody else is left to do it."""
    if not stat.S_ISREG(os.fstat(1).st_mode):
        return
    # By its path, since nothing is on this process's.
    spec = importlib.util.spec_from_file_location("secrets_by_name", Path(__file__).parents[1] / "secrets.py")
    if spec is None or spec.loader is None:
        return
    secrets = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(secrets)
    # Opened anew: standard output only appends.
    with suppress(OSError), Path("/proc/self/fd/1").open("r+b") as log:
        cover(log, 0, secrets.known())
        os.fchmod(log.fileno(), others_may(Path("/proc/self/fd/1").readlink()))


def cover(log: io.BufferedRandom, start: int, values: Iterable[str]) -> None:
    """Stars for each of ``values`` in ``log`` from byte ``start`` on, at its own length."""
    log.seek(start)
    said = log.read()
    for value in (one.encode() for one in values if one):
        at = said.find(value)
        while at >= 0:
            log.seek(start + at)
            log.write(b"*" * len(value))
            at = said.find(value, at + len(value))


def others_may(path: Path) -> int:
    """A file's mode as its folder's would have it: the umask cannot be read without changing it."""
    return stat.S_IMODE(path.parent.stat().st_mode) & 0o666


def _names() -> dict[str, int]:
    """The files directly in /dev/shm, with their inodes."""
    with suppress(OSError):
        return {entry.name: entry.inode() for entry in os.scandir(SHARED) if not entry.is_dir()}
    return {}


def _used(pids: list[int]) -> set[str]:
    """The files directly in /dev/shm that one of the processes has open or mapped. They are known by their
    inodes: a semaphore is mapped under a first name that is gone."""
    inodes: set[int] = set()
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/maps").read_bytes().splitlines():
                if b" /dev/shm/" in line:
                    inodes.add(int(line.split(None, 5)[4]))
        with suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    if str(link.readlink()).startswith("/dev/shm/"):
                        inodes.add(link.stat().st_ino)
    return {name for name, inode in _names().items() if inode in inodes}


def _end_everything(child: int) -> int | None:
    """Kills every process below this one; the exit code of ``child`` if it was among them. Whoever forks
    while being counted is in the next round; adoption leaves nobody out."""
    code = None
    while below := _descendants(os.getpid()):
        for pid in below:
            _signal(pid, signal.SIGKILL)
        time.sleep(POLL_S / 10)
        ended = _reap(child)
        code = ended if code is None else code
    return code


def _spawn(command: list[str]) -> int:
    guard = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guard:
            os._exit(1)
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)
    finally:
        os._exit(127)


def _reap(engine: int) -> int | None:
    """Waits for whoever has ended; the engine's exit code if it is among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == engine:
            ended = os.waitstatus_to_exitcode(status)
            code = ended if ended >= 0 else 128 - ended


def _descendants(root: int) -> list[int]:
    """Every process below ``root``, from one pass over /proc. Zombies count until they are reaped."""
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError):
            # The command's name may hold blanks and parentheses: the fields begin after the last one.
            parent = int(file.read_bytes().rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(int(file.parent.name))
    below: list[int] = []
    todo = [root]
    while todo:
        found = children.get(todo.pop(), [])
        below += found
        todo += found
    return below


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]))

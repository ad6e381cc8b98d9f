"""SIGINT, SIGTERM, SIGHUP (the terminal was closed): the first ends a command in order, a later one hurries.

Handlers run in the main thread, which alone may set them."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_S = 1.0  # `timeout` signals its child and then the group that the child is in: one request, not two

_first_s: float | None = None
_deferring = False
_installed = False


def install() -> None:
    """From now on the first signal raises KeyboardInterrupt and later ones do nothing; what came before is
    forgotten. A SIGHUP that is ignored (``nohup``) stays so, and what is written to a terminal that has been
    closed is lost without an error."""
    global _first_s, _installed
    _first_s, _installed = None, True
    sys.stdout, sys.stderr = (_outlasting(stream) for stream in (sys.stdout, sys.stderr))
    retake()


def retake() -> None:
    """Takes the signals back from who has set handlers since `install`, as Ray does."""
    if _installed:
        for number in _handled():
            signal.signal(number, _on_signal)


@contextmanager
def deferred() -> Iterator[None]:
    """What must not stop half-way: a first signal meanwhile raises KeyboardInterrupt at the end of it."""
    global _deferring
    if _deferring or _first_s is not None:
        yield
        return
    _deferring = True
    try:
        yield
    finally:
        _deferring = False
    if _first_s is not None:
        raise KeyboardInterrupt


async def undisturbed(ending: Coroutine[Any, Any, None]) -> None:
    """Awaits what the first signal must not cut short; a later one may."""
    end = asyncio.ensure_future(ending)
    try:
        await asyncio.shield(end)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling() == 1:
            await asyncio.shield(end)
        raise


async def interruptible(task: asyncio.Task[None]) -> None:
    """Awaits the task. The first signal cancels it, which is to end it in order; one that comes later than
    that by `SAME_S` cancels it again. Raises KeyboardInterrupt once it has ended after a signal."""
    loop = asyncio.get_running_loop()

    def cancel(number: signal.Signals) -> None:
        if _note(number):
            task.cancel()

    before = {number: signal.getsignal(number) for number in _handled()}
    for number in before:
        loop.add_signal_handler(number, cancel, number)
    try:
        await task
    except asyncio.CancelledError:
        if _first_s is None:
            raise
    finally:
        with _blocked():  # a removed handler leaves the default behind, which would end the process
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)
    if _first_s is not None:
        raise KeyboardInterrupt


def _on_signal(number: int, frame: FrameType | None) -> None:
    first = _first_s is None
    _note(signal.Signals(number))
    if first and not _deferring:
        raise KeyboardInterrupt


def _note(number: signal.Signals) -> bool:
    """Whether it asks for anything that was not asked before."""
    global _first_s
    if number == signal.SIGHUP:
        _leave_terminal()
    now_s = time.monotonic()
    if _first_s is None:
        _first_s = now_s
        return True
    return now_s > _first_s + SAME_S


def _leave_terminal() -> None:
    """What is still said would be an error where the terminal is gone."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            descriptor = stream.fileno()
            if not _is_terminal(descriptor):
                continue
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, descriptor)
            os.close(null)


class _Outlasting(io.FileIO):
    """A terminal that may be closed any time: what is written then goes nowhere. Its signal may come later
    than the first failing write, or not at all where it is ignored (``nohup``)."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            _leave_terminal()
            return memoryview(data).nbytes


def _outlasting(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper) or not stream.isatty():
        return stream
    stream.flush()
    buffer = io.BufferedWriter(_Outlasting(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(
        buffer,
        stream.encoding,
        stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _is_terminal(descriptor: int) -> bool:
    """Also where it has been hung up: then `os.isatty` fails as every other call does."""
    return os.isatty(descriptor) or os.path.realpath(f"/proc/self/fd/{descriptor}").startswith("/dev/pts/")


def _handled() -> Iterator[signal.Signals]:
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            yield number


@contextmanager
def _blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

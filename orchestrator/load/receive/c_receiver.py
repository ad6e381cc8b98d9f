"""The receiver in C: `receiver.c` as seen from Python."""

from __future__ import annotations

import ctypes
import select
import socket
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path

from orchestrator.load.receive.receiver import (
    CLOSED,
    HELD_AT_MOST,
    HELD_FULL,
    LARGE,
    READ,
    READ_SIZE,
    READS_AT_ONCE,
    WRITABLE,
    Counts,
    HeldReads,
    Reads,
    Report,
)

SOURCE = Path(__file__).with_name("receiver.c")
DEFINES = {
    "READ": READ,
    "HELD_FULL": HELD_FULL,
    "WRITABLE": WRITABLE,
    "CLOSED": CLOSED,
    "HELD_AT_MOST": HELD_AT_MOST,
    "LARGE": LARGE,
    "READ_SIZE": READ_SIZE,
    "READS_AT_ONCE": READS_AT_ONCE,
}
"""What `SOURCE` is compiled with."""
_REPORT = struct.Struct("=dIIiiii")  # t, offset, size, fd, kind, error
_HEAD = struct.Struct("=QQQii")  # reads, sockets, stamped reads, more, stamped
_REPORTS_AT_MOST, _ARENA_BYTES = 2 * READS_AT_ONCE, READS_AT_ONCE * READ_SIZE
_TIMES_AT, _ENDS_AT, _WIRE_AT = 0, 8 * HELD_AT_MOST, 16 * HELD_AT_MOST  # in struct held


def declare(library: ctypes.CDLL) -> None:
    """The types of `SOURCE`'s functions, to be declared once."""
    pointer, fd = ctypes.c_void_p, ctypes.c_int
    numbers = (ctypes.POINTER(ctypes.c_uint32), ctypes.POINTER(ctypes.c_uint64))
    for name, result, arguments in (
        ("new", pointer, (fd, ctypes.c_int)),
        ("free", None, (pointer,)),
        ("reports", pointer, (pointer,)),
        ("arena", pointer, (pointer,)),
        ("add", ctypes.c_int, (pointer, fd)),
        ("hold", None, (pointer, fd, ctypes.c_int)),
        ("last", ctypes.c_double, (pointer, fd)),
        ("reset_counts", None, (pointer,)),
        ("take", pointer, (pointer, fd, *numbers)),
        ("poll", ctypes.c_int, (pointer, ctypes.c_int64, ctypes.c_int, ctypes.c_double)),
    ):
        function = getattr(library, f"receiver_{name}")
        function.restype, function.argtypes = result, arguments


class CReceiver:
    def __init__(self, library: ctypes.CDLL, epoll: select.epoll, acknowledge_later: bool) -> None:
        """``library``: compiled from `SOURCE` and declared. Raises MemoryError."""
        self._library = library
        self._self = library.receiver_new(epoll.fileno(), acknowledge_later)
        if not self._self:
            raise MemoryError("receiver_new")
        self._head = _memory(self._self, _HEAD.size)
        self._reports = _memory(library.receiver_reports(self._self), _REPORT.size * _REPORTS_AT_MOST)
        self._arena = _memory(library.receiver_arena(self._self), _ARENA_BYTES)

    def add(self, sock: socket.socket) -> HeldReads:
        if self._library.receiver_add(self._self, sock.fileno()):
            raise MemoryError("receiver_add")
        return _CHeldReads(self._library, self._self, sock.fileno())

    def remove(self, sock: socket.socket) -> None:
        """Nothing: what was held of it is freed when its descriptor is used again."""

    def poll(self, offset_ns: int | None, slice_s: float) -> Iterator[Report]:
        count = self._library.receiver_poll(self._self, offset_ns or 0, offset_ns is not None, slice_s)
        for t, offset, size, fd, kind, error, _ in _REPORT.iter_unpack(self._reports[: count * _REPORT.size]):
            yield Report(kind, fd, t, self._arena[offset : offset + size].tobytes(), error)

    def more(self) -> bool:
        return bool(_HEAD.unpack(self._head)[3])

    def stamped(self) -> bool:
        return bool(_HEAD.unpack(self._head)[4])

    def counts(self) -> Counts:
        reads, sockets, stamped, _, _ = _HEAD.unpack(self._head)
        self._library.receiver_reset_counts(self._self)
        return Counts(reads, sockets, stamped)

    def close(self) -> None:
        self._library.receiver_free(self._self)
        self._self = None


class _CHeldReads:
    __slots__ = ("_count", "_fd", "_library", "_out", "_receiver", "_size")

    def __init__(self, library: ctypes.CDLL, receiver: int, fd: int) -> None:
        self._library = library
        self._receiver = receiver
        self._fd = fd
        self._count, self._size = ctypes.c_uint32(), ctypes.c_uint64()
        self._out = ctypes.byref(self._count), ctypes.byref(self._size)

    def hold(self, on: bool) -> None:
        self._library.receiver_hold(self._receiver, self._fd, on)

    def take(self) -> Reads | None:
        held = self._library.receiver_take(self._receiver, self._fd, *self._out)
        if not held:
            return None
        count, size = self._count.value, self._size.value
        times, ends = array("d"), array("L")
        times.frombytes(ctypes.string_at(held + _TIMES_AT, 8 * count))
        ends.frombytes(ctypes.string_at(held + _ENDS_AT, 8 * count))
        wire = ctypes.c_void_p.from_address(held + _WIRE_AT).value
        assert wire is not None
        return Reads(times, ends, ctypes.string_at(wire, size))

    def last_s(self) -> float:
        last: float = self._library.receiver_last(self._receiver, self._fd)
        return last


def _memory(address: int, size: int) -> memoryview:
    return memoryview((ctypes.c_char * size).from_address(address)).cast("B")

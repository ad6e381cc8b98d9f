"""`receiver.c` seen from Python: reads many sockets, and holds back what nobody needs to see yet."""

from __future__ import annotations

import ctypes
import struct
from array import array
from collections.abc import Iterator
from typing import NamedTuple

REPORT = struct.Struct("=dIIiiii")  # t, offset, size, fd, kind, error
ARRIVED, FULL, WRITABLE, LOST = range(4)
_HEAD = struct.Struct("=QQii")  # reads, distinct, more, stamped
_REPORTS_AT_MOST, _ARENA_BYTES = 2 * 64, 64 * 65536
HELD_AT_MOST = 32  # as in the source
_TIMES_AT, _ENDS_AT, _WIRE_AT = 0, 8 * HELD_AT_MOST, 16 * HELD_AT_MOST


class Reads(NamedTuple):
    """Reads that were held back, in order: when each arrived (``perf_counter`` seconds), where it ends in
    ``wire``, and their bytes."""

    times: array[float]
    ends: array[int]
    wire: bytes


class Receiver:
    """Reads the sockets of one epoll. After `close` it must not be used."""

    def __init__(self, lib: ctypes.CDLL, epoll_fd: int) -> None:
        """Raises MemoryError."""
        self.library = self._lib = lib
        self._self = lib.receiver_new(epoll_fd)
        if not self._self:
            raise MemoryError("receiver_new")
        self._head = _memory(self._self, _HEAD.size)
        self._reports = _memory(lib.receiver_reports(self._self), REPORT.size * _REPORTS_AT_MOST)
        self._arena = _memory(lib.receiver_arena(self._self), _ARENA_BYTES)
        self._count, self._size = ctypes.c_uint32(), ctypes.c_uint64()
        self._out = ctypes.byref(self._count), ctypes.byref(self._size)

    def add(self, fd: int) -> None:
        if self._lib.receiver_add(self._self, fd):
            raise MemoryError("receiver_add")

    def look(self, offset_ns: int | None, slice_s: float) -> Iterator[tuple[float, int, int, int, int, int]]:
        """(t, offset, size, fd, kind, error) of all that is to be told; bytes are to be had from `bytes_at`
        until the next look."""
        known = offset_ns is not None
        count = self._lib.receiver_look(self._self, offset_ns or 0, known, slice_s)
        return (report[:6] for report in REPORT.iter_unpack(self._reports[: count * REPORT.size]))

    def bytes_at(self, offset: int, size: int) -> bytes:
        return self._arena[offset : offset + size].tobytes()

    def state(self) -> tuple[int, int, bool, bool]:
        """Reads and the sockets they came from since `count_anew`; whether more may be ready; whether the
        kernel stamped the last read."""
        reads, distinct, more, stamped = _HEAD.unpack(self._head)
        return reads, distinct, bool(more), bool(stamped)

    def count_anew(self) -> None:
        self._lib.receiver_count_anew(self._self)

    def hold(self, fd: int, on: bool) -> None:
        """Whether whole events of this socket may be held back."""
        self._lib.receiver_hold(self._self, fd, on)

    def last_s(self, fd: int) -> float:
        """When the last read that was held arrived; 0 before any."""
        last: float = self._lib.receiver_last(self._self, fd)
        return last

    def take(self, fd: int) -> Reads | None:
        """What is held of this socket, None for nothing."""
        held = self._lib.receiver_take(self._self, fd, *self._out)
        if not held:
            return None
        count, size = self._count.value, self._size.value
        times, ends = array("d"), array("L")
        times.frombytes(ctypes.string_at(held + _TIMES_AT, 8 * count))
        ends.frombytes(ctypes.string_at(held + _ENDS_AT, 8 * count))
        wire = ctypes.c_void_p.from_address(held + _WIRE_AT).value
        assert wire is not None
        return Reads(times, ends, ctypes.string_at(wire, size))

    def close(self) -> None:
        self._lib.receiver_free(self._self)
        self._self = None


def _memory(address: int, size: int) -> memoryview:
    return memoryview((ctypes.c_char * size).from_address(address)).cast("B")


class Holder:
    """One socket's reads that are held back in the receiver."""

    __slots__ = ("_fd", "_receiver", "library")

    def __init__(self, receiver: Receiver, fd: int) -> None:
        self.library = receiver.library
        self._receiver = receiver
        self._fd = fd

    def hold(self, on: bool) -> None:
        self._receiver.hold(self._fd, on)

    def take(self) -> Reads | None:
        return self._receiver.take(self._fd)

    def last_s(self) -> float:
        return self._receiver.last_s(self._fd)

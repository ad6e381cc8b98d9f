"""The bytes of every request, written once into memory that all client processes map."""

from __future__ import annotations

import mmap
import os
from array import array
from collections.abc import Iterable

_OFFSET_SIZE = 8  # bytes of an offset, behind the payloads; the last 8 bytes say how many payloads there are


def payload_file(payloads: Iterable[bytes]) -> int:
    """The descriptor of a memory file that holds these, for `Payloads`. Its pages are one copy for all
    processes that map it."""
    fd = os.memfd_create("payloads")
    ends = array("Q", [0])
    with open(fd, "wb", buffering=1 << 20, closefd=False) as file:
        for payload in payloads:
            file.write(payload)
            ends.append(ends[-1] + len(payload))
        ends.append(len(ends) - 1)
        file.write(bytes(-ends[-2] % _OFFSET_SIZE))
        file.write(ends)
    return fd


class Payloads:
    """Request number → bytes on the wire. A page is mapped when it is first sent from, so that a process has
    only those that it sends."""

    def __init__(self, fd: int) -> None:
        """``fd``: of a `payload_file`; it may be closed afterwards."""
        whole = memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_READ))
        (count,) = whole[-_OFFSET_SIZE:].cast("Q")
        table = (count + 2) * _OFFSET_SIZE
        self._ends = array("Q", whole[-table:-_OFFSET_SIZE].cast("Q"))
        self._bytes = whole

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> memoryview:
        return self._bytes[self._ends[number] : self._ends[number + 1]]

"""The C sources beside this file, compiled where they run and kept: the load generator's two inner loops.

Where there is no compiler, or with ``ORCHESTRATOR_NATIVE=0``, there is no library, and Python does what they
do at several times the cost.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from orchestrator.paths import home, made

SOURCES = tuple(
    Path(__file__).parent.parent / name for name in ("receive/receiver.c", "stream/event_template.c")
)
COMPILE_S = 60.0


def library() -> ctypes.CDLL | None:
    """Compiled before the first use on this machine. None where that does not work."""
    if os.environ.get("ORCHESTRATOR_NATIVE") == "0":
        return None
    source = b"".join(path.read_bytes() for path in SOURCES)
    name = f"load-{os.uname().machine}-{sha256(source).hexdigest()[:16]}.so"
    with suppress(OSError, subprocess.SubprocessError):
        path = home() / "native" / name
        if not path.exists():
            _compile(made(path.parent) / f"{name}.{os.getpid()}", path)
        return _declared(ctypes.CDLL(str(path)))
    return None


def _compile(scratch: Path, path: Path) -> None:
    """By rename: several processes may do it at once."""
    command = [os.environ.get("CC", "cc"), "-O2", "-shared", "-fPIC", "-o", str(scratch), *map(str, SOURCES)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_S)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _declared(found: ctypes.CDLL) -> ctypes.CDLL:
    pointer, fd = ctypes.c_void_p, ctypes.c_int
    numbers = (ctypes.POINTER(ctypes.c_uint32), ctypes.POINTER(ctypes.c_uint64))
    for name, result, arguments in (
        ("new", pointer, (fd,)),
        ("free", None, (pointer,)),
        ("reports", pointer, (pointer,)),
        ("arena", pointer, (pointer,)),
        ("add", ctypes.c_int, (pointer, fd)),
        ("hold", None, (pointer, fd, ctypes.c_int)),
        ("last", ctypes.c_double, (pointer, fd)),
        ("count_anew", None, (pointer,)),
        ("take", pointer, (pointer, fd, *numbers)),
        ("look", ctypes.c_int, (pointer, ctypes.c_int64, ctypes.c_int, ctypes.c_double)),
    ):
        function = getattr(found, f"receiver_{name}")
        function.restype, function.argtypes = result, arguments
    data, size = ctypes.c_char_p, ctypes.c_uint64
    pieces = (data, ctypes.POINTER(size), ctypes.c_int, ctypes.POINTER(ctypes.c_int64))
    found.alike_read.argtypes = (data, size, data, size, *pieces, ctypes.c_int64, data, ctypes.POINTER(size))
    return found

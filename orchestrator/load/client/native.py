"""Compiles C sources where they run, once, and loads the result.

Where there is no compiler, or with ``ORCHESTRATOR_NATIVE=0``, there is no library, and Python code does the
same at several times the cost.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from orchestrator.paths import home, made

COMPILE_S = 60.0


def compiled(sources: Sequence[Path], defines: Mapping[str, int]) -> ctypes.CDLL | None:
    """One library of all ``sources``, compiled with these macros before its first use on this machine and
    kept under ``$ORCHESTRATOR_HOME/native``. None where that does not work."""
    if os.environ.get("ORCHESTRATOR_NATIVE") == "0":
        return None
    macros = [f"-D{name}={value}" for name, value in defines.items()]
    content = b"".join([*(path.read_bytes() for path in sources), *map(str.encode, macros)])
    name = f"load-{os.uname().machine}-{sha256(content).hexdigest()[:16]}.so"
    with suppress(OSError, subprocess.SubprocessError):
        path = home() / "native" / name
        if path.exists():
            # What cannot be loaded was cut short, or is another system's that has the same home.
            with suppress(OSError):
                return ctypes.CDLL(str(path))
            path.unlink(missing_ok=True)
        _compile([*macros, *map(str, sources)], path)
        return ctypes.CDLL(str(path))
    return None


def _compile(what: Sequence[str], path: Path) -> None:
    """By rename: several processes may do it at once, of several machines too."""
    scratch = made(path.parent) / f"{path.name}.{uuid4().hex}"
    command = [os.environ.get("CC", "cc"), "-O2", "-shared", "-fPIC", "-o", str(scratch), *what]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_S)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)

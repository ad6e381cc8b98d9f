"""Ends a local Ray whose driver was killed. Standard library only, run as a file (``python -I -S``).

Ray's own agents notice a dead raylet only after a minute. This process reads ``PID START_TIME`` lines of
them and of the daemons from its standard input; when that closes without a line ``done``, the driver was
killed, and those still running (the same process, by its start time) are killed too.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path


def start_time(pid: int) -> str | None:
    """Field 22 of ``/proc/PID/stat``, clock ticks since boot; None when there is no such process."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return None


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    daemons: list[tuple[int, str]] = []
    for line in sys.stdin:
        if line.strip() == "done":
            return
        pid, started = line.split()
        daemons.append((int(pid), started))
    for number, started in daemons:
        if start_time(number) == started:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)


if __name__ == "__main__":
    main()

"""The native scripted server, compiled where it runs, and its own account of every request."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.account import placed


@dataclass(frozen=True)
class Truth:
    """When a request came and when its first and last token left: ``perf_counter`` seconds."""

    request_id: str
    received_s: float
    first_s: float
    last_s: float

    @property
    def ttft_s(self) -> float:
        return self.first_s - self.received_s

    @property
    def e2e_s(self) -> float:
        return self.last_s - self.received_s


@dataclass(frozen=True)
class Server:
    port: int
    process_id: int

    def truth(self) -> list[Truth]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/truth") as response:
            rows = [line.split() for line in response.read().decode().splitlines()]
        return [Truth(row[0], *map(float, row[1:])) for row in rows]


@contextlib.contextmanager
def compiled() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "server"
        source = Path(__file__).with_name("server.c")
        subprocess.run(["cc", "-O2", "-o", binary, source, "-lm"], check=True)
        yield binary


@contextlib.contextmanager
def serve(
    binary: Path,
    *,
    ttft_s: float,
    gap_s: float,
    together: bool,
    core: int | None,
    first: bool = False,
    shared_port: int = 0,
) -> Iterator[Server]:
    """On ``core`` alone, unless None. ``shared_port``: one more port, which other servers may have too."""
    command = [*placed(None if core is None else [core], first), str(binary), str(ttft_s), str(gap_s)]
    command += ["together"] * together + [str(shared_port)] * bool(shared_port)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Server(int(process.stdout.readline().split()[1]), process.pid)
        finally:
            process.kill()

"""Runs the command as a user does: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TAKEN = "of the CPU time that the engine needed"  # what the flag host_busy says


def sweep(*arguments: str, cwd: Path = ROOT, timeout_s: float = 280.0) -> subprocess.CompletedProcess[str]:
    """One command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.sweep", *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def undisturbed(*arguments: str, folder: Path, timeout_s: float = 280.0) -> tuple[Path, str]:
    """A sweep whose every cell counts: its results and what it said. Where others took the machine from one
    (a hypervisor's other guests do), the whole of it goes again into a folder of its own, twice at most."""
    for attempt in range(3):
        results = folder / str(attempt)
        done = sweep(*arguments, f"results_dir={results}", timeout_s=timeout_s)
        if done.returncode == 0 or TAKEN not in done.stdout:
            break
    assert done.returncode == 0, done.stdout + done.stderr
    return results, done.stdout


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "WANDB_MODE": "offline", "COLUMNS": "200"}

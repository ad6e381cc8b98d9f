"""Runs the command as a user does: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


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


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "WANDB_MODE": "offline", "COLUMNS": "200"}

"""What is stored of a study. `load` gives all of it as lazy frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.store.frames import Frames


def load(results_dir: str | Path, study: str | Sequence[str]) -> Frames:
    """As `orchestrator.store.frames.load`, which is imported here alone: a sweep needs none of it."""
    from orchestrator.store import frames

    return frames.load(results_dir, study)

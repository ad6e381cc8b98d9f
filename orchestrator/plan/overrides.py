"""Which of the words that a job was typed with say what its cell is."""

from __future__ import annotations

import re
from collections.abc import Sequence

from orchestrator.cell import secret_values
from orchestrator.config.arguments import as_typed
from orchestrator.config.schema import SweepConfig
from orchestrator.plan.once import Once
from orchestrator.secrets import masked_override

# Overrides that say how a sweep is run, not what a cell is: they would only clutter its label.
_HOUSEKEEPING = (
    *("dry_run", "rerun", "prepare", "results_dir", "study_name", "tracker", "ray", "timeout", "objective"),
    *("runs", "hydra", "report"),
)


def own_overrides(overrides: Sequence[str], config: SweepConfig, once: Once) -> tuple[str, ...]:
    """Those of a job that say what its cell is, as they can be typed again, but for secrets."""
    secrets = once(secret_values, once.deployment(config))
    shown = (once(_own, one, secrets) for one in overrides)
    return tuple(one for one in shown if one is not None)


def _own(override: str, secrets: tuple[str, ...]) -> str | None:
    typed = as_typed(override)
    if re.split(r"[.=/]", typed.lstrip("+~"))[0] in _HOUSEKEEPING:
        return None
    return masked_override(typed, secrets)

"""`max_tokens_fit=true`: where a model's context does not take the budget, the most that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.config.schema import SweepConfig
from orchestrator.memory import PROMPT_TOKENS

if TYPE_CHECKING:
    from orchestrator.plan.plan import Job


def within_contexts(jobs: Sequence[Job]) -> tuple[list[Job], tuple[str, ...]]:
    """The jobs, with the budgets that their models take where that is asked for, and what the plan says."""
    made: list[Job] = []
    lines: dict[str, None] = {}
    for job in jobs:
        config = job.config
        if config.max_tokens_fit and 0 < (most := _most(config)) < config.max_tokens:
            lines[
                f"max_tokens={config.max_tokens} is {most} for model={config.model.name}: its context of "
                f"{config.model.context} less {config.model.context - most} for a prompt"
            ] = None
            job = replace(job, config=replace(config, max_tokens=most))
        made.append(job)
    return made, tuple(lines)


def _most(config: SweepConfig) -> int:
    """Tokens that the context leaves beside a prompt of twice the length assumed, for each worked example
    once more."""
    question = max(2 * PROMPT_TOKENS, config.dataset.prompt_tokens or 0)
    return config.model.context - question * (1 + config.dataset.shots)

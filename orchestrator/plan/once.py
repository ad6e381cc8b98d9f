"""What the jobs of a command share is worked out once.

A sweep's jobs have most sections of their configurations in common, and the composed ones are then the very
same objects. So a planning pass asks for what follows from some sections alone through one `Once`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any, TypeVar, TypeVarTuple

from orchestrator.config.schema import DeploymentConfig

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_sections = attrgetter(*(one.name for one in fields(DeploymentConfig)))


class Once:
    """``once(act, *of)`` is ``act(*of)``, made at the first call and given again for the same ``of``: the
    same text, or else the same object. ``act`` follows from ``of`` alone while this lives, which is one
    planning pass: nobody changes a configuration in it, and files and the environment count as it first found
    them."""

    def __init__(self) -> None:
        self._made: dict[tuple[object, ...], tuple[tuple[Any, ...], Any]] = {}

    def __call__(self, act: Callable[[*Ts], T], *of: *Ts) -> T:
        key = (act, *[one if isinstance(one, str) else id(one) for one in of])
        if (known := self._made.get(key)) is None:
            # With what it was made of, so that no other object gets the identity of one of these.
            known = self._made[key] = (of, act(*of))
        made: T = known[1]
        return made

    def deployment(self, config: DeploymentConfig) -> DeploymentConfig:
        """The deployment's part of a job: one object for all jobs whose sections are the same ones."""
        return self(DeploymentConfig, *_sections(config))

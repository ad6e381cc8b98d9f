"""Stands in for SGLang's compiled kernels, which this environment lacks: importing works, calling fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def __getattr__(name: str) -> Callable[..., Any]:
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*_: Any, **__: Any) -> Any:
        raise NotImplementedError(f"sgl_kernel.{name}: there are no compiled kernels in this environment")

    return missing

"""Which of our helper processes run."""

from __future__ import annotations

import time

import psutil


def running(module: str, parent: int | None = None) -> list[psutil.Process]:
    """The children of ``parent``, of this process by default, that run that module."""
    children = psutil.Process(parent).children()
    return [child for child in children if any(module in word for word in _command(child))]


def _command(process: psutil.Process) -> list[str]:
    """Linux shows none for a moment after a program was put in place, which `Popen` does not wait for."""
    while not (words := process.cmdline()):
        time.sleep(0.001)
    return words

"""Which of our helper processes run, and by what command."""

from __future__ import annotations

import time

import psutil


def running(module: str, parent: int | None = None) -> list[psutil.Process]:
    """The children of ``parent``, of this process by default, that run that module."""
    children = psutil.Process(parent).children()
    return [child for child in children if any(module in word for word in _command(child))]


def words(process: psutil.Process) -> list[str]:
    """Its command line; none of one that is gone."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _command(process: psutil.Process) -> list[str]:
    """Linux shows none for a moment after a program was put in place, which `Popen` does not wait for."""
    while not (found := process.cmdline()):
        time.sleep(0.001)
    return found

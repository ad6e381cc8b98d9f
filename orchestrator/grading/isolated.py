"""Grading in a process of its own, which can be ended at any moment, as a thread cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import orchestrator
from orchestrator.records import Grade, Item


class Grader:
    """A context manager around the process, which starts with the first answer and again after each that
    was too much for it.

    A plain subprocess rather than one of ``multiprocessing``, so that it works from any thread of any
    program, imports nobody's main module, and forks nobody's locks.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def grade(self, item: Item, text: str) -> Grade | None:
        """None when the process ended before it had an answer."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps([item.kind, item.reference, item.options, text]) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._stop()
            return None
        predicted, correct = json.loads(line)
        return Grade(predicted, correct)

    def _start(self) -> subprocess.Popen[str]:
        package = str(Path(orchestrator.__file__).parents[1])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.grading.worker", str(self._limit_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": path},
        )
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the grading process ended at its start with code {process.wait()}")
        return process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with process:  # closes its pipes and waits for it
                pass

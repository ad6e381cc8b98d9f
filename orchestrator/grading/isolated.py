"""Grading in a process of its own, which can be ended at any moment, as a thread cannot."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import orchestrator
from orchestrator.records import Grade, Item

SAME = "same"  # in place of an item's kind: two answers are compared, none is graded


class Grader:
    """A context manager around the process, which starts with the first answer, or before it by `prepare`,
    and again after each that was too much for it.

    A plain subprocess rather than one of ``multiprocessing``, so that it works from any thread of any
    program, imports nobody's main module, and forks nobody's locks.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._process: subprocess.Popen[str] | None = None
        self._ready = self._used = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def prepare(self) -> None:
        """Has a process at hand soon: it is started, its imports are not waited for."""
        if self._process is not None and self._process.poll() is not None:
            self._stop()
        if self._process is None:
            self._process = self._start()

    def grade(self, item: Item, text: str) -> Grade:
        """Wrong, with what was read from it by then, when the process ended before it had compared the
        answer."""
        predicted, correct = self._answered([item.kind, item.reference, item.options, text])
        return Grade(predicted, bool(correct))

    def same(self, one: str, other: str) -> bool | None:
        """Whether two answers to a problem are equal; None when the process ended before it could tell."""
        return self._answered([SAME, one, (), other])[1]

    def _answered(self, asked: list[object]) -> tuple[str | None, bool | None]:
        """Only its alarm is the answer's own doing for sure: after any other end of a process that had
        answered before, a fresh one tries once more."""
        document = json.dumps(asked) + "\n"
        while True:
            self.prepare()
            predicted, correct = self._ask(document)
            if correct is not None:
                self._used = True
                return predicted, correct
            was_used = self._used
            if self._stop() == -signal.SIGALRM or not was_used:
                return predicted, None

    def _ask(self, document: str) -> tuple[str | None, bool | None]:
        """What was read, and whether that is right: None for what did not come."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        if not self._ready and process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the grading process ended at its start with code {process.wait()}")
        self._ready = True
        try:
            process.stdin.write(document)
            process.stdin.flush()
            read, compared = process.stdout.readline(), process.stdout.readline()
        except BrokenPipeError:
            return None, None
        # A line that its writer's end cut short has no newline.
        return (
            json.loads(read) if read.endswith("\n") else None,
            json.loads(compared) if compared.endswith("\n") else None,
        )

    def _start(self) -> subprocess.Popen[str]:
        package = str(Path(orchestrator.__file__).parents[1])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator.grading.worker", str(self._limit_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": path},
        )

    def _stop(self) -> int | None:
        """Ends the process; its exit code, None where there was none."""
        process, self._process = self._process, None
        self._ready = self._used = False
        if process is None:
            return None
        process.kill()
        with contextlib.suppress(BrokenPipeError), process:  # closes its pipes and waits for it
            pass
        return process.wait()

"""What is said and shown while deployments wait for more than their turn (`orchestrator.progress.board`,
`display`)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import cast

from rich.console import Console

from orchestrator.progress.board import Board
from orchestrator.progress.display import Display
from orchestrator.progress.state import Progress
from orchestrator.track.ray_metrics import SweepMetrics
from tests.cluster.plans import SilentBoard, deployment, plan_of

ASKED = "asked the autoscaler for 2 x 1 node(s) with 6 CPU, 8 GPU"
HELD = "others hold 8 of 8 GPUs: training of job 02 in namespace lab 8 (since 22:31)"


def test_what_is_waited_for_is_said_once_and_again_when_it_is_something_else(tmp_path: Path) -> None:
    said = io.StringIO()
    console = Console(file=said, width=200)
    board = Board(
        plan_of(tmp_path, deployment(8)), console, cast(SweepMetrics, SilentBoard()), lambda cell: None
    )
    for left_s in range(600, 590, -1):
        board.waits([f"{ASKED}; given up in {left_s} s"])
    board.waits([])
    board.waits([HELD])
    assert said.getvalue().count("waiting: ") == 2
    assert f"waiting: {ASKED}; given up in 600 s" in said.getvalue()
    assert f"waiting: {HELD}" in said.getvalue()


def test_the_display_shows_it_for_as_long_as_it_lasts(tmp_path: Path) -> None:
    progress = Progress(plan_of(tmp_path, deployment(8)))
    assert "others hold" not in rendered(progress)
    progress.waits = (HELD,)
    assert HELD in rendered(progress)
    progress.waits = ()
    assert "others hold" not in rendered(progress)


def rendered(progress: Progress) -> str:
    shown = io.StringIO()
    Console(file=shown, width=200).print(Display(progress).render())
    return shown.getvalue()

"""How far a sweep is (`orchestrator.progress.state`) and how a terminal shows it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator.cell import Cell
from orchestrator.config.schema import EngineConfig, HardwareConfig, ModelConfig, SweepConfig
from orchestrator.measure.context import CellOutcome, WorkerProgress
from orchestrator.plan import cost
from orchestrator.plan.fit import Fit
from orchestrator.plan.plan import Deployment, Plan, PlannedCell
from orchestrator.progress.board import Board
from orchestrator.progress.display import Display, duration
from orchestrator.progress.state import PHASES, NodeUsage, Progress
from orchestrator.track.metric_names import METRICS
from orchestrator.track.ray_metrics import SweepMetrics
from tests.cluster.plans import FACTS
from tests.support.clock import Clock

START_S = cost.start_s(SweepConfig(), Fit(1, None, None))


def deployment(name: str, gpus: int, cells: int = 2) -> Deployment:
    hardware = HardwareConfig(name="h200", kind="gpu" if gpus else "cpu")
    config = SweepConfig(model=ModelConfig(name=name), engine=EngineConfig(name="vllm"), hardware=hardware)
    made = tuple(
        Cell(f"{name}-{number}", name, (f"model={name}", f"seed={number}"), config, FACTS)
        for number in range(cells)
    )
    return Deployment(name, made, Fit(max(gpus, 1), None, None), hardware, ())


def plan_of(*deployments: Deployment, cell_s: float | None = 60.0) -> Plan:
    planned = tuple(PlannedCell(cell, "planned", None, cell_s) for one in deployments for cell in one.cells)
    return Plan("study", Path("none"), planned, deployments)


def outcome(cell: Cell, status: str = "done", **more: Any) -> CellOutcome:
    values: dict[str, Any] = {"reason": None, "flags": (), "output_tokens": 100, "accuracy": None}
    values |= {"output_token_per_s": 10.0, "engine_alive": True, "window_s": 20.0}
    return CellOutcome(cell.cell_id, status, **(values | more))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def started(progress: Progress, one: Deployment, slot: str = "slot", node: str = "a") -> None:
    """An engine of it starts in a slot of its own."""
    progress.hold(slot, one, [node], one.gpus)
    progress.start(slot)


def test_gpus_are_measuring_reserved_idle_or_others(clock: Clock) -> None:
    big, small = deployment("big", 4), deployment("small", 1)
    progress = Progress(plan_of(big, small), clock)
    progress.nodes = {"a": NodeUsage("a", 8, others=1), "b": NodeUsage("b", 8)}
    started(progress, big, "x", "a")
    started(progress, small, "y", "b")
    progress.measure("x", big, big.cells[0])
    assert progress.gpus() == {"measuring": 4, "reserved": 1, "idle": 10, "others": 1}
    progress.finish(big, big.cells[0], outcome(big.cells[0]))
    progress.hold("x", None, ["a"], 4)
    assert progress.gpus() == {"measuring": 0, "reserved": 5, "idle": 10, "others": 1}
    progress.free("x")
    assert progress.gpus()["idle"] == 14


def test_a_further_engine_of_a_deployment_starts_beside_one_that_measures(clock: Clock) -> None:
    one = deployment("one", 2, cells=3)
    progress = Progress(plan_of(one), clock)
    progress.nodes = {"a": NodeUsage("node-1", 2), "b": NodeUsage("node-2", 2)}
    started(progress, one, "x", "a")
    progress.serve("x")
    progress.measure("x", one, one.cells[0])
    started(progress, one, "y", "b")
    clock.now_s = 7
    assert progress.gpus() == {"measuring": 2, "reserved": 2, "idle": 0, "others": 0}
    assert progress.deployments() == dict.fromkeys(PHASES, 0) | {"measuring": 1}
    first, second = engine_lines(progress)
    assert "warm-up: seed=0" in first
    assert "starting the engine" in second
    assert second.split()[-2:] == ["7", "s"]
    progress.finish(one, one.cells[0], outcome(one.cells[0]))
    progress.measure("x", one, one.cells[1])
    assert "starting the engine" in engine_lines(progress)[1], "the first one's next cell is not the second's"
    progress.serve("y")
    progress.measure("y", one, one.cells[2])
    assert [line.split("seed=")[1][0] for line in engine_lines(progress)] == ["1", "2"]
    progress.free("y")
    assert progress.cells() == {"done": 1, "invalid": 0, "failed": 0, "running": 1, "waiting": 1}
    assert len(engine_lines(progress)) == 1


def test_an_engine_without_cells_left_is_being_stopped(clock: Clock) -> None:
    one = deployment("one", 1, cells=1)
    progress = Progress(plan_of(one), clock)
    started(progress, one)
    progress.measure("slot", one, one.cells[0])
    progress.finish(one, one.cells[0], outcome(one.cells[0]))
    assert "stopping the engine" in engine_lines(progress)[0]
    assert not any(progress.deployments().values())


def engine_lines(progress: Progress) -> list[str]:
    """The lines of the display that begin with a deployment's letter."""
    return [line for line in rendered(Display(progress)).splitlines() if line.startswith("A ")]


def test_efficiency_is_window_seconds_over_reserved_seconds(clock: Clock) -> None:
    one = deployment("one", 4)
    progress = Progress(plan_of(one), clock)
    progress.hold("slot", one, ["a"], 4)
    assert progress.efficiency() is None
    progress.measure("slot", one, one.cells[0])
    clock.now_s = 50
    progress.finish(one, one.cells[0], outcome(one.cells[0], window_s=20.0))
    assert progress.efficiency() == pytest.approx(4 * 20 / (4 * 50))
    progress.hold("slot", None, ["a"], 4)
    clock.now_s = 60
    progress.free("slot")
    clock.now_s = 1000
    assert progress.reserved_s() == 4 * 60


def test_a_sweep_without_gpus_counts_its_engines_seconds(clock: Clock) -> None:
    one = deployment("one", 0)
    progress = Progress(plan_of(one), clock)
    started(progress, one)
    progress.measure("slot", one, one.cells[0])
    clock.now_s = 40
    progress.finish(one, one.cells[0], outcome(one.cells[0], window_s=30.0))
    assert progress.efficiency() == pytest.approx(0.75)


def test_the_time_left_is_the_estimates_corrected_by_what_finished_took(clock: Clock) -> None:
    one = deployment("one", 1, cells=5)
    progress = Progress(plan_of(one, cell_s=60.0), clock)
    assert progress.left_s() == pytest.approx(START_S + 5 * 60)
    started(progress, one)
    progress.serve("slot")
    for number in range(3):
        progress.measure("slot", one, one.cells[number])
        clock.now_s += 30  # half of what was estimated
        progress.durations.cell_took(one.cells[number], 30)
        progress.finish(one, one.cells[number], outcome(one.cells[number]))
    assert progress.left_s() == pytest.approx(2 * 30)
    progress.measure("slot", one, one.cells[3])
    clock.now_s += 10
    assert progress.left_s() == pytest.approx(20 + 30)


def test_a_cell_that_takes_longer_than_expected_ends_at_the_pace_of_its_requests(clock: Clock) -> None:
    one = deployment("one", 1, cells=1)
    progress = Progress(plan_of(one, cell_s=60.0), clock)
    started(progress, one)
    progress.serve("slot")
    progress.measure("slot", one, one.cells[0])
    cell_id, began_s = one.cells[0].cell_id, clock.now_s

    def loaded(at_s: float, finished: int) -> float | None:
        clock.now_s = began_s + at_s
        progress.load(WorkerProgress("load", cell_id, 50, finished, 0))
        return progress.left_s()

    assert loaded(10, 0) == pytest.approx(50)
    assert loaded(65, 0) is None, "none of 50 has ended: nobody can tell"
    assert loaded(70, 6) == pytest.approx(44 * 10), "six took the 60 s since the load began"
    clock.now_s += 30
    assert progress.left_s() == pytest.approx(44 * 10 - 30)


def test_the_time_left_is_shared_by_the_gpus_and_at_least_the_longest_deployments(clock: Clock) -> None:
    many = [deployment(f"d{number}", 1, cells=1) for number in range(8)]
    progress = Progress(plan_of(*many), clock)
    progress.nodes = {"a": NodeUsage("a", 4)}
    assert progress.left_s() == pytest.approx(2 * (START_S + 60))
    long = deployment("long", 1, cells=100)
    progress = Progress(plan_of(*many, long), clock)
    progress.nodes = {"a": NodeUsage("a", 8)}
    assert progress.left_s() == pytest.approx(START_S + 100 * 60)


def test_nobody_guesses_the_time_left_before_a_cell_without_estimate_has_finished(clock: Clock) -> None:
    one = deployment("one", 1, cells=3)
    progress = Progress(plan_of(one, cell_s=None), clock)
    started(progress, one)
    progress.measure("slot", one, one.cells[0])
    assert progress.left_s() is None
    clock.now_s = 100
    progress.durations.cell_took(one.cells[0], 100)
    progress.finish(one, one.cells[0], outcome(one.cells[0]))
    progress.serve("slot")
    assert progress.left_s() == pytest.approx(200)


def test_tokens_per_second_is_what_came_between_two_reports_of_a_phase(clock: Clock) -> None:
    one = deployment("one", 1)
    progress = Progress(plan_of(one), clock)
    started(progress, one)
    progress.measure("slot", one, one.cells[0])
    for at_s, phase, tokens in ((1, "warm-up", 90), (2, "load", 10), (3, "load", 60), (5, "load", 160)):
        clock.now_s = at_s
        progress.load(WorkerProgress(phase, one.cells[0].cell_id, 8, 1, tokens))
    assert progress.token_per_s() == pytest.approx(50)
    progress.load(WorkerProgress("load", "another", 8, 1, 10**6))
    assert progress.token_per_s() == pytest.approx(50)
    progress.finish(one, one.cells[0], outcome(one.cells[0]))
    assert progress.token_per_s() == 0


def test_a_cell_that_lost_its_engine_no_longer_runs_and_still_waits(clock: Clock) -> None:
    one = deployment("one", 1)
    progress = Progress(plan_of(one), clock)
    started(progress, one)
    progress.measure("slot", one, one.cells[0])
    started(progress, one)
    assert progress.cells() == {"done": 0, "invalid": 0, "failed": 0, "running": 0, "waiting": 2}
    assert progress.deployments() == dict.fromkeys(PHASES, 0) | {"starting": 1}


def rendered(display: Display, width: int = 130) -> str:
    said = io.StringIO()
    Console(file=said, width=width).print(display.render())
    return said.getvalue()


def test_the_map_shows_who_holds_which_gpu_and_the_list_what_failed(clock: Clock) -> None:
    big, small, late = deployment("big", 4), deployment("small", 1), deployment("late", 8)
    progress = Progress(plan_of(big, small, late), clock)
    progress.nodes = {"a": NodeUsage("node-1", 8, others=2), "b": NodeUsage("node-2", 2)}
    for one, slot in ((big, "x"), (small, "y")):
        started(progress, one, slot)
    progress.measure("x", big, big.cells[0])
    progress.load(WorkerProgress("load", big.cells[0].cell_id, 128, 14, 5310))
    progress.finish(small, small.cells[0], outcome(small.cells[0], "failed", reason="out of memory\nmore"))
    text = rendered(Display(progress))
    assert "node-1 A A A A B × × ·" in text
    assert "node-2 · ·" in text
    assert "load: model=big seed=0" in text
    assert "14/128" in text
    assert "1 waiting" in text
    assert "failed model=small seed=0: out of memory" in text
    assert "more" not in text


def test_many_nodes_deployments_and_failures_are_cut_to_what_a_terminal_holds(clock: Clock) -> None:
    many = [deployment(f"d{number:03d}", 1, cells=1) for number in range(300)]
    progress = Progress(plan_of(*many), clock)
    progress.nodes = {f"n{number}": NodeUsage(f"n{number:02d}", 8) for number in range(40)}
    for number, one in enumerate(many[:200]):
        started(progress, one, str(number), f"n{number // 8}")
    for one in many[:20]:
        progress.finish(one, one.cells[0], outcome(one.cells[0], "invalid", flags=("send_lag",)))
    text = rendered(Display(progress))
    assert len(text.splitlines()) < 60
    for said in ("24 more nodes", "180 more running", "100 waiting", "15 earlier ones"):
        assert said in text


def test_a_deployment_keeps_its_letter_while_others_come_and_go(clock: Clock) -> None:
    first, second, third = (deployment(name, 1) for name in ("first", "second", "third"))
    progress = Progress(plan_of(first, second, third), clock)
    progress.nodes = {"a": NodeUsage("node", 2)}
    display = Display(progress)

    def line() -> str:
        return next(line.rstrip() for line in rendered(display).splitlines() if line.startswith("node"))

    for one, slot in ((first, "x"), (second, "y")):
        started(progress, one, slot)
    assert line() == "node A B"
    started(progress, third, "x")
    assert line() == "node A B"
    progress.free("y")
    assert line() == "node A ·"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (3600, "60 min"),
        (11100, "3 h 05 min"),
        (10**6, "277 h 47 min"),
    ],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class Recorded(SweepMetrics):
    """The same table, kept here instead of in Ray."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], float] = {}

    def set(self, name: str, value: float, **labels: str) -> None:
        assert METRICS[name].kind == "gauge"
        assert tuple(labels) == METRICS[name].labels
        self.values[name, "".join(labels.values())] = value

    def add(self, name: str, value: float, **labels: str) -> None:
        assert METRICS[name].kind == "counter"
        assert tuple(labels) == METRICS[name].labels
        key = name, "".join(labels.values())
        self.values[key] = self.values.get(key, 0.0) + value


def test_every_metric_of_the_table_is_published_while_a_sweep_runs() -> None:
    one = deployment("one", 2)
    metrics, file = Recorded(), io.StringIO()
    committed: list[Cell] = []
    with Board(plan_of(one), Console(file=file), metrics, committed.append) as board:
        board.nodes({"a": NodeUsage("a", 8)})
        board.placed(one, ["a"], 2, slot="slot")
        board.starting(one, "slot")
        board.serving(one, "slot", 3.0)
        board.measuring(one, "slot", one.cells[0])
        board.progress(one, WorkerProgress("load", one.cells[0].cell_id, 8, 1, 50))
        assert metrics.values["cell_output_tokens", "one/vllm/none"] == 50
        board.finished(one, one.cells[0], outcome(one.cells[0]))
        board.finished(one, one.cells[1], outcome(one.cells[1], "failed", reason="crash\nlog", window_s=None))
        board.parked("slot")
        board.ended(one)
        board.freed("slot")
    assert {name for name, _ in metrics.values} == METRICS.keys()
    assert metrics.values["finished_cells", "done"] == metrics.values["cells", "failed"] == 1
    assert metrics.values["window_gpu_seconds", ""] == 40
    assert metrics.values["gpus", "idle"] == 8
    assert metrics.values["eta_seconds", ""] == 0
    assert committed == list(one.cells)
    assert "[2/2] failed  seed=1  (10.0 tokens/s; crash)" in file.getvalue()


def test_a_sweep_says_at_its_end_how_much_of_what_it_reserved_was_measured(clock: Clock) -> None:
    one, file = deployment("one", 2), io.StringIO()
    with Board(plan_of(one), Console(file=file, width=100), Recorded(), lambda cell: None) as board:
        board.state.now, board.state.began_s = clock, 0.0
        board.placed(one, ["a"], 2, slot="slot")
        board.measuring(one, "slot", one.cells[0])
        clock.now_s = 25
        board.finished(one, one.cells[0], outcome(one.cells[0], window_s=5.0))
    assert file.getvalue().splitlines()[-1] == "   25.0 s  measured 10.0 of 50.0 reserved GPU-seconds: 20 %"


def test_nothing_is_said_of_the_efficiency_of_what_measured_nothing() -> None:
    one, file = deployment("one", 2), io.StringIO()
    with Board(plan_of(one), Console(file=file), Recorded(), lambda cell: None) as board:
        board.placed(one, ["a"], 2, slot="slot")
    assert file.getvalue() == ""

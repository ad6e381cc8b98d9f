"""``engine.sleep`` in the plan (`orchestrator.plan.sleep`): who sleeps, and what memory that leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cell import stated
from orchestrator.config.schema import EngineConfig
from orchestrator.engines import ADAPTERS
from orchestrator.errors import ConfigError
from orchestrator.plan.known import Known, engine_key
from orchestrator.plan.plan import Job, Plan, make_plan
from tests.plan.test_identity import ids, planned
from tests.support.compose import config_of

VLLM = ("engine=vllm", "hardware=h100", "model=r1-7b", "engine.version=0.25.1")
SIMULATED = ("engine=simulated", "hardware=h100", "model=r1-7b")
TWO_NODES = ("tensor_parallel_size=4", "hardware.gpus_per_node=2")


def fraction(plan: Plan) -> float:
    return plan.cells[0].cell.config.hardware.gpu_memory_utilization


def told(plan: Plan) -> list[str]:
    return [note for note in plan.notes if note.startswith("engine.sleep")]


def test_off_is_the_default_and_leaves_a_cell_its_name(tmp_path: Path) -> None:
    as_ever, off, on = (
        planned(tmp_path, *VLLM, *own) for own in ((), ("engine.sleep=off",), ("engine.sleep=on",))
    )
    assert ids(as_ever) == ids(off)
    assert ids(on).isdisjoint(ids(off))
    config = off.cells[0].cell.config
    assert not [key for key in stated(config) if "sleep" in key]
    assert not [flag for flag in off.cells[0].cell.facts.engine_args if "sleep" in flag]
    assert (fraction(off), told(off)) == (0.9, [])


def test_with_sleep_the_flags_and_the_memory_of_the_sleepers_are_the_cells(tmp_path: Path) -> None:
    plan = planned(tmp_path, *VLLM, "engine.sleep=on", "engine.sleepers=4")
    beside = round(0.9 - 4 * 1.9 / 79.6, 4)
    args = plan.cells[0].cell.facts.engine_args
    assert fraction(plan) == args["gpu-memory-utilization"] == beside
    assert args["enable-sleep-mode"] is True
    assert "--enable-sleep-mode" in plan.deployments[0].command
    alone = planned(tmp_path, *VLLM).deployments[0].fit.kv_gib
    kept = plan.deployments[0].fit.kv_gib
    assert alone is not None
    assert kept is not None
    assert alone - kept == pytest.approx(4 * 1.9, abs=0.01)
    assert told(plan) == [
        "engine.sleep=on: vllm leaves 1.9 GiB of each h100 to each of engine.sleepers=4 that may sleep on "
        f"it: gpu_memory_utilization {beside:g} in place of 0.9"
    ]


@pytest.mark.parametrize(
    ("engine", "flags", "fraction_flag", "kept_gib"),
    [
        ("vllm", {"enable-sleep-mode"}, "gpu-memory-utilization", 1.9),
        ("sglang", {"enable-memory-saver", "enable-weights-cpu-backup"}, "mem-fraction-static", 1.4),
        ("simulated", {"enable-sleep-mode"}, None, 1.9),
    ],
)
def test_each_engine_has_its_flags(
    tmp_path: Path, engine: str, flags: set[str], fraction_flag: str | None, kept_gib: float
) -> None:
    plan = planned(tmp_path, f"engine={engine}", "hardware=h100", "model=r1-7b", "engine.sleep=on")
    args = plan.cells[0].cell.facts.engine_args
    assert plan.cells[0].status == "planned"
    assert flags <= {flag for flag, value in args.items() if value is True}
    assert fraction(plan) == round(0.9 - 5 * kept_gib / 79.6, 4)
    assert fraction_flag is None or args[fraction_flag] == fraction(plan)


@pytest.mark.parametrize(
    ("typed", "sleeps"),
    [
        ((*VLLM, "runs=2"), "on"),
        (VLLM, "off"),
        ((*SIMULATED, "runs=2"), "on"),
        (("engine=vllm", "hardware=h100", "model=r1-7b", "runs=2"), "off"),  # its version is not known
        ((*VLLM, "engine.version=0.25.0", "runs=2"), "off"),
        (("engine=vllm", "hardware=cpu", "runs=2"), "off"),
        (("engine=external", "engine.base_url=http://h:1", "runs=2"), "off"),
        # Beside sleepers it would take another GPU.
        ((*SIMULATED, "runs=2", "engine.sleepers=33"), "off"),
    ],
)
def test_auto_is_on_where_it_is_known_to_work_and_to_pay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: tuple[str, ...], sleeps: str
) -> None:
    monkeypatch.setattr("orchestrator.plan.sleep.engine_version", told_version)
    auto = planned(tmp_path, *typed, "engine.sleep=auto")
    assert auto.cells[0].cell.config.engine.sleep == sleeps
    if sleeps == "off":
        assert ids(auto) == ids(planned(tmp_path, *typed))
    else:
        assert ids(auto) == ids(planned(tmp_path, *typed, "engine.sleep=on"))


def told_version(engine: EngineConfig) -> str | None:
    """Whatever this machine has installed counts for nothing here."""
    return engine.version or ADAPTERS[engine.name].version


def test_auto_asks_for_the_nodes_version(tmp_path: Path) -> None:
    typed = ("engine=vllm", "hardware=h100", "model=r1-7b", "runs=2", "engine.sleep=auto")
    key = engine_key(config_of(*typed).engine)
    for had, sleeps in (("0.25.1", "on"), ("0.33.0", "on"), ("0.24.2", "off")):
        plan = planned(tmp_path, *typed, known=Known(versions={key: had}))
        assert plan.cells[0].cell.config.engine.sleep == sleeps


def test_auto_is_one_answer_for_what_is_compared(tmp_path: Path) -> None:
    """With sleep for some only, those would have less memory than the others."""
    typed = (*SIMULATED, "engine.sleep=auto", f"results_dir={tmp_path}")

    def modes(*own: tuple[str, ...]) -> list[str]:
        jobs = [Job((*typed, *one), config_of(*typed, *one)) for one in own]
        return [one.cell.config.engine.sleep for one in make_plan(jobs).cells if one.cell.run == 1]

    assert modes(("runs=2", "seed=1"), ("runs=2", "seed=2")) == ["on", "on"]
    assert modes(("runs=2", "seed=1"), ("runs=1", "seed=2")) == ["off", "off"]
    assert modes(("runs=2", "seed=1"), ("runs=1", "seed=2", "hardware=h200")) == ["on", "off"]
    # What cannot run at all is compared with nothing.
    assert modes(("runs=2",), ("runs=1", "model=r1-70b", "tensor_parallel_size=1"))[0] == "on"


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (("engine=vllm", "hardware=cpu"), "vllm sleeps on a GPU only, this is cpu"),
        ((*VLLM, "engine.version=0.25.0"), "needs vllm 0.25.1 or newer, and this is 0.25.0"),
        (("engine=sglang", "hardware=h100", "model=r1-7b", "engine.version=0.5.16"), "needs sglang 0.5.17"),
        ((*SIMULATED, "engine.sleepers=64"), "at 1.9 GiB each they leave nothing of the 79.6 GiB of h100"),
        (
            (*SIMULATED, "tensor_parallel_size=4", "hardware.gpus_per_node=2"),
            "not over several nodes, and this takes 2",
        ),
    ],
)
def test_what_cannot_sleep_and_is_told_to_is_skipped_with_its_reason(
    tmp_path: Path, typed: tuple[str, ...], says: str
) -> None:
    (cell,) = planned(tmp_path, *typed, "engine.sleep=on").cells
    assert cell.status == "skipped"
    assert cell.reason is not None
    assert cell.reason.startswith("engine.sleep")
    assert says in cell.reason


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ((*VLLM, "engine.sleep=maybe"), r"engine\.sleep=maybe: must be one of auto, on, off"),
        ((*VLLM, "engine.sleepers=0"), r"engine\.sleepers=0: must be a whole number from 1 to 64"),
        (
            ("engine=external", "engine.base_url=http://h:1", "engine.sleep=on"),
            r"engine\.sleep=on: has no effect on engine=external",
        ),
        (
            (*VLLM, "+engine.args.enable-sleep-mode=true"),
            r"engine\.args\.enable-sleep-mode: is set by engine\.sleep",
        ),
        (
            ("engine=sglang", "hardware=h100", "+engine.args.enable_memory_saver=true"),
            r"engine\.args\.enable_memory_saver: is.* set by engine\.sleep",
        ),
        (
            (*SIMULATED, "+engine.args.enable-sleep-mode=true"),
            r"engine\.args\.enable-sleep-mode: is set by engine\.sleep",
        ),
    ],
)
def test_a_wrong_value_is_one_line(tmp_path: Path, typed: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        planned(tmp_path, *typed)
    assert "\n" not in str(caught.value)


def test_the_plan_says_who_takes_turns_and_not_that_runs_follow_at_once(tmp_path: Path) -> None:
    def notes(*jobs: str, sleep: str) -> list[str]:
        common = (*SIMULATED, "runs=3", f"engine.sleep={sleep}", f"results_dir={tmp_path}")
        made = make_plan([Job((job,), config_of(*common, job)) for job in jobs])
        return [*made.notes]

    said = notes("opt=none", "opt=fp8", sleep="on")
    assert any("the 2 deployments of r1-7b take turns on one slot, in 3 blocks" in one for one in said)
    (runs,) = (one for one in said if one.startswith("runs=3"))
    assert "apart in time" in runs
    assert "at once after the other" not in runs
    for alone in (notes("opt=none", sleep="on"), notes("opt=none", "opt=fp8", sleep="off")):
        assert not any("take turns" in one for one in alone)
        assert any("at once after the other" in one for one in alone)

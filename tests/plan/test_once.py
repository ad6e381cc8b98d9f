"""What jobs share is worked out once in a plan, and for each of them as if it were alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.schema import EngineOptConfig, LoadConfig, OptConfig, SamplingConfig, SweepConfig
from orchestrator.engines import launch
from orchestrator.errors import ConfigError
from orchestrator.plan import resolve_job
from orchestrator.plan.known import Known
from orchestrator.plan.once import Once
from orchestrator.plan.plan import Job, make_plan
from tests.support.compose import config_of

TYPED = ("engine=vllm", "model=r1-7b", "hardware=h200", "dataset=gsm8k")
COMMIT = "c" * 40


def test_the_same_objects_are_asked_for_once_and_others_anew() -> None:
    asked: list[object] = []

    def act(one: list[int], name: str) -> int:
        asked.append((one, name))
        return len(asked)

    once, mine, alike = Once(), [1], [1]
    assert [once(act, mine, "a"), once(act, mine, "".join(["a"])), once(act, mine, "b")] == [1, 1, 2]
    assert once(act, alike, "a") == 3
    mine.append(2)  # by identity, so a value that changed would go unseen: a planning pass changes none
    assert once(act, mine, "a") == 1


def test_an_object_that_is_gone_is_not_taken_for_a_new_one() -> None:
    once = Once()
    assert [once(len, [0] * size) for size in range(50)] == list(range(50))


def changes(base: SweepConfig) -> Iterator[dict[str, Any]]:
    """One thing each, all else the very same objects."""
    fp8 = config_of(*TYPED, "opt=fp8").opt
    yield {}
    yield from ({"max_tokens": 64}, {"seed": 5}, {"limit": 7}, {"repeats": 2}, {"runs": 2})
    yield {"weights": "dummy", "output_length": 9}
    yield {"tensor_parallel_size": 2}
    yield {"opt": fp8}
    yield {"opt": {"mine": OptConfig(vllm=EngineOptConfig(args={"max-num-seqs": 3}))}}
    yield {"opt": {"mine": OptConfig(vllm=EngineOptConfig(args={"max-num-seqs": 4}))}}
    yield {"sampling": SamplingConfig(temperature=0.1, stop=["x"])}
    yield {"load": LoadConfig(kind="closed", concurrency=3)}
    yield {"load": replace(base.load, cache="warm")}
    yield {"dataset": replace(base.dataset, prompt="plain")}
    yield {"model": replace(base.model, revision="other")}
    yield {"model": replace(base.model, context=2048)}
    yield {"engine": replace(base.engine, args={"max-num-seqs": 5})}
    yield {"engine": replace(base.engine, env={"X": "1", "MY_TOKEN": "one-secret"})}
    yield {"engine": replace(base.engine, version="0.31.0")}
    yield {"engine": config_of("engine=simulated").engine}
    yield {"max_tokens": base.model.context}  # leaves no room
    yield {"hardware": replace(base.hardware, cpus=3.0)}


def test_jobs_that_share_sections_are_planned_as_each_alone(tmp_path: Path) -> None:
    base = config_of(*TYPED, f"results_dir={tmp_path}")
    known = Known(revisions={base.model.hub_id or "": COMMIT})
    jobs = [Job((*TYPED, f"limit={n}"), replace(base, **one)) for n, one in enumerate(changes(base))]
    *alike, other_hardware = jobs
    together = make_plan(alike, known).cells + make_plan([other_hardware], known).cells
    alone = [one for job in jobs for one in make_plan([job], known).cells]
    assert len({one.cell.cell_id for one in alone}) == len(jobs) - 1  # but for CPUs and runs
    for one, other in zip(together, alone, strict=True):
        if one.reason is None or not one.reason.startswith("the same measurement"):
            assert replace(one, job=other.job) == other


def test_a_deployments_launch_is_made_once_for_all_its_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []

    def counted(*args: Any, **keys: Any) -> Any:
        made.append(args)
        return launch.build_launch(*args, **keys)

    monkeypatch.setattr(resolve_job, "build_launch", counted)
    base = config_of(*TYPED, f"results_dir={tmp_path}")
    plan = make_plan([Job((f"seed={seed}",), replace(base, seed=seed)) for seed in range(5)])
    assert (len(plan.cells), len(plan.deployments), len(made)) == (5, 1, 1)


def test_the_next_plan_sees_another_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(TYPED, config_of(*TYPED, f"results_dir={tmp_path}"))
    monkeypatch.delenv("NCCL_ALGO", raising=False)
    before = make_plan([job]).cells[0].cell
    monkeypatch.setenv("NCCL_ALGO", "Ring")
    after = make_plan([job]).cells[0].cell
    assert after.facts.engine_env == {**before.facts.engine_env, "NCCL_ALGO": "Ring"}
    assert after.deployment_id != before.deployment_id


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (lambda c: replace(c, load=replace(c.load, rate=-1.0)), "load.rate"),
        (lambda c: replace(c, seed=-3), "seed"),
        (
            lambda c: replace(c, engine=replace(c.engine, args={"x": {"y": [float("nan")]}})),
            "engine.args.x.y.0",
        ),
        (lambda c: replace(c, model=replace(c.model, experts=3)), "model.experts"),
        (lambda c: replace(c, load=replace(c.load, kind="batch", concurrency=None)), "load.batch_size"),
    ],
)
def test_a_wrong_value_is_found_behind_jobs_that_are_right(
    changed: Callable[[SweepConfig], SweepConfig], named: str, tmp_path: Path
) -> None:
    base = config_of(*TYPED, f"results_dir={tmp_path}")
    with pytest.raises(ConfigError) as alone:
        make_plan([Job((), changed(base))])
    with pytest.raises(ConfigError) as behind:
        make_plan([Job((), base), Job((), replace(base, seed=1)), Job((), changed(base))])
    assert str(alone.value).startswith(named)
    assert str(behind.value) == str(alone.value)

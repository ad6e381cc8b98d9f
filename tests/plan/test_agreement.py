from __future__ import annotations

import re
from dataclasses import replace

import pytest

from orchestrator.errors import ConfigError
from orchestrator.plan.agreement import check_command, check_deployment
from orchestrator.plan.known import Known
from orchestrator.plan.plan import Job, Plan, make_plan
from tests.support.compose import config_of

BASE = ("hardware=h200", "engine=simulated", "tracker=none", "results_dir=/tmp/none-such")


def plan(*jobs: tuple[str, ...]) -> Plan:
    return make_plan([Job(job, config_of(*BASE, *job)) for job in jobs])


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("study_name", "a", "b"),
        ("results_dir", "/tmp/a", "/tmp/b"),
        ("ray.address", "null", "h:6379"),
        ("ray.dashboard", "true", "false"),
        ("tracker.mode", "online", "offline"),
        ("tracker.project", "a", "b"),
        ("dry_run", "true", "json"),
        ("objective", "output_token_per_s", "accuracy"),
        ("prepare", "on", "off"),
        ("report", "true", "false"),
        ("timeout.resources_s", "1.0", "2.0"),
    ],
)
def test_what_is_the_whole_commands_may_not_differ_between_jobs(key: str, one: str, other: str) -> None:
    said = re.escape(f"{key}={one} and {key}={other}: {key} is the whole command's")
    with pytest.raises(ConfigError, match=said):
        plan((f"{key}={one}",), (f"{key}={other}", "max_tokens=9"))
    plan((f"{key}={one}",), (f"{key}={one}", "max_tokens=9"))


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("timeout.engine_start_s", "10.0", "20.0"),
        ("timeout.weights_s", "10.0", "20.0"),
        ("timeout.engine_stop_s", "10.0", "20.0"),
        ("hardware.cpus", "2.0", "3.0"),
    ],
)
def test_what_is_the_engines_may_differ_only_between_engines(key: str, one: str, other: str) -> None:
    said = re.escape(f"{key}={one} and {key}={other}: {key} is the engine's")
    with pytest.raises(ConfigError, match=said):
        plan((f"{key}={one}",), (f"{key}={other}", "max_tokens=9"))
    with pytest.raises(ConfigError, match=said):
        plan((f"{key}={one}",), (f"{key}={other}",))  # which would be one cell, and one value dropped
    apart = plan((f"{key}={one}",), (f"{key}={other}", "opt=prefix-cache"))
    assert len(apart.deployments) == 2


def test_each_cell_has_its_own_time() -> None:
    (deployment,) = plan(("timeout.cell_s=5",), ("timeout.cell_s=6", "max_tokens=9")).deployments
    assert sorted(cell.config.timeout.cell_s for cell in deployment.cells) == [5, 6]


def test_one_job_agrees_with_itself() -> None:
    config = config_of(*BASE)
    check_command([config])
    check_deployment([config, replace(config, seed=4)])


def test_nobody_is_asked_before_every_job_was_checked() -> None:
    def asked() -> Known:
        raise AssertionError("asked")

    with pytest.raises(ConfigError, match="max_tokens=0"):
        make_plan([Job((), config_of(*BASE, "max_tokens=0"))], asked)


def test_what_cannot_run_needs_no_estimate() -> None:
    cell = ("++engine.args.speed=fast", "hardware=cpu")
    (planned,) = make_plan([Job(cell, config_of("engine=simulated", *cell))]).cells
    assert (planned.status, planned.estimated_s) == ("skipped", None)

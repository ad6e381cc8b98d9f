"""`thinking_budget`: what it may be, what it is to a cell's name, how it is sent, where it cannot work."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from orchestrator.engines import ADAPTERS
from orchestrator.engines.adapter import step_tokens
from orchestrator.errors import ConfigError
from orchestrator.measure.workload import workload
from orchestrator.plan.plan import Job, PlannedCell, make_plan
from tests.support.compose import config_of

STRICT = "+engine.args.enable-strict-thinking=true"
COMMON = ("engine=simulated", "hardware=h200", "model=r1-7b", "max_tokens=2048", "limit=2")


def planned(folder: Path, *overrides: str) -> PlannedCell:
    config = config_of(*COMMON, f"results_dir={folder}", *overrides)
    (one,) = make_plan([Job(tuple(overrides), config)]).cells
    return one


def reason(folder: Path, *overrides: str) -> str:
    one = planned(folder, *overrides)
    return (one.reason or "") if one.status == "skipped" else ""


def test_off_is_as_if_there_were_no_such_key(tmp_path: Path) -> None:
    plain = planned(tmp_path)
    for off in ("off", "null", "false"):
        assert planned(tmp_path, f"thinking_budget={off}").cell.cell_id == plain.cell.cell_id
    found = [planned(tmp_path, f"thinking_budget={budget}").cell for budget in (0, 256)]
    assert len({plain.cell.cell_id, *(one.cell_id for one in found)}) == 3
    assert {one.deployment_id for one in found} == {plain.cell.deployment_id}


@pytest.mark.parametrize("wrong", ["-1", "1.5", "0.0", "on", "true", "[1]", "2147483648", '""'])
def test_what_is_no_budget_is_told_with_what_is(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"^thinking_budget=.*: must be off, or a whole number from 0"):
        planned(tmp_path, f"thinking_budget={wrong}")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("model=qwen2.5-math-7b",), "does not reason"),
        (("weights=dummy",), "random weights"),
        (("engine=vllm", "engine.version=0.22.0"), "vllm 0.22.0 cannot end reasoning"),
        (("engine=vllm", "engine.version=0.22.1"), ""),
        (("engine=vllm", "engine.version=0.25.1", "~model.reasoning_parser.vllm"), "reasoning parser"),
        (
            ("engine=sglang", "engine.version=0.5.10", STRICT),
            "cannot end",
        ),
        (("engine=sglang", "engine.version=0.5.17"), f"needs {STRICT}"),
        (("engine=sglang", "engine.version=0.5.17", STRICT), ""),
        (("engine=sglang", "engine.version=0.5.23", "hardware=cpu"), "needs a GPU"),
    ],
)
def test_where_reasoning_cannot_be_ended_the_cell_is_skipped(
    tmp_path: Path, overrides: tuple[str, ...], says: str
) -> None:
    own = tuple(one for one in overrides if not one.startswith("engine="))
    engine = tuple(one for one in overrides if one.startswith("engine="))
    given = (*engine, "max_tokens=512", "dataset=arithmetic", *own, "thinking_budget=8")
    found = reason(tmp_path, *given)
    assert says in found
    assert bool(found) == bool(says)
    without = reason(tmp_path, *given[:-1])
    assert "thinking_budget" not in without


@pytest.mark.parametrize(
    ("engine", "fields"),
    [
        ("vllm", {"thinking_token_budget": 8}),
        ("simulated", {"thinking_token_budget": 8}),
        ("sglang", {"custom_params": {"thinking_budget": 8}}),
    ],
)
def test_each_engine_is_told_in_its_own_way(engine: str, fields: dict[str, object]) -> None:
    way = ADAPTERS[engine].thinking_budget
    assert way is not None
    assert way.fields(8) == fields


@pytest.mark.parametrize(("budget", "sent"), [("8", 8), ("0", 0), ("off", None)])
def test_every_request_carries_it(tmp_path: Path, budget: str, sent: int | None) -> None:
    work = workload(planned(tmp_path, f"thinking_budget={budget}").cell, "m")
    bodies = [orjson.loads(one.body) for one in (*work.requests, *work.warmup, *work.heads)]
    assert {body.get("thinking_token_budget") for body in bodies} == {sent}


def test_a_step_writes_what_was_drafted_and_one_token_more() -> None:
    assert step_tokens({}) == 1
    assert step_tokens({"speculative-config": {"method": "ngram", "num_speculative_tokens": 3}}) == 4
    assert step_tokens({"speculative-num-draft-tokens": 4}) == 4

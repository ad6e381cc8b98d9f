"""What planning makes of a configuration before it names its cells (`orchestrator.plan.resolve_job`): paths,
commits, versions, servers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.cell import stated
from orchestrator.engines import revisions
from orchestrator.errors import ConfigError
from orchestrator.plan.known import Known, engine_key, of_rows, server_key
from orchestrator.plan.plan import Job, Plan, make_plan
from tests.support.compose import config_of

COMMIT, OTHER = "a" * 40, "b" * 40
DRAFT_ID = "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"  # whose size the catalogue knows
DRAFT = ("opt=[spec-draft]", "model=r1-14b", "hardware=h200")


def planned(tmp_path: Path, *typed: str, known: Known | None = None) -> Plan:
    config = config_of(*typed, f"results_dir={tmp_path}")
    return make_plan([Job(typed, config)], known or Known())


def ids(*plans: Plan) -> set[str]:
    return {one.cell.cell_id for plan in plans for one in plan.cells}


def test_relative_paths_are_absolute_in_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "items.jsonl").write_text(json.dumps({"question": "1+1", "answer": "#### 2"}) + "\n")
    (tmp_path / "t.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.0,1,1\n")
    typed = ("engine=vllm", "engine.python=bin/python", "model.path=m", "dataset=gsm8k", "hardware=h200")
    more = ("dataset.path=items.jsonl", "load=trace", "load.path=t.csv", "weights=dummy")
    plan = planned(tmp_path, *typed, *more, "output_length=trace:t.csv")
    config = plan.cells[0].cell.config
    assert config.model.path == str(tmp_path / "m")
    assert config.dataset.path == str(tmp_path / "items.jsonl")
    assert config.load.path == str(tmp_path / "t.csv")
    assert config.output_length == f"trace:{tmp_path / 't.csv'}"
    assert config.engine.python == str(tmp_path / "bin" / "python")


def test_an_interpreter_by_name_is_looked_up_where_it_runs(tmp_path: Path) -> None:
    plan = planned(tmp_path, "engine=vllm", "hardware=h200", "engine.python=python3")
    assert plan.cells[0].cell.config.engine.python == "python3"


def test_weights_rewritten_in_place_are_another_cell(tmp_path: Path) -> None:
    model = tmp_path / "m"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    (model / "model.safetensors").write_bytes(b"0123")
    typed = ("engine=vllm", "hardware=h200", f"model.path={model}")
    before = planned(tmp_path, *typed)
    (model / "model.safetensors").write_bytes(b"4567")
    assert len(ids(before, planned(tmp_path, *typed))) == 2


def test_eight_gpus_of_one_node_or_two_are_two_cells(tmp_path: Path) -> None:
    typed = ("engine=vllm", "model=r1-32b", "hardware=h200", "tensor_parallel_size=8")
    plans = [planned(tmp_path, *typed, f"hardware.gpus_per_node={size}") for size in (8, 4)]
    assert len(ids(*plans)) == 2


@pytest.mark.parametrize(
    "changed", ["model.think_opened=true", "model.kind=reasoning", 'model.think_tags=["<t>","</t>"]']
)
def test_how_answers_are_read_is_part_of_the_cell(tmp_path: Path, changed: str) -> None:
    typed = ("engine=vllm", "hardware=h200")
    assert len(ids(planned(tmp_path, *typed), planned(tmp_path, *typed, changed))) == 2


def test_an_environment_that_reaches_the_engine_is_part_of_the_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ("engine=vllm", "hardware=h200")
    monkeypatch.delenv("NCCL_ALGO", raising=False)
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    before = planned(tmp_path, *typed)
    monkeypatch.setenv("LD_PRELOAD", "")
    ignoring = planned(tmp_path, *typed)
    assert ids(ignoring) == ids(before)
    assert any("LD_PRELOAD" in note and "engine.env" in note for note in ignoring.notes)
    monkeypatch.setenv("NCCL_ALGO", "Ring")
    taking = planned(tmp_path, *typed)
    assert taking.cells[0].cell.facts.engine_env["NCCL_ALGO"] == "Ring"
    assert ids(taking) != ids(before)


def test_a_branch_is_replaced_by_its_commit(tmp_path: Path) -> None:
    typed = ("engine=vllm", "hardware=h200", "model=r1-7b", "model.revision=null", "model.hub_id=org/m")
    open_, pinned, moved = (
        planned(tmp_path, *typed, known=Known(revisions=known))
        for known in ({}, {"org/m": COMMIT}, {"org/m": OTHER})
    )
    assert open_.notes[0].startswith("revision of org/m not pinned")
    assert not [note for note in pinned.notes if "pinned" in note]
    assert COMMIT in pinned.deployments[0].command
    assert len(ids(open_, pinned, moved)) == 3


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_drafts_commit_reaches_the_engine(tmp_path: Path, engine: str) -> None:
    typed = (f"engine={engine}", f"model.draft={DRAFT_ID}", *DRAFT)
    known = Known(revisions={DRAFT_ID: COMMIT})
    plan = planned(tmp_path, *typed, known=known)
    args = plan.cells[0].cell.facts.engine_args
    if engine == "vllm":
        draft = args["speculative-config"]["model"], args["speculative-config"]["revision"]
    else:
        draft = args["speculative-draft-model-path"], args["speculative-draft-model-revision"]
    assert draft == (DRAFT_ID, COMMIT)
    assert len(ids(plan, planned(tmp_path, *typed))) == 2


@pytest.mark.parametrize("engine", ["vllm", "simulated"])
def test_a_datasets_branch_is_replaced_by_its_commit(tmp_path: Path, engine: str) -> None:
    typed = (f"engine={engine}", "model=r1-7b", "hardware=h200", "dataset=gsm8k", "dataset.revision=dev")
    known = Known(revisions={"datasets/openai/gsm8k@dev": COMMIT})
    plan, open_ = planned(tmp_path, *typed, known=known), planned(tmp_path, *typed)
    assert plan.cells[0].cell.facts.dataset_revision == COMMIT
    assert len(ids(plan, open_)) == 2
    assert not plan.notes
    if engine == "vllm":
        assert open_.notes[0].startswith("revision of datasets/openai/gsm8k@dev not pinned")


def test_a_package_of_any_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.revision=null: must be the version of model\.package"):
        planned(tmp_path, "engine=vllm", "hardware=cpu", "model.revision=null")


def test_two_checkpoints_of_one_optimization_are_two_cells(tmp_path: Path) -> None:
    typed = ("engine=vllm", "model=r1-7b", "opt=[awq]", "hardware=h200")
    plans = [planned(tmp_path, *typed, f"model.checkpoints.awq=org/{name}") for name in ("a", "b")]
    assert len(ids(*plans)) == 2


def test_the_local_cache_knows_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    refs = tmp_path / "models--org--m" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(COMMIT)
    assert revisions.cached("org/m") == COMMIT
    assert revisions.cached("org/m@main") == COMMIT
    assert revisions.cached("org/m@dev") is None
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OSError, match="HF_HUB_OFFLINE"):
        revisions.asked("org/m")


def test_the_nodes_version_is_the_cells(tmp_path: Path) -> None:
    typed = ("engine=vllm", "hardware=h200", "ray.address=10.0.0.1:6379")
    key = engine_key(config_of(*typed).engine)
    one, two = (planned(tmp_path, *typed, known=Known(versions={key: v})) for v in ("0.31.0", "0.32.0"))
    assert one.cells[0].cell.facts.engine_version == "0.31.0"
    assert len(ids(one, two)) == 2


def test_what_a_server_serves_is_part_of_the_cell(tmp_path: Path) -> None:
    typed = ("engine=external", "engine.base_url=http://127.0.0.1:9/v1", "hardware=cpu")
    key = server_key(config_of(*typed).engine)
    plans = [planned(tmp_path, *typed, known=Known(served={key: {"id": "m", "root": r}})) for r in "ab"]
    plans += [planned(tmp_path, *typed), planned(tmp_path, *typed, "engine.served_model=m")]
    assert len(ids(*plans)) == 4
    assert ids(plans[2]) == ids(planned(tmp_path, typed[0], typed[1].removesuffix("/v1"), typed[2]))


def test_a_later_plan_finds_what_an_earlier_one_was_told() -> None:
    older = {"planned": {"engine_key": "e", "engine_version": "1", "revisions": {"org/m": COMMIT}}}
    newer = {"planned": {"engine_key": "e", "engine_version": "2", "server_key": "s", "served": {"id": "m"}}}
    known = of_rows([json.dumps(older), None, "no json", json.dumps(newer)])
    assert known.versions == {"e": "2"}
    assert known.served == {"s": {"id": "m"}}
    assert known.revisions == {"org/m": COMMIT}


def test_a_warm_cache_is_another_cell_and_a_cold_one_has_the_name_it_always_had(tmp_path: Path) -> None:
    typed = ("engine=external", "engine.base_url=http://127.0.0.1:9", "hardware=cpu")
    cold, warm = (planned(tmp_path, *typed, f"load.cache={cache}") for cache in ("cold", "warm"))
    assert ids(cold) == ids(planned(tmp_path, *typed))
    assert ids(cold) != ids(warm)
    (deployed,), (other,) = cold.deployments, warm.deployments
    assert deployed.deployment_id == other.deployment_id, "one engine can serve both"
    assert "load.cache" not in stated(cold.cells[0].cell.config)

"""A model's source that is typed is the one that is served, and nothing of another model is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.errors import ConfigError
from orchestrator.measure.row import cell_row
from orchestrator.plan.plan import Job, Plan, make_plan
from orchestrator.plan.sources import meant
from tests.support.compose import config_of

R1 = {"num_hidden_layers": 28, "hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4}
R1 |= {"vocab_size": 152064, "intermediate_size": 18944}
COMMIT = "0" * 40


def planned(tmp_path: Path, *typed: str) -> Plan:
    where = ("hardware=h200", f"results_dir={tmp_path}")
    return make_plan([Job(typed, config_of(*where, *typed))])


def row(plan: Plan) -> dict[str, object]:
    return cell_row(plan.cells[0].cell, study="s", status="done", attempts=1, gpus=1, nodes=1)


def folder(path: Path, **config: object) -> Path:
    path.mkdir()
    config = {"architectures": ["Qwen2ForCausalLM"], **R1, **config}
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize("model", ["smollm2-135m", "r1-7b"])
@pytest.mark.parametrize("prefix", ["", "++"])
def test_another_hub_id_is_another_model(tmp_path: Path, model: str, prefix: str) -> None:
    plan = planned(tmp_path, f"model={model}", f"{prefix}model.hub_id=Qwen/Qwen3-4B")
    (deployment,) = plan.deployments
    assert "Qwen/Qwen3-4B" in deployment.command
    stored = row(plan)
    assert stored["model"] == "qwen3-4b"
    assert stored["model_hub_id"] == "Qwen/Qwen3-4B"
    assert stored["model_revision"] == "main"
    assert (stored["model_package"], stored["model_path"]) == (None, None)
    assert deployment.fit.weights_gib is None  # its sizes are not those of the model in the file
    config = plan.cells[0].cell.config.model
    assert (config.checkpoints, config.draft, config.pair) == ({}, None, None)
    assert (config.layers, config.architecture, config.dtype) == (None, None, "bfloat16")
    assert any(f"not what model={model} describes" in note for note in plan.notes)


def test_what_is_typed_with_a_source_is_believed(tmp_path: Path) -> None:
    typed = ("model.hub_id=org/m@" + COMMIT, "model.name=mine", "model.layers=12")
    plan = planned(tmp_path, *typed, "+model.checkpoints.awq=org/m-awq")
    model = plan.cells[0].cell.config.model
    assert (model.name, model.layers, model.hidden_size) == ("mine", 12, None)
    assert model.checkpoints == {"awq": "org/m-awq"}
    assert (model.hub_id, model.revision) == ("org/m", COMMIT)
    command = plan.deployments[0].command
    assert command[command.index("--revision") + 1] == COMMIT


def test_the_models_own_hub_id_changes_nothing(tmp_path: Path) -> None:
    same = "model.hub_id=deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"
    plain, typed = planned(tmp_path, "model=r1-7b"), planned(tmp_path, "model=r1-7b", same)
    assert plain.cells[0].cell.cell_id == typed.cells[0].cell.cell_id
    assert not typed.notes


def test_a_folder_with_the_same_sizes_is_a_copy(tmp_path: Path) -> None:
    copy = folder(tmp_path / "copy")
    plan = planned(tmp_path, "model=r1-7b", f"model.path={copy}")
    stored = row(plan)
    assert (stored["model"], stored["model_path"], stored["model_hub_id"]) == ("r1-7b", str(copy), None)
    assert any("taken for r1-7b" in note for note in plan.notes)
    assert not plan.cells[0].cell.config.model.checkpoints  # they were made from other weights


def test_a_folder_of_another_size_is_another_model(tmp_path: Path) -> None:
    other = folder(tmp_path / "Other One", num_hidden_layers=30, head_dim=128)
    plan = planned(tmp_path, "model=r1-7b", f"model.path={other}")
    model = plan.cells[0].cell.config.model
    assert (model.name, model.layers, model.heads, model.head_dim) == ("other-one", 30, 28, 128)
    assert model.parameters_b is None
    assert str(other) in plan.deployments[0].command


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{}", "config.json has neither model_type nor architectures"),
        ('{"model_type": "", "architectures": []}', "config.json has neither"),
        ("[]", r"config.json must be a JSON object, and is \[\]"),
        ("null", "config.json must be a JSON object, and is null"),
        ("", "config.json is not JSON"),
        ("[" * 100_000, "config.json is not JSON"),
        (b"\xff\xfe{", "config.json is not JSON"),
        ({"num_hidden_layers": "28"}, 'config.json num_hidden_layers="28" must be a whole number from 1 up'),
        ({"num_attention_heads": 0}, "num_attention_heads=0 must be a whole number from 1 up"),
        ({"num_key_value_heads": True}, "num_key_value_heads=true must be"),
        ({"hidden_size": 3584.5}, "hidden_size=3584.5 must be"),
        ({"hidden_size": [1]}, r"hidden_size=\[1\] must be"),
        ({"vocab_size": -1}, "vocab_size=-1 must be"),
        ({"tie_word_embeddings": "yes"}, 'tie_word_embeddings="yes" must be true or false'),
        ({"architectures": "Qwen2ForCausalLM"}, "architectures=.* must be a list of names"),
        ({"architectures": [3]}, r"architectures=\[3\] must be a list of names"),
        ({"text_config": [1]}, r"text_config=\[1\] must be an object"),
        ({"text_config": {"num_hidden_layers": {}}}, "num_hidden_layers={} must be"),
    ],
    ids=str,
)
@pytest.mark.parametrize("typed", [True, False])
def test_a_config_json_that_is_none_is_refused_with_its_key(
    content: str | bytes | dict[str, object], says: str, typed: bool, tmp_path: Path
) -> None:
    where = folder(tmp_path / "m", **(content if isinstance(content, dict) else {}))
    if isinstance(content, bytes):
        (where / "config.json").write_bytes(content)
    elif isinstance(content, str):
        (where / "config.json").write_text(content)
    overrides = [f"model.path={where}"]
    config = config_of("model=r1-7b", *overrides)
    if not typed:  # as a study's file leaves it
        config.model.hub_id = None
    with pytest.raises(ConfigError, match=says) as error:
        meant(config, overrides if typed else [])
    assert str(error.value).startswith(f"model.path={where}: config.json ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "layers"),
    [({"model_type": "x"}, None), ({"model_type": "x", "text_config": R1 | {"num_hidden_layers": 3}}, 3)],
)
def test_a_folder_that_tells_other_sizes_or_none_is_no_copy(
    tmp_path: Path, text: dict[str, object], layers: int | None
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(json.dumps(text))
    plan = planned(tmp_path, "model=r1-7b", f"model.path={tmp_path / 'm'}")
    model = plan.cells[0].cell.config.model
    assert (model.name, model.layers) == ("m", layers)
    assert plan.deployments[0].fit.weights_gib is None
    said = "its sizes are not known" if layers is None else "its sizes are those of its config.json"
    assert any(said in note for note in plan.notes)


def test_a_null_in_a_config_json_is_what_is_not_said(tmp_path: Path) -> None:
    copy = folder(tmp_path / "copy", head_dim=None, kv_lora_rank=None, text_config=None)
    plan = planned(tmp_path, "model=r1-7b", f"model.path={copy}")
    assert row(plan)["model"] == "r1-7b"


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["model.hub_id=org/m", "model.package=p"], "model.package=p and model.hub_id=org/m"),
        (["model.hub_id=/a/folder"], "model.path=/a/folder"),
        (["model.hub_id=a b"], "ORG/NAME"),
        (["model.hub_id=org/m@x", "model.revision=y"], "two revisions"),
        (["model.path=.", "model.revision=y"], "has none"),
    ],
    ids=str,
)
def test_what_contradicts_itself_is_refused(typed: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace(".", r"\.")):
        meant(config_of(*typed), typed)


def test_two_sources_that_files_left_are_refused() -> None:
    config = config_of("model.hub_id=org/m")  # a study's file, say: nothing of it is typed
    with pytest.raises(ConfigError, match="two sources of one model"):
        meant(config, [])


def test_a_null_takes_no_other_source_away() -> None:
    config = config_of("model=r1-7b", "model.path=null")
    assert meant(config, ["model=r1-7b", "model.path=null"]) == (config, None)

"""The adapter that turns the embedded model into one that thinks: what names it, how it gets into a folder,
and that the one in the package is what `training` describes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orchestrator import worked
from orchestrator.config.schema import ModelConfig
from orchestrator.datasets.steps import LEVELS
from orchestrator.engines import convert, version, weights
from orchestrator.errors import ConfigError
from orchestrator.plan.rules import check_values
from tests.engines.test_weights import FAKE_PYTHON, script
from tests.support.compose import config_of
from training.settings import SETTINGS, TAGS, Settings, lessons_digest

NAME = "smollm2-135m-think"
MERGES = """
import importlib.util, json, sys
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM
spec = importlib.util.spec_from_file_location("convert", sys.argv[1])
convert = importlib.util.module_from_spec(spec)
spec.loader.exec_module(convert)
torch.manual_seed(0)
shape = LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                    num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True)
model = LlamaForCausalLM(shape).to(torch.bfloat16)
before = {name: weight.clone() for name, weight in model.state_dict().items()}
change = {"embed_rows": torch.ones(2, 16)}
layer = "model.layers.1.mlp.down_proj"
change |= {f"{layer}.A": torch.randn(4, 24), f"{layer}.B": torch.randn(16, 4)}
convert.merge(model, change, [8, 10])
expected = dict(before)
product = change[f"{layer}.B"] @ change[f"{layer}.A"]
expected[f"{layer}.weight"] = (before[f"{layer}.weight"].float() + product).bfloat16()
for name in ("model.embed_tokens.weight", "lm_head.weight"):
    expected[name] = before[name].clone()
    expected[name][[8, 10]] = (before[name][[8, 10]].float() + 1).bfloat16()
wrong = [name for name, weight in model.state_dict().items() if not torch.equal(weight, expected[name])]
changed = [name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])]
print(json.dumps({"wrong": wrong, "changed": sorted(changed)}))
"""


@pytest.fixture
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(weights, "LORA", tmp_path / "lora")
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora/small.safetensors").write_bytes(b"one")
    return tmp_path / "lora"


def adapted(**other: Any) -> ModelConfig:
    return ModelConfig(name="m", **{"package": "carrier", "revision": "1.0", "lora": "small"} | other)


def test_an_adapter_is_part_of_what_the_weights_are(adapters: Path) -> None:
    plain, first = weights.revision(adapted(lora=None)), weights.revision(adapted())
    place = weights.location(adapted())
    (adapters / "small.safetensors").write_bytes(b"two")
    assert plain == "carrier==1.0"
    assert first.startswith("carrier==1.0+")
    assert len({plain, first, weights.revision(adapted())}) == 3
    assert len({weights.location(adapted(lora=None)), place, weights.location(adapted())}) == 3


def test_an_adapter_that_is_not_there_is_refused_with_those_that_are(adapters: Path) -> None:
    with pytest.raises(ConfigError, match=r"^model\.lora=other: no such adapter; allowed: null, small$"):
        weights.revision(adapted(lora="other"))


def test_an_adapter_needs_a_packages_weights() -> None:
    config = config_of("model=r1-7b")
    config.model.lora = "small"
    with pytest.raises(ConfigError, match=r"^model\.lora=small: only with model\.package"):
        check_values(config)


def test_an_adapter_is_merged_when_the_folder_is_made(adapters: Path, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    python = script(tmp_path / "python", FAKE_PYTHON % {"calls": calls})
    place = Path(weights.prepare(adapted(), python))
    assert weights.prepare(adapted(), python) == str(place)
    (call,) = calls.read_text().splitlines()
    assert call.split()[-1] == str(adapters / "small.safetensors")
    assert json.loads((place / "source.json").read_text())["lora"] == "small"


def test_random_weights_need_no_adapter(adapters: Path) -> None:
    config = config_of("model=smollm2-135m", "weights=dummy")
    config.model.lora = "gone"
    assert weights.revision(weights.served(config)).startswith("dummy:")


def test_the_tags_become_tokens_that_are_shown(tmp_path: Path) -> None:
    added = [
        {"id": number, "content": text, "special": True}
        for number, text in enumerate(("<end>", "<unused>", "<other>"))
    ]
    vocabulary = {"<end>": 0, "<unused>": 1, "<other>": 2, "a": 3}
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps({"added_tokens": added, "model": {"vocab": vocabulary}}))
    convert.retag(tmp_path, {"1": "<think>", "2": "</think>"})
    made = json.loads(file.read_text())
    assert made["model"]["vocab"] == {"<end>": 0, "<think>": 1, "</think>": 2, "a": 3}
    assert made["added_tokens"] == [
        {"id": 0, "content": "<end>", "special": True},
        {"id": 1, "content": "<think>", "special": False},
        {"id": 2, "content": "</think>", "special": False},
    ]
    with pytest.raises(SystemExit, match=r"has 0 of the tokens 9"):
        convert.retag(tmp_path, {"9": "<think>"})


@pytest.mark.engine
def test_merging_adds_the_product_and_the_rows_and_nothing_else() -> None:
    try:
        python = version.interpreter(config_of("engine=vllm").engine)
    except ConfigError as error:
        pytest.skip(str(error))
    done = subprocess.run(
        [str(python), "-I", "-c", MERGES, convert.__file__], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "wrong": [],
        "changed": ["lm_head.weight", "model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight"],
    }


def packaged() -> dict[str, Any]:
    """The header of the adapter's safetensors file: 8 bytes of its length, then JSON."""
    with (weights.LORA / f"{NAME}.safetensors").open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        found = json.loads(file.read(length))
    assert isinstance(found, dict)
    return found


def test_the_adapter_in_the_package_is_the_one_that_the_training_describes() -> None:
    said = packaged()["__metadata__"]
    settings = Settings(**json.loads(said["settings"]))
    assert settings in SETTINGS.values()
    steps = json.loads(said["heldout"])["steps"]  # the limit of time may end it sooner
    assert 0.95 * settings.steps <= steps <= settings.steps
    assert said["lessons"] == lessons_digest(settings.seed)
    assert json.loads(said["tags"]) == TAGS
    config = config_of(f"model={NAME}")
    assert weights.revision(config.model).startswith(f"{settings.base}+")
    assert (config.model.sampling.temperature, config.model.sampling.top_p) == (
        settings.temperature,
        settings.top_p,
    )


def test_the_adapter_changes_every_linear_layer_of_the_base_and_is_small() -> None:
    model = config_of(f"model={NAME}").model
    header = packaged()
    pairs = [name for name in header if name.endswith(".A")]
    assert model.layers is not None
    assert len(pairs) == 7 * model.layers
    assert header["embed_rows"]["shape"] == [len(TAGS), model.hidden_size]
    assert (weights.LORA / f"{NAME}.safetensors").stat().st_size <= 10e6


def test_the_adapters_figures_tell_the_levels_apart() -> None:
    """Held-out questions, a thousand of them, as its training asked them."""
    found = json.loads(packaged()["__metadata__"]["heldout"])["level"]
    assert set(found) == {str(level) for level in worked.LEVELS}
    right = [found[str(level)]["right"] for level in LEVELS]
    assert right == sorted(right, reverse=True)
    assert right[0] < 1
    assert 0.45 < right[-1] < 0.7
    thinking = [found[str(level)]["thinking"] for level in LEVELS]
    assert thinking == sorted(thinking)
    assert thinking[-1] > 5 * thinking[0]

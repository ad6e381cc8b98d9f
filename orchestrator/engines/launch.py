"""From a composed configuration to the launch of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrator.config.schema import DeploymentConfig, EngineOptConfig, ModelConfig, OptConfig
from orchestrator.engines import ADAPTERS, version, weights
from orchestrator.engines.adapter import Adapter, HardwareKind, Launch, merge_args, to_flags
from orchestrator.engines.environment import check_places
from orchestrator.engines.flags import check_reserved
from orchestrator.engines.simulated.describe import described
from orchestrator.errors import ConfigError
from orchestrator.paths import hub_parts
from orchestrator.secrets import is_secret_flag

__all__ = ["Launch", "adapter_of", "build_launch", "to_flags"]


def adapter_of(config: DeploymentConfig) -> Adapter:
    """The adapter of the configured engine. Raises ConfigError for an engine that is not started by us."""
    if config.engine.name not in ADAPTERS:
        raise ConfigError(f"engine={config.engine.name}: cannot be started; {', '.join(ADAPTERS)} can")
    return ADAPTERS[config.engine.name]


def build_launch(
    config: DeploymentConfig,
    *,
    hardware: HardwareKind,
    tensor_parallel_size: int,
    nodes: int = 1,
    model: str | None = None,
    engine_version: str | None = None,
) -> Launch:
    """The launch of ``config``'s engine: the adapter's base flags, then each optimization's in order, then
    the user's ``engine.args``. It needs neither the engine nor a GPU nor the network: without ``model`` (what
    `weights.prepare` returned) the place is named where the weights are or will be. Which optimizations go
    together is decided in the plan. Raises ConfigError for a flag that another key sets.
    """
    adapter = adapter_of(config)
    for key, args in layers(config):
        check_reserved(adapter, args, key)
        for name in args:
            if is_secret_flag(name):
                raise ConfigError(
                    f"{key}.{name}: everybody on the machine can read a command line: give a secret by "
                    "engine.env.NAME, such as engine.env.HF_TOKEN"
                )
    source = weights.served(config)
    named = {name: entry for name, opt in config.opt.items() if (entry := _entry(opt, adapter.name))}
    for name, entry in named.items():
        check_places(entry.env, f"opt.{name}.{adapter.name}.env")
    check_places(config.engine.env, "engine.env")
    entries = list(named.values())
    tokenizer, tokenizer_revision = _tokenizer(config.model, source)
    launch = Launch(
        engine=adapter.name,
        python=str(version.interpreter_path(config.engine)),
        model=model or weights.location(source),
        served_name=config.model.name,
        revision=source.revision,
        tokenizer=tokenizer,
        tokenizer_revision=tokenizer_revision,
        tensor_parallel_size=tensor_parallel_size,
        nodes=nodes,
        hardware=hardware,
        dtype=config.model.dtype,
        context=config.model.context,
        weights=config.weights,
        # The engine's own seed stays 0, so that cells of any seed share an engine; where answers are to
        # depend on it, the requests carry it (sampling.seeded).
        gpu_memory_utilization=config.hardware.gpu_memory_utilization,
        reasoning_parser=config.model.reasoning_parser.get(adapter.name),
        opts=tuple(config.opt),
        version=engine_version,
    )
    return replace(
        launch,
        args=_draft_pinned(
            merge_args(
                adapter.base_args(launch),
                adapter.sleep.flags if adapter.sleep and config.engine.sleep == "on" else {},
                described(config, tensor_parallel_size) if config.engine.simulated else {},
                *(entry.args for entry in entries),
                config.engine.args,
            )
        ),
        env=_merge_env(*(entry.env for entry in entries), config.engine.env),
    )


def _tokenizer(model: ModelConfig, source: ModelConfig) -> tuple[str | None, str | None]:
    """The place and revision of the configured model's, where other weights are served in its place: a
    quantizer's checkpoint may come with another template or special tokens. None for random weights, whose
    folder is whole."""
    if source is model or source.hub_id is None:
        return None, None
    return (model.path, None) if model.path else (model.hub_id, model.hub_id and model.revision)


def layers(config: DeploymentConfig) -> list[tuple[str, Mapping[str, Any]]]:
    """The arguments of optimizations and the user's own, each with its key."""
    name = config.engine.name
    entries = [(opt, _entry(config.opt[opt], name)) for opt in config.opt]
    own = [(f"opt.{opt}.{name}.args", entry.args) for opt, entry in entries if entry is not None]
    return [*own, ("engine.args", config.engine.args)]


def _draft_pinned(args: dict[str, Any]) -> dict[str, Any]:
    """``args`` with a draft model's ``hub_id@revision`` as the two flags that an engine has for them."""
    draft = args.get("speculative-config")
    if isinstance(draft, Mapping) and (pair := _at(draft.get("model"))):
        args = {**args, "speculative-config": {**draft, "model": pair[0], "revision": pair[1]}}
    if pair := _at(args.get("speculative-draft-model-path")):
        args |= {"speculative-draft-model-path": pair[0], "speculative-draft-model-revision": pair[1]}
    return args


def _at(source: object) -> tuple[str, str] | None:
    """The two halves of ``hub_id@revision``; None for anything else."""
    hub_id, revision = hub_parts(source) if isinstance(source, str) else ("", None)
    return (hub_id, revision) if revision else None


def _entry(opt: OptConfig, engine: str) -> EngineOptConfig | None:
    entry: EngineOptConfig | None = getattr(opt, engine, None)
    return entry


def _merge_env(*layers: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for layer in layers for name, value in layer.items()}

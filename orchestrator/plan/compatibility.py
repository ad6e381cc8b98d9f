"""Which combinations cannot work: a skipped cell with its reason, decided before any GPU time."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from orchestrator.cell import opt_names, sampling
from orchestrator.config.schema import (
    DeploymentConfig,
    EngineOptConfig,
    HardwareConfig,
    OptConfig,
    SweepConfig,
)
from orchestrator.engines import ADAPTERS
from orchestrator.engines.adapter import Launch, flag_name, merge_args, parse_version, unjsoned
from orchestrator.engines.simulated.describe import lacking
from orchestrator.plan.rules import shown


def skip_reason(config: SweepConfig, hardware: HardwareConfig) -> str | None:
    """Why this combination cannot work, or None. Memory is `orchestrator.plan.fit`'s question."""
    names = [name for name in opt_names(config) if name != "none"]
    for name in names:
        reason = _opt_reason(name, config.opt[name], config, hardware)
        if reason is not None:
            return reason
    for one, other in combinations(names, 2):
        if other in config.opt[one].excludes or one in config.opt[other].excludes:
            return f"opt={one} excludes opt={other}"
    if config.engine.simulated and (reason := lacking(config)) is not None:
        return reason
    if config.engine.name == "sglang" and sampling(config).seeded and not _deterministic(config):
        return (
            "sampling.seeded=true: SGLang draws by a request's seed only with "
            "+engine.args.enable-deterministic-inference=true"
        )
    if config.engine.name == "vllm" and sampling(config).min_p and _speculates(config):
        return f"sampling.min_p={sampling(config).min_p}: vLLM does not take it with speculative decoding"
    if config.engine.sleep == "on" and (reason := sleep_reason(config, hardware)) is not None:
        return reason
    if config.max_tokens >= config.model.context:
        context = f"{config.model.name}'s {config.model.context}"
        return f"max_tokens={config.max_tokens} leaves no room for a prompt in {context}"
    return None


def sleep_reason(
    config: DeploymentConfig, hardware: HardwareConfig, version: str | None = None, nodes: int = 1
) -> str | None:
    """Why an engine cannot sleep there, or None. ``version`` is its own, None where that is not known."""
    name = config.engine.name
    sleeping = ADAPTERS[name].sleep if name in ADAPTERS else None
    if sleeping is None:
        return f"engine.sleep=on: engine={name} has no sleep"
    if hardware.kind != "gpu":
        return f"engine.sleep=on: {name} sleeps on a GPU only, this is {hardware.name}"
    if hardware.memory_gib is None:
        return f"engine.sleep=on: needs hardware.memory_gib, and {hardware.name} names none"
    if nodes > 1:
        return f"engine.sleep=on: not over several nodes, and this takes {nodes}"
    if version is not None and parse_version(version) < sleeping.since:
        since = ".".join(map(str, sleeping.since))
        return f"engine.sleep=on: needs {name} {since} or newer, and this is {version}"
    if hardware.gpu_memory_utilization <= 0:  # what is left of it
        return (
            f"engine.sleepers={config.engine.sleepers}: at {sleeping.kept_gib:g} GiB each they leave nothing "
            f"of the {hardware.memory_gib:g} GiB of {hardware.name}"
        )
    return None


def cache_reason(config: SweepConfig, args: Mapping[str, Any]) -> str | None:
    """Why ``load.cache=warm`` means nothing for an engine started with ``args``, or None."""
    name = config.engine.name
    if config.load.cache == "cold" or name == "external":
        return None
    if name == "sglang":
        caches = not args.get("disable-radix-cache")
    else:
        caches = args.get("enable-prefix-caching") is True
    return None if caches else "load.cache=warm: without opt=prefix-cache no prefix is cached"


def budget_reason(config: SweepConfig, launch: Launch | None) -> str | None:
    """Why that engine (None: somebody else's) cannot end reasoning at ``thinking_budget``, or None."""
    if config.thinking_budget is None:
        return None
    asked = f"thinking_budget={config.thinking_budget}"
    if config.model.kind != "reasoning":
        return f"{asked}: {config.model.name} does not reason before it answers"
    if config.weights == "dummy":
        return f"{asked}: random weights do not reason"
    if launch is None:
        return None
    way = ADAPTERS[launch.engine].thinking_budget
    engine = " ".join(one for one in (launch.engine, launch.version) if one)
    if way is None or launch.older_than(*way.since):
        return f"{asked}: {engine} cannot end reasoning"
    lacking = way.lacking(launch)
    return lacking and f"{asked}: {lacking}"


def idle_reason(config: DeploymentConfig, hardware: HardwareConfig, launch: Launch) -> str | None:
    """Which optimization's arguments change nothing of an engine on this hardware, or None: they are what it
    does by itself, or the user's own arguments say otherwise."""
    if (reason := _overruled(config, launch.engine)) is not None:
        return reason
    adapter = ADAPTERS[launch.engine]
    defaults = adapter.defaults(hardware)

    def effective(without: str | None) -> dict[str, Any]:
        entries = {name: getattr(opt, launch.engine) for name, opt in config.opt.items() if name != without}
        of_opts = (entry.args for entry in entries.values() if entry is not None)
        return merge_args(defaults, adapter.base_args(launch), *of_opts, config.engine.args)

    for name, opt in config.opt.items():
        entry: EngineOptConfig | None = getattr(opt, launch.engine)
        if entry is None or not entry.args or entry.env or opt.checkpoint or config.engine.simulated:
            continue
        if effective(None) == effective(name):
            own = _flat(config.engine.args)
            if own_key := next((key for key in _flat(entry.args) if key in own), None):
                return (
                    f"opt={name} changes nothing: engine.args.{own_key}={shown(own[own_key])} is in its place"
                )
            engine = " ".join(one for one in (launch.engine, launch.version) if one)
            return f"opt={name} changes nothing: {engine} has its arguments on {hardware.name} without it"
    return None


def _overruled(config: DeploymentConfig, engine: str) -> str | None:
    """Which of the user's arguments takes from an optimization what it is, or None. They come later and win:
    a number can be tuned, but an optimization's words and switches are what its name stands for."""
    own = _flat(config.engine.args)
    for name, opt in config.opt.items():
        entry: EngineOptConfig | None = getattr(opt, engine, None)
        for key, its in _flat(entry.args if entry is not None else {}).items():
            tunes = isinstance(its, int | float) and not isinstance(its, bool)
            if key in own and own[key] != its and (not tunes or isinstance(own[key], str)):
                return (
                    f"opt={name} is opt.{name}.{engine}.args.{key}={shown(its)}, and "
                    f"engine.args.{key}={shown(own[key])} takes its place; leave one of them out"
                )
    return None


def _flat(args: Mapping[str, Any]) -> dict[str, Any]:
    """``args`` with the keys of a mapping, or of a JSON object in a text, beside the flag's own name."""
    found: dict[str, Any] = {}
    for name, value in args.items():
        value = unjsoned(value)
        flag = flag_name(name)
        inner = value.items() if isinstance(value, Mapping) else ()
        found |= {f"{flag}.{key}": one for key, one in inner} if inner else {flag: value}
    return found


def _speculates(config: SweepConfig) -> bool:
    args = [config.engine.args, *(opt.vllm.args for opt in config.opt.values() if opt.vllm is not None)]
    return any(
        flag_name(name) == "speculative-config" and value for one in args for name, value in one.items()
    )


def _deterministic(config: SweepConfig) -> bool:
    args = {flag_name(name): value for name, value in config.engine.args.items()}
    return args.get("enable-deterministic-inference") is True


def _opt_reason(name: str, opt: OptConfig, config: SweepConfig, hardware: HardwareConfig) -> str | None:
    if config.engine.name == "external":
        return f"opt={name}: an external server is measured as it runs"
    engine: EngineOptConfig | None = getattr(opt, config.engine.name, None)
    if engine is None:
        return f"opt={name} is not known for engine={config.engine.name}"
    if engine.unsupported is not None:
        return f"opt={name} does not work with engine={config.engine.name}: {engine.unsupported}"
    if why_not := engine.unsupported_on.get(hardware.name):
        return f"opt={name} does not work with engine={config.engine.name} on {hardware.name}: {why_not}"
    if engine.hardware is not None and engine.hardware != hardware.kind:
        needed = engine.hardware.upper()
        return f"opt={name} with engine={config.engine.name} needs a {needed}, this is {hardware.name}"
    if config.weights == "dummy":
        return _dummy_reason(name, opt, config)
    if opt.checkpoint is not None and opt.checkpoint not in config.model.checkpoints:
        return f"opt={name} needs a {opt.checkpoint} checkpoint, and {config.model.name} names none"
    if opt.needs is not None and not getattr(config.model, opt.needs, None):
        return f"opt={name} needs model.{opt.needs}, and {config.model.name} names none"
    return None


def _dummy_reason(name: str, opt: OptConfig, config: SweepConfig) -> str | None:
    if opt.needs is not None:
        return f"opt={name} with weights=dummy: random weights do not follow a draft, none would be accepted"
    if opt.checkpoint is not None and (config.model.path or not config.model.architecture):
        return f"opt={name} with weights=dummy needs a model of the catalogue, without model.path"
    return None

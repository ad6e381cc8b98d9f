"""What a value may be beyond its type. A violation is the user's to mend: one line, exit code 2."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.config.schema import LoadConfig, SweepConfig
from orchestrator.engines.external import parse_base_url, shown_url
from orchestrator.errors import ConfigError
from orchestrator.load import lengths
from orchestrator.memory import DTYPE_BYTES, impossible
from orchestrator.plan.once import Once
from orchestrator.secrets import is_secret_flag


class Rule(NamedTuple):
    ok: Callable[[Any], bool]
    allowed: str


def _number(test: Callable[[float], bool]) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int | float) and not isinstance(v, bool) and isfinite(v) and test(v)


def _optional(rule: Rule) -> Rule:
    return Rule(lambda v: v is None or rule.ok(v), f"{rule.allowed}, or null")


def _one_of(*values: object) -> Rule:
    return Rule(lambda v: v in values, "one of " + ", ".join(str(v).lower() for v in values))


def _whole(least: int, most: int) -> Rule:
    """Above ``most`` it is a slip of the finger: more than a machine holds, or than anybody waits for."""
    return Rule(
        lambda v: isinstance(v, int) and not isinstance(v, bool) and least <= v <= most,
        f"a whole number from {least} to {most}",
    )


POSITIVE = Rule(_number(lambda v: v > 0), "a number above 0")
COUNT = Rule(lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 1, "a whole number from 1 up")
NATURAL = Rule(
    lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 0, "a whole number from 0 up"
)
UNIT = Rule(_number(lambda v: 0 < v <= 1), "a number above 0 and at most 1")
NAME = Rule(
    lambda v: isinstance(v, str) and bool(v) and not v.startswith(".") and not set(v) & set('/\\:*?"<>|\0'),
    "a name that can be a folder's",
)
TAGS = Rule(
    lambda v: (
        isinstance(v, list)
        and len(v) == 2
        and all(isinstance(tag, str) and tag == tag.strip() != "" for tag in v)
        and v[0] != v[1]
    ),
    'two different tags, the opening and the closing one, such as ["<think>","</think>"]',
)

IN_FLIGHT = _whole(1, 65_535)  # no more connections than ports can come from one address to one server
RATE = Rule(_number(lambda v: 1e-4 <= v <= 1e6), "a number from 0.0001 to 1000000, in requests a second")
TEXT = Rule(lambda v: isinstance(v, str) and v != "" and not re.search("[\ud800-\udfff]", v), "a text")
STOP = Rule(
    lambda v: TEXT.ok(v) or (isinstance(v, list) and v != [] and all(map(TEXT.ok, v))),
    'a text, or a list of texts such as ["END"]',
)
SAMPLING: Mapping[str, Rule] = {
    "temperature": Rule(_number(lambda v: v >= 0), "a number from 0 up"),
    "top_p": UNIT,
    "top_k": Rule(lambda v: COUNT.ok(v) or v == -1, "a whole number from 1 up, or -1 for all"),
    "min_p": Rule(_number(lambda v: 0 <= v <= 1), "a number from 0 to 1"),
    "presence_penalty": Rule(_number(lambda v: -2 <= v <= 2), "a number from -2 to 2"),
    "repetition_penalty": Rule(_number(lambda v: 0 < v <= 2), "a number above 0 and at most 2"),
    "stop": STOP,
    "reasoning_effort": _one_of("none", "minimal", "low", "medium", "high", "xhigh", "max"),
}

RULES: Mapping[str, Rule] = {
    "study_name": NAME,
    "results_dir": Rule(
        lambda v: bool(v) and not re.match(r"[a-zA-Z][\w+.-]*://", v),
        "a folder's path; a store such as S3 must be mounted as one",
    ),
    "seed": _whole(0, 2**63 - 1),
    "repeats": _whole(1, 10_000),
    "runs": _whole(1, 1000),
    "max_tokens": _whole(1, 2**31 - 1),
    "thinking_budget": Rule(
        lambda v: v is None or v is False or v == "off" or _whole(0, 2**31 - 1).ok(v),
        "off, or a whole number from 0 to 2147483647",
    ),
    "limit": _optional(_whole(1, 2**31 - 1)),
    "weights": _one_of("auto", "dummy"),
    "output_length": _optional(Rule(lengths.valid, lengths.ALLOWED)),
    "tensor_parallel_size": Rule(lambda v: v == "auto" or COUNT.ok(v), "auto, or a whole number from 1 up"),
    "dry_run": _one_of(True, False, "json"),
    "rerun": _one_of("failed", "none", "all"),
    "prepare": _one_of("auto", "on", "off"),
    **{
        f"{of}.{key}": _optional(rule)
        for of in ("sampling", "model.sampling")
        for key, rule in SAMPLING.items()
    },
    "slo.ttft_s": _optional(POSITIVE),
    "slo.ttfvt_s": _optional(POSITIVE),
    "slo.tpot_s": _optional(POSITIVE),
    "slo.e2e_s": _optional(POSITIVE),
    "slo.itl_s": _optional(POSITIVE),
    "timeout.engine_start_s": POSITIVE,
    "timeout.weights_s": POSITIVE,
    "timeout.cell_s": POSITIVE,
    "timeout.engine_stop_s": POSITIVE,
    "timeout.resources_s": _optional(Rule(_number(lambda v: v >= 0), "a number from 0 up")),
    "model.name": TEXT,
    "model.revision": _optional(TEXT),
    "model.kind": _one_of("reasoning", "standard"),
    "model.context": COUNT,
    "model.think_tags": _optional(TAGS),
    "model.dtype": _one_of(*DTYPE_BYTES),
    "model.parameters_b": _optional(POSITIVE),
    "model.layers": _optional(COUNT),
    "model.heads": _optional(COUNT),
    "model.kv_heads": _optional(COUNT),
    "model.head_dim": _optional(COUNT),
    "model.kv_lora_rank": _optional(COUNT),
    "model.qk_rope_head_dim": _optional(COUNT),
    "model.sliding_window": _optional(COUNT),
    "model.sliding_window_layers": _optional(NATURAL),
    "model.experts": _optional(COUNT),
    "model.experts_per_token": _optional(COUNT),
    "model.expert_parameters_b": _optional(POSITIVE),
    "model.weight_bytes": _optional(POSITIVE),
    "model.weight_bytes_of": _one_of("linear", "experts"),
    "dataset.split": TEXT,
    "dataset.revision": _optional(TEXT),
    "dataset.size": _optional(COUNT),
    "dataset.sample": _one_of("hash", "head"),
    "dataset.shots": NATURAL,
    "dataset.prompt_tokens": _optional(COUNT),
    "load.kind": _one_of("batch", "closed", "constant", "poisson", "gamma", "trace", "ramp"),
    "load.batch_size": _optional(IN_FLIGHT),
    "load.concurrency": _optional(IN_FLIGHT),
    "load.rate": _optional(RATE),
    "load.rate_start": _optional(RATE),
    "load.burstiness": _optional(POSITIVE),
    "load.speedup": POSITIVE,
    "load.duration_s": _optional(POSITIVE),
    "load.processes": _optional(_whole(1, 1024)),
    "load.request_timeout_s": POSITIVE,
    "load.idle_timeout_s": POSITIVE,
    "load.usage": _one_of("continuous", "final"),
    "load.cache": _one_of("cold", "warm"),
    "load.warmup": _optional(_whole(0, 1_000_000)),
    "load.telemetry_hz": Rule(_number(lambda v: 4 <= v <= 100), "a number from 4 to 100"),
    "hardware.kind": _one_of("auto", "cpu", "gpu"),
    "hardware.cpus": POSITIVE,
    "hardware.gpus_per_node": COUNT,
    "hardware.gpu_memory_utilization": UNIT,
    "hardware.memory_gib": _optional(POSITIVE),
    "hardware.bandwidth_gb_s": _optional(POSITIVE),
    "hardware.bf16_tflops": _optional(POSITIVE),
    "engine.python": _optional(TEXT),
    "engine.version": _optional(TEXT),
    "engine.sleep": _one_of("auto", "on", "off"),
    "engine.sleepers": _whole(1, 64),
    "tracker.name": _one_of("wandb", "none"),
    "tracker.mode": _one_of("auto", "online", "offline"),
    "tracker.project": _optional(TEXT),
}

# Which load keys belong to which kind: one that is set for another kind would be silently without effect.
LOAD_KEYS: Mapping[str, tuple[str, ...]] = {
    "batch": ("batch_size",),
    "closed": ("concurrency",),
    "constant": ("rate",),
    "poisson": ("rate",),
    "gamma": ("rate", "burstiness"),
    "trace": ("path",),
    "ramp": ("rate_start", "rate"),
}


def value_of(config: object, key: str) -> Any:
    """The value at a dotted key."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def check_values(config: SweepConfig, once: Once | None = None) -> None:
    """Raises ConfigError naming the first key whose value is impossible."""
    once = once or Once()
    if not all(once(_possible, name, value) for name, value in vars(config).items()):
        check_finite(config)
        for key, rule in RULES.items():
            value = value_of(config, key)
            if not rule.ok(value):
                raise ConfigError(f"{key}={shown(value)}: must be {rule.allowed}")
    once(_check_load, config.load)
    if contradiction := once(impossible, config.model):
        raise ConfigError(contradiction)
    if config.output_length is not None and config.weights != "dummy":
        raise ConfigError(f"output_length={config.output_length}: only with weights=dummy")
    if config.weights == "dummy" and (stop := config.sampling.stop or config.model.sampling.stop):
        raise ConfigError(
            f"sampling.stop={shown(stop)}: with weights=dummy output_length alone ends an answer"
        )
    if config.model.path is not None and not Path(config.model.path).is_dir():
        raise ConfigError(f"model.path={config.model.path}: must be a folder with a model, which it is not")
    if config.model.lora is not None and config.model.package is None and config.model.path is None:
        raise ConfigError(
            f"model.lora={config.model.lora}: only with model.package, whose weights it changes"
        )
    if config.engine.name == "external":
        parse_base_url(config.engine)
        _check_theirs(config)
    elif config.engine.base_url is not None:
        raise ConfigError(f"engine.base_url={shown_url(config.engine.base_url)}: only with engine=external")


def _possible(name: str, value: object) -> bool:
    """Whether everything under a key of the first level may be as it is."""
    try:
        check_finite(value)
    except ConfigError:
        return False
    rules = ((key.removeprefix(name), rule) for key, rule in RULES.items() if key.partition(".")[0] == name)
    return all(rule.ok(value_of(value, below[1:]) if below else value) for below, rule in rules)


def _check_theirs(config: SweepConfig) -> None:
    """Raises ConfigError for what only an engine that is started here would be told."""
    engine = config.engine
    given = {f"engine.args.{name}": f"={shown(value)}" for name, value in engine.args.items()}
    given = {key: "" if is_secret_flag(key.split(".")[-1]) else value for key, value in given.items()}
    given |= {f"engine.env.{name}": "" for name in engine.env}  # its value may be a secret
    if engine.sleep == "on":
        given["engine.sleep"] = "=on"
    if config.weights != "auto" and config.output_length is None:  # lengths can be asked of any server
        given["weights"] = f"={config.weights}"
    if found := next(iter(given.items()), None):
        raise ConfigError(
            f"{''.join(found)}: has no effect on engine=external, a server that runs already; leave it out, "
            "and start that server with it where it is wanted"
        )


def check_finite(value: object, key: str = "") -> None:
    """Raises ConfigError for the first number, at any depth, that is no finite one."""
    if isinstance(value, float) and not isfinite(value):
        rate = key.startswith("load.rate")
        use = "; for all requests at once use load=batch" if rate else ", or null where there is to be none"
        raise ConfigError(f"{key}={value}: must be a finite number{use}")
    inner: Iterable[tuple[object, object]] = ()
    if is_dataclass(value):
        inner = vars(value).items()
    elif isinstance(value, Mapping):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for name, one in inner:
        check_finite(one, f"{key}.{name}" if key else str(name))


def _check_load(load: LoadConfig) -> None:
    kind = load.kind
    for key in {key for keys in LOAD_KEYS.values() for key in keys}:
        value = getattr(load, key)
        if key in LOAD_KEYS[kind] and value is None:
            raise ConfigError(f"load.{key}=null: load={kind} needs it")
        if key not in LOAD_KEYS[kind] and value is not None:
            owners = ", ".join(k for k, keys in LOAD_KEYS.items() if key in keys)
            raise ConfigError(f"load.{key}={shown(value)}: only for load={owners}, this is load={kind}")


def shown(value: object) -> str:
    """As it is typed, in one line."""
    if value is None:
        return "null"
    if isinstance(value, str) and not value.isprintable():
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else str(value)

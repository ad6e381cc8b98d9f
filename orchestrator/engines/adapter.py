"""What an engine is to the rest of the code: pure functions and tables over one plain value, the launch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.engines.inside import entry

if TYPE_CHECKING:  # a simulated engine runs without what the schema imports
    from orchestrator.config.schema import HardwareConfig

HardwareKind = Literal["cpu", "gpu"]


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything an engine's command line and environment follow from.

    ``model`` is a local folder (absolute) or a hub id, ``tokenizer`` the same where it is not the model's own
    (the base model's, of a quantized checkpoint), ``context`` the longest prompt plus output in tokens,
    ``gpu_memory_utilization`` a share in (0, 1], ``version`` the engine's own (None: unknown, taken to be
    the newest that the adapter knows). ``args`` are the merged engine flags, ``env`` what the optimizations
    and the user add. ``host``, ``port`` and ``api_key`` are placeholders until `server.running` draws them.
    With ``nodes`` above 1, ``node_rank`` and ``master`` (``host:port`` of rank 0) say which of them this is,
    ``address`` where the others reach this node.
    """

    engine: str
    python: str
    model: str
    served_name: str
    revision: str | None = None
    tokenizer: str | None = None
    tokenizer_revision: str | None = None
    tensor_parallel_size: int = 1
    nodes: int = 1
    hardware: HardwareKind = "gpu"
    dtype: str = "bfloat16"
    context: int = 4096
    weights: str = "auto"
    seed: int = 0
    gpu_memory_utilization: float = 0.9
    reasoning_parser: str | None = None
    opts: tuple[str, ...] = ()
    version: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    port: int = 0
    api_key: str = field(default="$API_KEY", repr=False)
    node_rank: int = 0
    master: str | None = None
    address: str | None = None

    @property
    def local(self) -> bool:
        """Whether the model is a folder on this machine, so that nothing need come from the hub."""
        return Path(self.model).is_absolute()

    def older_than(self, *version: int) -> bool:
        """Whether the engine is known to be older than ``version``: ``launch.older_than(0, 27)``."""
        return self.version is not None and parse_version(self.version) < version


@dataclass(frozen=True, slots=True)
class CacheReset:
    """The request that empties the prefix cache. ``succeeded`` reads the body of its 200 answer; where it
    does not say (None), the engine's log since the request must hold ``logged``. ``needed`` tells whether an
    engine of that launch keeps anything: else it is not asked, and need not have the route."""

    method: str
    path: str
    succeeded: Callable[[bytes], bool | None]
    logged: str | None = None
    needed: Callable[[Launch], bool] = lambda launch: True


@dataclass(frozen=True, slots=True)
class Sleeping:
    """How an engine is put to sleep, its weights in host memory, and woken.

    ``flags`` are among its arguments and ``environment`` in its environment where it is to be able to.
    ``sleep`` and ``wake`` are requests: method, path, body. ``asks`` is the method and path of the question
    whether it sleeps, and ``is_asleep`` reads the body of its 200 answer (None: it does not say); without a
    question its answer to the last request counts. ``kept_gib`` is what a sleeper keeps of each GPU,
    ``since`` the first version that was seen to sleep. On no CPU, and not over several nodes.
    """

    flags: Mapping[str, Any]
    environment: Mapping[str, str]
    sleep: tuple[str, str, bytes | None]
    wake: tuple[str, str, bytes | None]
    kept_gib: float
    since: tuple[int, ...]
    asks: tuple[str, str] | None = None
    is_asleep: Callable[[bytes], bool | None] = lambda body: None

    def asked_of(self, launch: Launch) -> bool:
        """Whether an engine of that launch can sleep."""
        return all(launch.args.get(flag) == value for flag, value in self.flags.items())


@dataclass(frozen=True, slots=True)
class ThinkingBudget:
    """How an engine is told after how many tokens of reasoning to end it: ``fields(budget)`` of a request's
    body. ``since`` is its first version that can, ``lacking(launch)`` what that launch lacks, in words."""

    fields: Callable[[int], dict[str, Any]]
    since: tuple[int, ...] = ()
    lacking: Callable[[Launch], str | None] = lambda launch: None


@dataclass(frozen=True, slots=True)
class Adapter:
    """One engine.

    ``base_args(launch)`` are the flags every deployment starts from, ``command(launch)`` the argument vector,
    ``environment(launch)`` only what the engine needs beside what it inherits. ``metrics`` maps a field of
    `records.Sample` to the Prometheus name as exposed. ``distributions`` are the Python packages whose
    version is the engine's, the first installed one counts. ``lazy`` names those fields of ``metrics`` whose
    counters appear with their first increment: until then they are 0. ``reserved`` flags follow from other
    keys: flag -> the key to set instead. ``reasoning_fields`` of a streamed delta carry reasoning.
    ``preload`` are the modules that a standby imports where they exist; none of them may touch a GPU.
    ``preload_fork`` are the environment variables that have the engine's processes forked from there.
    ``thinking_budget`` is None where it has none.
    ``version`` is set where the engine is part of this package. ``defaults(hardware)`` are flags that it has
    by itself on such hardware, as far as they are known: what sets those alone changes nothing. ``sleep`` is
    None for an engine that cannot.
    """

    name: str
    distributions: tuple[str, ...]
    base_args: Callable[[Launch], dict[str, Any]]
    command: Callable[[Launch], list[str]]
    environment: Callable[[Launch], dict[str, str]]
    metrics: Mapping[str, str]
    ready_path: str
    health_path: str
    reset_cache: CacheReset
    reserved: Mapping[str, str]
    reasoning_fields: tuple[str, ...]
    lazy: frozenset[str] = frozenset()
    version: str | None = None
    defaults: Callable[[HardwareConfig], dict[str, Any]] = lambda hardware: {}
    preload: tuple[str, ...] = ()
    preload_fork: Mapping[str, str] = field(default_factory=dict)
    sleep: Sleeping | None = None
    thinking_budget: ThinkingBudget | None = None


def metrics_of(adapter: Adapter, args: Mapping[str, Any]) -> dict[str, str]:
    """The metrics that mean something on an engine started with ``args``: those of speculative decoding only
    with it."""
    absent = ["prefix_"] if args.get("disable-radix-cache") else []
    if not any(name.startswith("speculative") for name in args):
        absent.append("spec_")
    return {field: name for field, name in adapter.metrics.items() if not field.startswith(tuple(absent))}


def step_tokens(args: Mapping[str, Any]) -> int:
    """How many tokens of a request a step of an engine with ``args`` can write: one, and with speculative
    decoding its draft's."""
    config = args.get("speculative-config")
    drafted = config.get("num_speculative_tokens") if isinstance(config, Mapping) else None
    most = (drafted or 0) + 1, args.get("speculative-num-draft-tokens") or 1
    return max(int(one) for one in most)


def flag_name(name: str) -> str:
    """``max_num_seqs`` and ``--max-num-seqs`` are both ``max-num-seqs``."""
    return name.removeprefix("--").replace("_", "-")


def merge_args(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Later layers win. Mappings merge key by key, a JSON object in a text too; None takes a flag away."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            flag, below = flag_name(name), merged.get(flag_name(name))
            value = unjsoned(value)
            if isinstance(value, Mapping) and isinstance(below, Mapping):
                value = {**below, **value}
            merged[flag] = value
    return {flag: value for flag, value in merged.items() if value is not None}


def unjsoned(value: Any) -> Any:
    """``{"a": 1}`` as the mapping that it is, so that both spellings are one cell."""
    if isinstance(value, str) and value.startswith("{"):
        with suppress(ValueError):
            return json.loads(value)
    return value


def served_by(name: str, launch_python: str) -> list[str]:
    """The words that run ``NAME serve`` with the key of the environment's ``ENGINE_API_KEY`` before every
    route (`inside.entry`)."""
    return [launch_python, entry.__file__, name, "serve"]


def to_flags(args: Mapping[str, Any]) -> list[str]:
    """``args`` as a command line's words.

    True is a bare flag, False ``--no-flag``, None nothing, a list several values, a mapping one JSON value;
    a value that begins with a dash is joined by ``=`` so that no parser takes it for a flag.
    """
    return [word for name, value in args.items() for word in _words(flag_name(name), value)]


def _words(flag: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, (list, tuple)):
        return [f"--{flag}", *value_words(value)]
    (text,) = value_words(value)
    return [f"--{flag}={text}"] if text.startswith("-") else [f"--{flag}", text]


def value_words(value: Any) -> list[str]:
    """The words of a flag's value that is neither a bool nor None."""
    return [_text(one) for one in value] if isinstance(value, list | tuple) else [_text(value)]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return json.dumps(value, separators=(",", ":"), sort_keys=True)
    return str(value)


def parse_version(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``0.25.1+cu130`` is ``(0, 25, 1)``."""
    numbers: list[int] = []
    for part in version.split("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)

"""What a variant's key has beside the columns of ``cells``: every key of the stored configuration that is
part of a cell's identity (`orchestrator.cell`), so that nothing but ``run`` and ``seed`` is averaged over."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from functools import cache
from typing import Any

from orchestrator.cell import LEFT_OUT, leaves
from orchestrator.config.schema import SweepConfig
from orchestrator.secrets import public

Row = Mapping[str, Any]

GROUPS = {  # settings -> the keys, by their beginnings, that are in it; what is in none is in other_settings
    "engine_settings": ("engine.",),
    "model_settings": ("model.",),
    "sampling_settings": ("sampling.",),
    "hardware_settings": ("hardware.",),
}
OTHER = "other_settings"
# Keys that a column says: its own, or that of what planning made of it (`orchestrator.cell.RESOLVED`).
COLUMN_OF: Mapping[str, str] = {
    "model.name": "model",
    "model.path": "model_revision",
    "model.revision": "model_revision",
    "model.context": "context",
    "engine.name": "engine",
    "engine.version": "engine_version",
    "dataset.name": "dataset",
    "dataset.path": "dataset_revision",
    "dataset.revision": "dataset_revision",
    "dataset.prompt": "prompt",
    "load.kind": "load",
    "load.rate": "request_rate",
    **{
        f"load.{name}": name
        for name in ("batch_size", "concurrency", "burstiness", "normalize", "usage", "cache")
    },
    "hardware.name": "gpu_type",
    "hardware.gpus_per_node": "nodes",
    **{name: name for name in ("weights", "max_tokens", "thinking_budget", "repeats")},
    "tensor_parallel_size": "tensor_parallel_size",
    **{f"sampling.{name}": name for name in ("temperature", "top_p", "top_k", "seeded")},
}
_RUN = "seed"  # tells runs apart, not variants
# Said of the optimizations in force and of the engine alone, below.
_PARTLY = frozenset({"model.checkpoints", "model.draft", "model.eagle3"})
_OF_OLDER_VERSIONS = frozenset({"precision", "search", "secrets", "max_gpus", "priority"})
# Left out of an identity since an engine's arguments have them: a simulated one's, which are no column.
_SIMULATED = frozenset({"hardware.bandwidth_gb_s", "hardware.bf16_tflops"})


def configuration_of(row: Row) -> dict[str, Any]:
    """The whole configuration that the cell was composed of; empty where it is not stored."""
    return dict(_provenance(row).get("config") or {})


def settings(row: Row) -> dict[str, str]:
    """By group, as JSON of the dotted keys whose values are not the schema's own: absent is as before there
    was the key. ``opt_settings`` is what the optimizations in force ask of the engine, and
    ``parser_settings`` the engine's reasoning parser."""
    config = configuration_of(row)
    found: dict[str, dict[str, Any]] = {name: {} for name in (*GROUPS, OTHER)}
    for key, value in _stated(row, config):
        group = next((name for name, (begin,) in GROUPS.items() if key.startswith(begin)), OTHER)
        found[group][key] = value
    planned = _provenance(row).get("planned") or {}
    for key in ("served", "trace_revision", "length_revision"):
        if planned.get(key):
            found["engine_settings" if key == "served" else OTHER][key] = planned[key]
    engine = str(row.get("engine"))
    parser = ((config.get("model") or {}).get("reasoning_parser") or {}).get(engine)
    found["parser_settings"] = {} if parser is None else {"model.reasoning_parser": parser}
    found["opt_settings"] = _of_optimizations(config, engine)
    files = planned.get("files") or {}
    for group, keys in (("engine_settings", "engine.args"), ("opt_settings", "opt.")):
        named = json.dumps(
            [value for key, value in found[group].items() if key.startswith(keys)], ensure_ascii=False
        )
        if own := {name: content for name, content in files.items() if name in named}:
            found[group]["files"] = own
    return {name: json.dumps(of, sort_keys=True) for name, of in found.items()}


def spread(text: str) -> dict[str, str]:
    """A group's JSON by its dotted keys, those within ``engine.args`` and the like too, as they are typed."""
    return {key: _typed(value) for key, value in _within(json.loads(text))}


@cache
def default(key: str) -> str | None:
    """What a key is where nothing else is stored, as it is typed; None for none."""
    value = _defaults().get(key)
    return None if value is None else _typed(value)


def _stated(row: Row, config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The keys in the cell's identity that no column says, with their values; sampling as it is sent."""
    for key, value in _sent(dict(_flat(config, SweepConfig(), ""))).items():
        left_out = key in LEFT_OUT and not (row.get("simulated") and key in _SIMULATED)
        if left_out or key in COLUMN_OF or key in _PARTLY or key in (_RUN, "opt"):
            continue
        if key == "engine.env":
            value = public(value or {})
        if key.split(".")[0] in _OF_OLDER_VERSIONS or value is None or value == _defaults().get(key):
            continue
        yield key, value


def _sent(flat: dict[str, Any]) -> dict[str, Any]:
    """With the job's own sampling, else the model card's, as `orchestrator.cell.sampling` has it."""
    for key in [one for one in flat if one.startswith("model.sampling.")]:
        card, own = flat.pop(key), key.removeprefix("model.")
        flat[own] = card if flat.get(own) is None else flat[own]
    if isinstance(flat.get("sampling.stop"), str):
        flat["sampling.stop"] = [flat["sampling.stop"]]
    return flat


def _of_optimizations(config: Mapping[str, Any], engine: str) -> dict[str, Any]:
    """Of each in force: its arguments and environment on this engine, its checkpoint and its draft."""
    found: dict[str, Any] = {}
    model = config.get("model") or {}
    opts = config.get("opt")
    for name, opt in opts.items() if isinstance(opts, Mapping) else ():
        own = opt if isinstance(opt, Mapping) else {}
        on_engine = own.get(engine) or {}
        values = {f"opt.{name}.{engine}.args": on_engine.get("args")}
        values[f"opt.{name}.{engine}.env"] = public(on_engine.get("env") or {})
        values |= {f"opt.{name}.{one}": own.get(one) for one in ("quantization", "checkpoint")}
        if checkpoint := own.get("checkpoint"):
            values[f"model.checkpoints.{checkpoint}"] = (model.get("checkpoints") or {}).get(checkpoint)
        if needs := own.get("needs"):
            values[f"model.{needs}"] = model.get(needs)
        found |= {key: value for key, value in values.items() if value not in (None, {})}
    return found


def _flat(stored: Mapping[str, Any], schema: object, prefix: str) -> Iterator[tuple[str, Any]]:
    """As `orchestrator.cell.leaves`, of a stored configuration, which may be of another version."""
    for name, value in stored.items():
        below = getattr(schema, name, None)
        if is_dataclass(below) and isinstance(value, Mapping):
            yield from _flat(value, below, f"{prefix}{name}.")
        else:
            yield prefix + name, value


@cache
def _defaults() -> dict[str, Any]:
    return leaves(SweepConfig())


def _within(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _within(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _typed(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _provenance(row: Row) -> dict[str, Any]:
    stored = row.get("provenance")
    if isinstance(stored, str):
        try:
            stored = json.loads(stored)
        except ValueError:
            return {}
    return dict(stored) if isinstance(stored, Mapping) else {}

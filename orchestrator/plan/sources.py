"""Whose weights a job means. A source that is typed (`model.hub_id`, `model.path`, `model.package`) takes the
place of those in the model's own file, and what that file says of other weights is not believed of these."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from orchestrator.config.schema import ModelConfig, SweepConfig
from orchestrator.errors import ConfigError
from orchestrator.paths import conf_dir, hub_parts, is_path
from orchestrator.plan import config_json

if TYPE_CHECKING:
    from orchestrator.plan.plan import Job

SOURCES = ("path", "package", "hub_id")

# What a model's file says of its weights alone, and of others that go with them.
_OF_THE_WEIGHTS = (
    *("revision", "pair", "parameters_b", "layers", "hidden_size", "heads", "kv_heads", "head_dim"),
    *("kv_lora_rank", "qk_rope_head_dim", "sliding_window", "sliding_window_layers", "experts"),
    *("experts_per_token", "expert_parameters_b", "weight_bytes", "weight_bytes_of", "vocab_size"),
    *("architecture", "intermediate_size", "tied_embeddings", "dtype", "quantization", "lora"),
)
_BESIDE_THEM = ("checkpoints", "draft", "eagle3", "draft_shapes")

_TELLS_APART = (
    "architecture",
    "layers",
    "hidden_size",
    "heads",
    "kv_heads",
    "vocab_size",
    "intermediate_size",
)
_TELLS_SIZE = ("layers", "hidden_size", "heads")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def with_sources(jobs: Sequence[Job]) -> tuple[list[Job], tuple[str, ...]]:
    """The jobs, each with one source of its model, and what the plan says of that. Raises as `meant`."""
    found = [meant(job.config, job.overrides) for job in jobs]
    lines = dict.fromkeys(note for _, note in found if note is not None)
    one_each = [
        job if config is job.config else replace(job, config=config)
        for job, (config, _) in zip(jobs, found, strict=True)
    ]
    return one_each, tuple(lines)


def meant(config: SweepConfig, overrides: Sequence[str]) -> tuple[SweepConfig, str | None]:
    """``config`` with one source of the model, and a line for the plan where it is not its file's own.

    ``overrides`` are the job's as typed. A folder whose config.json has the file's sizes is taken for a copy
    of that model; any other model gets a name of its own and the sizes that its folder tells. How a model is
    asked (kind, parser, template, sampling, context) stays as the file has it.

    Raises ConfigError where two sources are left, for a revision that the source cannot have, and for a
    config.json that is none.
    """
    keys = (one.lstrip("+~") for one in overrides)
    own_keys = [one.removeprefix("model.") for one in keys if one.startswith("model.")]
    typed = {re.split(r"[=@]", one, maxsplit=1)[0] for one in own_keys}
    own = [name for name in SOURCES if name in typed and getattr(config.model, name) is not None]
    if len(own) > 1:
        raise ConfigError(f"{_both(config.model, own)}: are two sources of one model; give one of them")
    if not own:
        _check_one(config.model)
        if config.model.path is not None:
            config_json.shape(Path(config.model.path).expanduser())
        return config, None
    model, note = _from(own[0], config.model, typed)
    return replace(config, model=model), note


def _check_one(model: ModelConfig) -> None:
    found = [name for name in SOURCES if getattr(model, name) is not None]
    if len(found) > 1:
        raise ConfigError(f"{_both(model, found)}: are two sources of one model; set one of them to null")


def _both(model: ModelConfig, names: Sequence[str]) -> str:
    return " and ".join(f"model.{name}={getattr(model, name)}" for name in names)


def _from(source: str, model: ModelConfig, typed: set[str]) -> tuple[ModelConfig, str | None]:
    others: dict[str, Any] = {name: None for name in SOURCES if name != source}
    value = str(getattr(model, source))
    if source == "hub_id":
        model, typed = _split(value, model, typed)
        value = str(model.hub_id)
    if source == "path" and "revision" in typed and model.revision is not None:
        raise ConfigError(f"model.revision={model.revision}: a folder, model.path={value}, has none")
    file = _listed(model.name)
    if source != "path" and file.get(source) == value and "name" not in typed:
        packaged = source == "hub_id" and file.get("package") and "revision" not in typed
        same: dict[str, Any] = {"revision": None} if packaged else {}  # the file's is that of its package
        return replace(model, **others, **same), None
    shape = config_json.shape(Path(value).expanduser()) if source == "path" else {}
    if source == "path" and shape and _is_copy(model, shape):
        kept: dict[str, Any] = {
            "revision": None,
            "checkpoints": _typed_entries(model.checkpoints, "checkpoints", typed),
        }
        note = f"model.path={value}: taken for {model.name}, whose sizes its config.json has"
        return replace(model, **others, **kept), note if file else None
    return _another(source, value, model, typed, shape)


def _is_copy(model: ModelConfig, shape: Mapping[str, Any]) -> bool:
    """Whether a folder's sizes are all those of ``model``: one without them is no copy of anything."""
    if any(key not in shape and getattr(model, key) is not None for key in _TELLS_SIZE):
        return False
    return all(shape.get(key, (now := getattr(model, key))) == now for key in _TELLS_APART)


def _another(
    source: str, value: str, model: ModelConfig, typed: set[str], shape: Mapping[str, Any]
) -> tuple[ModelConfig, str]:
    """``value`` is not what the model's file describes."""
    kept = {one.split(".")[0] for one in typed}
    cleared = {name: _default(name) for name in (*_OF_THE_WEIGHTS, *_BESIDE_THEM) if name not in kept}
    told = {name: found for name, found in shape.items() if name not in kept}
    others: dict[str, Any] = {name: None for name in SOURCES if name != source}
    entries = _typed_entries(model.checkpoints, "checkpoints", typed)
    name = model.name if "name" in typed else _name(value)
    made = replace(model, **{**cleared, **told, **others, "checkpoints": entries, "name": name})
    sizes = "its sizes are those of its config.json" if "layers" in shape else "its sizes are not known"
    return made, (
        f"model.{source}={value}: is not what model={model.name} describes, so it is {name} here, and "
        f"{sizes}; kind={made.kind}, context={made.context}, reasoning parser, chat template's arguments and "
        f"sampling are still those of model={model.name}"
    )


def _split(value: str, model: ModelConfig, typed: set[str]) -> tuple[ModelConfig, set[str]]:
    """``ORG/NAME@REVISION`` as the two keys that it is."""
    if is_path(value) or Path(value).is_dir():
        raise ConfigError(f"model.hub_id={value}: is a folder here; give model.path={value}")
    hub_id, revision = hub_parts(value)
    if not _HUB_ID.fullmatch(hub_id):
        raise ConfigError(f"model.hub_id={value}: must be ORG/NAME or ORG/NAME@REVISION of the hub")
    if revision is None:
        return model, typed
    if "revision" in typed and model.revision != revision:
        raise ConfigError(f"model.hub_id={value} and model.revision={model.revision}: name two revisions")
    return replace(model, hub_id=hub_id, revision=revision), typed | {"revision"}


def _name(value: str) -> str:
    return re.sub(r"[^\w.-]+", "-", value.rstrip("/").rsplit("/", 1)[-1].lower()).strip("-.") or "model"


def _default(name: str) -> Any:
    (one,) = (one for one in fields(ModelConfig) if one.name == name)
    return one.default if one.default_factory is MISSING else one.default_factory()


def _typed_entries(entries: Mapping[str, str], key: str, typed: set[str]) -> dict[str, str]:
    """Of a mapping the entries that were typed: the file's are of other weights."""
    return {name: one for name, one in entries.items() if key in typed or f"{key}.{name}" in typed}


@cache
def _listed(name: str) -> Mapping[str, Any]:
    """The catalogue's file of a model; empty where it has none."""
    file = conf_dir() / "model" / f"{name}.yaml"
    listed = OmegaConf.to_container(OmegaConf.load(file)) if file.is_file() else {}
    return {str(key): value for key, value in listed.items()} if isinstance(listed, dict) else {}

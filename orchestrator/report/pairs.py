"""Which variants are compared: each with the baseline that differs from it along one axis alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.errors import ConfigError
from orchestrator.report.options import counted
from orchestrator.report.settings import configuration_of
from orchestrator.report.variants import Variant

_PARALLEL = ("tensor_parallel_size", "gpus", "nodes")
_SAMPLING = ("temperature", "top_p", "top_k", "seeded", "sampling_settings")
_MODEL = (
    "model",
    "model_revision",
    "context",
    "model_settings",
    "parser_settings",
    "opt_settings",
    *_SAMPLING,
)
_ENGINE = ("engine", "engine_version", "engine_settings", "parser_settings", "opt_settings")
_WEIGHTS = ("hub_id", "path", "package", "revision", "lora")


@dataclass(frozen=True)
class Axis:
    """``free``: what may differ beside ``column``, since it follows from it. ``loose``: what may differ where
    there is no baseline without that difference; per-GPU rates are compared then."""

    name: str
    title: str
    column: str
    free: tuple[str, ...]
    loose: tuple[str, ...] = ()


OPTIMIZATION = Axis(
    "optimizations",
    "Optimizations against the baseline",
    "opt",
    ("opt", "opt_settings", "model_revision"),
    _PARALLEL,
)
REASONING = Axis("reasoning", "Reasoning models against their standard pair", "model", _MODEL, _PARALLEL)
ENGINE = Axis("engines", "Engine against engine", "engine", _ENGINE)
SIZE = Axis("sizes", "Model size against model size", "model", _MODEL, _PARALLEL)
GPUS = Axis("gpus", "Number of GPUs", "tensor_parallel_size", _PARALLEL)
COMBINATION = Axis("combinations", "Combinations against the reference", "opt", ())
AXES = (OPTIMIZATION, REASONING, ENGINE, SIZE, GPUS, COMBINATION)


@dataclass(frozen=True, eq=False)
class Pair:
    """``variant`` against ``baseline``. ``also``: what else differs, in words, where something does."""

    axis: Axis
    baseline: Variant
    variant: Variant
    also: str | None = None


@dataclass(frozen=True, eq=False)
class Alone:
    """A variant whose baseline was not measured (or stands apart)."""

    axis: Axis
    variant: Variant
    missing: str


def pairs(variants: Sequence[Variant], baseline: Mapping[str, str]) -> tuple[list[Pair], list[Alone]]:
    """All pairs, axis by axis. Raises ConfigError for a ``baseline`` that no variant has."""
    for column, value in baseline.items():
        there = sorted({variant.facts[column] for variant in variants})
        if value not in there:
            raise ConfigError(
                f"baseline={column}={value}: no cell that counts has it; there are {', '.join(there)}"
            )
    found: list[Pair] = []
    alone: list[Alone] = []
    for axis, wanted in (
        (OPTIMIZATION, lambda one: baseline.get("opt", "none")),
        (REASONING, _standard_pair),
        (ENGINE, _fixed(baseline.get("engine") or _first_engine(variants))),
        (SIZE, _size_baseline(variants, baseline.get("model"))),
        (GPUS, _fixed(baseline.get("tensor_parallel_size") or _fewest(variants))),
    ):
        _along(axis, wanted, variants, found, alone)
    done = {(pair.baseline, pair.variant) for pair in found}
    for group in groups(variants):
        reference = reference_of(group, baseline)
        for variant in group if reference is not None else ():
            if reference is not None and variant is not reference and (reference, variant) not in done:
                found.append(Pair(COMBINATION, reference, variant, _gpus_apart(reference, variant)))
    return found, alone


def groups(variants: Sequence[Variant]) -> list[list[Variant]]:
    """Those that a user chooses among: of one model, on one kind of GPU, in one setting."""
    found: dict[tuple[object, ...], list[Variant]] = {}
    for variant in variants:
        model = configuration_of(variant.row).get("model") or {}
        weights = tuple(str(model.get(name)) for name in _WEIGHTS)  # two folders may share a name
        facts = (variant.facts[name] for name in ("model", "weights", "gpu_type"))
        key = (*facts, weights, variant.setting)
        found.setdefault(key, []).append(variant)
    return list(found.values())


def reference_of(group: Sequence[Variant], baseline: Mapping[str, str]) -> Variant | None:
    """What a group's choice is held against: its baseline (``opt=none``) on its first engine and fewest GPUs;
    None where there is none."""
    engine = baseline.get("engine") or _first_engine(group)
    able = [
        one
        for one in group
        if one.facts["opt"] == baseline.get("opt", "none")
        and one.facts["tensor_parallel_size"]
        == baseline.get("tensor_parallel_size", one.facts["tensor_parallel_size"])
    ]
    return min(
        able, key=lambda one: (one.facts["engine"] != engine, one.facts["engine"], _gpus(one)), default=None
    )


def _gpus(variant: Variant) -> int:
    return int(variant.row.get("gpus") or 0)


def _gpus_apart(baseline: Variant, variant: Variant) -> str | None:
    if _gpus(baseline) == _gpus(variant):
        return None
    return f"{counted(_gpus(variant), 'GPU')} against {_gpus(baseline)}"


def _along(
    axis: Axis,
    wanted: Callable[[Variant], str | None],
    variants: Sequence[Variant],
    found: list[Pair],
    alone: list[Alone],
) -> None:
    by_key: dict[tuple[str, ...], list[Variant]] = {}
    loosely: dict[tuple[str, ...], list[Variant]] = {}
    for variant in variants:
        by_key.setdefault(_rest(variant, axis.free), []).append(variant)
        loosely.setdefault(_rest(variant, (*axis.free, *axis.loose)), []).append(variant)
    # An optimization is measured to be held against something; a model or an engine may be alone.
    compared = axis is OPTIMIZATION or len({variant.facts[axis.column] for variant in variants}) > 1
    for variant in variants:
        value = wanted(variant)
        if value is None or variant.facts[axis.column] == value or not compared:
            continue
        same = [one for one in by_key[_rest(variant, axis.free)] if one.facts[axis.column] == value]
        if not same and axis.loose:
            key = _rest(variant, (*axis.free, *axis.loose))
            near = [one for one in loosely[key] if one.facts[axis.column] == value]
            same = sorted(near, key=lambda one: (abs(_gpus(one) - _gpus(variant)), _gpus(one)))[:1]
        if len(same) == 1:
            also = _gpus_apart(same[0], variant) if axis is not GPUS else None
            found.append(Pair(axis, same[0], variant, also))
        elif same:
            alone.append(Alone(axis, variant, f"several cells could be its baseline {axis.column}={value}"))
        elif axis is OPTIMIZATION or axis is REASONING:
            alone.append(
                Alone(axis, variant, f"no cell that counts has {axis.column}={value} and all else the same")
            )


def _rest(variant: Variant, free: Sequence[str]) -> tuple[str, ...]:
    """All that must agree."""
    return tuple(value for name, value in variant.facts.items() if name not in free)


def _fixed(value: str | None) -> Callable[[Variant], str | None]:
    return lambda variant: value


def _first_engine(variants: Sequence[Variant]) -> str | None:
    """vLLM where it was measured, else the first by name."""
    names = sorted({variant.facts["engine"] for variant in variants})
    return "vllm" if "vllm" in names else names[0] if names else None


def _fewest(variants: Sequence[Variant]) -> str | None:
    sizes = {variant.facts["tensor_parallel_size"] for variant in variants} - {"none"}
    return min(sizes, key=int, default=None)


def _standard_pair(variant: Variant) -> str | None:
    """The catalogue's counterpart of a reasoning model."""
    model = configuration_of(variant.row).get("model") or {}
    return model.get("pair") if variant.row.get("model_kind") == "reasoning" else None


def parameters_b(variant: Variant) -> float | None:
    """In units of 1e9, as the catalogue has it."""
    return (configuration_of(variant.row).get("model") or {}).get("parameters_b")


def _size_baseline(variants: Sequence[Variant], chosen: str | None) -> Callable[[Variant], str | None]:
    """``chosen``, else the smallest model of the same kind; None where sizes are not known or alike."""
    sizes: dict[str, dict[str, float]] = {}
    for variant in variants:
        if (size := parameters_b(variant)) is not None:
            sizes.setdefault(str(variant.row.get("model_kind")), {})[variant.facts["model"]] = size

    def wanted(variant: Variant) -> str | None:
        of_kind = sizes.get(str(variant.row.get("model_kind")), {})
        if variant.facts["model"] not in of_kind:
            return None
        smallest = min(of_kind, key=lambda name: (of_kind[name], name))
        if chosen is not None:
            return chosen if chosen in of_kind else None
        return smallest if of_kind[variant.facts["model"]] > of_kind[smallest] else None

    return wanted

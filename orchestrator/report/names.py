"""Short names of variants: what they all share is said once, only what differs is in the name."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report.options import counted
from orchestrator.report.settings import default, spread
from orchestrator.report.variants import CONFIGURATION, SETTING, Variant

_ALWAYS = ("engine", "opt")
_SETTING_ALWAYS = ("dataset",)
_FOLLOWING = ("engine_version", "tensor_parallel_size", "nodes")  # unsaid where they follow from what is said
_FOLLOWS = {  # a setting is unsaid where these tell it
    "engine_settings": ("model", "engine"),
    "model_settings": ("model",),
    "parser_settings": ("model", "engine"),
    "opt_settings": ("model", "engine", "opt"),
    "hardware_settings": ("gpu_type",),
    "sampling_settings": ("model",),
    "other_settings": ("dataset", "load", "items"),
}
_UNSAID = (  # unless nothing else tells two variants apart
    "model_revision",
    "dataset_revision",
    "context",
    "temperature",
    "top_p",
    "top_k",
    "seeded",
    "simulated",
)
_WORDS = {
    "max_tokens": "budget {}",
    "thinking_budget": "thinking at most {} tokens",
    "concurrency": "{} in flight",
    "batch_size": "batches of {}",
    "request_rate": "{} requests/s",
    "burstiness": "burstiness {}",
    "repeats": "{} repeats",
    "items": "{} items",
    "prompt": "{} prompt",
    "cache": "{} cache",
    "model_revision": "weights {}",
    "dataset_revision": "data {}",
    **{name: f"{name} {{}}" for name in ("context", "temperature", "top_p", "top_k", "seeded", "simulated")},
}
# What is none is unsaid, but for where that would read as if it were not known.
_NONE = {"opt": "no optimization", "thinking_budget": "thinking without a limit"}


class Names:
    """Made for all variants of a report."""

    def __init__(self, variants: Sequence[Variant]) -> None:
        self._variants = variants
        self._facts = {variant: _facts(variant) for variant in variants}
        self._configuration = self._varying(CONFIGURATION, _ALWAYS)
        self._setting = self._varying(SETTING, _SETTING_ALWAYS)
        self._said: dict[tuple[Variant, tuple[str, ...]], str] = {}
        for name in _UNSAID:
            if self._tells_apart(name):
                (self._configuration if name in CONFIGURATION else self._setting).append(name)

    def configuration(self, variant: Variant) -> str:
        """Such as ``r1-7b · vllm · fp8 · 2 GPUs``."""
        return self._joined(variant, self._in_order())

    def model(self, variant: Variant) -> str:
        """Such as ``r1-7b``, with what tells models of one name apart."""
        told = [one for one in self._configuration if one == "model_revision" or one.startswith("model.")]
        return " · ".join([variant.facts["model"], *self._parts(variant, told)])

    def engine(self, variant: Variant) -> str:
        """As `configuration`, without the model."""
        return self._joined(variant, [one for one in self._configuration if one != "model"])

    def setting(self, variant: Variant) -> str:
        """Such as ``gsm8k · closed, 8 in flight · budget 4096``."""
        return self._joined(variant, self._setting)

    def load(self, variant: Variant) -> str:
        """As `setting`, without dataset and budget."""
        return self._joined(variant, [one for one in self._setting if one not in ("dataset", "max_tokens")])

    def setting_but(self, variant: Variant, *left_out: str) -> str:
        """As `setting`, without these columns."""
        return self._joined(variant, [one for one in self._setting if one not in left_out])

    def setting_of(self, variant: Variant, *columns: str) -> str:
        """What `setting` says of these columns; empty where all variants share them."""
        return self._joined(variant, [one for one in self._setting if one in columns])

    def whole(self, variant: Variant) -> str:
        return f"{self.configuration(variant)} · {self.setting(variant)}"

    def shared(self) -> list[tuple[str, str]]:
        """What every variant has, where it says something."""
        if not self._variants:
            return []
        facts = self._variants[0].facts
        told = [name for name in (*CONFIGURATION, *SETTING) if not name.endswith("_settings")]
        return [
            (name.replace("_", " "), facts[name])
            for name in told
            if facts[name] not in ("none", "False")
            and all(one.facts[name] == facts[name] for one in self._variants)
        ]

    def _in_order(self) -> list[str]:
        """The model comes first."""
        return sorted(self._configuration, key=lambda one: one != "model")

    def _varying(self, names: Sequence[str], always: Sequence[str]) -> list[str]:
        found = list(always)
        for name in names:
            by = _FOLLOWS.get(name, found if name in _FOLLOWING else ())
            for one in self._keys(name) if name in _FOLLOWS else [name]:
                values = {facts.get(one) for facts in self._facts.values()}
                if one in found or len(values) < 2 or one in _UNSAID:
                    continue
                if not by or not self._determined(one, by):
                    found.append(one)
        return found

    def _keys(self, group: str) -> list[str]:
        """All keys that any variant has of it."""
        return sorted({key for variant in self._variants for key in spread(variant.facts[group])})

    def _determined(self, name: str, by: Sequence[str]) -> bool:
        """Whether it follows from the others: each engine has one version, say."""
        seen: dict[tuple[str | None, ...], str | None] = {}
        return all(
            seen.setdefault(tuple(facts.get(one) for one in by), facts.get(name)) == facts.get(name)
            for facts in self._facts.values()
        )

    def _tells_apart(self, name: str) -> bool:
        """Whether two variants of the same whole name differ in it."""
        seen: dict[str, str | None] = {}
        return any(
            seen.setdefault(self.whole(variant), facts.get(name)) != facts.get(name)
            for variant, facts in self._facts.items()
        )

    def _joined(self, variant: Variant, names: Sequence[str]) -> str:
        key = variant, tuple(names)
        if key not in self._said:
            self._said[key] = " · ".join(self._parts(variant, names))
        return self._said[key]

    def _parts(self, variant: Variant, names: Sequence[str]) -> list[str]:
        facts = self._facts[variant]
        return [
            _word(name, value)
            for name in names
            if (value := facts.get(name) or default(name)) is not None
            and (value != "none" or name in _ALWAYS or name in _NONE)
        ]


def _facts(variant: Variant) -> dict[str, str]:
    """With every setting by its own key, and the folder that weights are from beside their revision."""
    facts = dict(variant.facts)
    for name in _FOLLOWS:
        facts |= spread(facts.pop(name))
    if path := variant.row.get("model_path"):
        facts["model_revision"] = f"{path} ({facts['model_revision'][:12]})"
    return facts


def _word(name: str, value: str) -> str:
    if value == "none" and name in _NONE:
        return _NONE[name]
    if name == "gpus":
        return "no GPU" if value == "0" else counted(int(value), "GPU") if value.isdecimal() else value
    if name == "tensor_parallel_size":
        return f"TP {value}"
    if name not in SETTING and name not in CONFIGURATION:
        return f"{name}={value}"
    return _WORDS.get(name, "{}").format(value)

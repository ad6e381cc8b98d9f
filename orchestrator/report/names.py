"""Short names of variants: what they all share is said once, only what differs is in the name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.report.variants import CONFIGURATION, SETTING, Variant

_ALWAYS = ("engine", "opt")
_SETTING_ALWAYS = ("dataset",)
_FOLLOWING = (
    "engine_version",
    "engine_settings",
    "tensor_parallel_size",
    "nodes",
)  # unsaid where they follow
_UNSAID = (
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
    "concurrency": "{} in flight",
    "batch_size": "batches of {}",
    "request_rate": "{} requests/s",
    "burstiness": "burstiness {}",
    "repeats": "{} repeats",
    "items": "{} items",
    "prompt": "{} prompt",
    "cache": "{} cache",
    "engine_settings": "engine {}",
    "other_settings": "{}",
}


class Names:
    """Made for all variants of a report."""

    def __init__(self, variants: Sequence[Variant]) -> None:
        self._variants = variants
        self._configuration = self._varying(CONFIGURATION, _ALWAYS)
        self._setting = self._varying(SETTING, _SETTING_ALWAYS)

    def configuration(self, variant: Variant) -> str:
        """Such as ``r1-7b · vllm · fp8 · 2 GPUs``."""
        return " · ".join(self._parts(variant.facts, self._in_order()))

    def engine(self, variant: Variant) -> str:
        """As `configuration`, without the model."""
        return " · ".join(self._parts(variant.facts, [one for one in self._configuration if one != "model"]))

    def setting(self, variant: Variant) -> str:
        """Such as ``gsm8k · closed, 8 in flight · budget 4096``."""
        return " · ".join(self._parts(variant.facts, self._setting))

    def load(self, variant: Variant) -> str:
        """As `setting`, without dataset and budget."""
        named = [one for one in self._setting if one not in ("dataset", "max_tokens")]
        return " · ".join(self._parts(variant.facts, named))

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
            values = {variant.facts[name] for variant in self._variants}
            follows = name in _FOLLOWING and self._determined(name, found)
            if name not in found and len(values) > 1 and name not in _UNSAID and not follows:
                found.append(name)
        return found

    def _determined(self, name: str, by: Sequence[str]) -> bool:
        """Whether it follows from the others: each engine has one version, say."""
        seen: dict[tuple[str, ...], str] = {}
        return all(
            seen.setdefault(tuple(variant.facts[one] for one in by), variant.facts[name])
            == variant.facts[name]
            for variant in self._variants
        )

    def _parts(self, facts: Mapping[str, str], names: Sequence[str]) -> list[str]:
        return [_word(name, facts[name]) for name in names if facts[name] != "none" or name in _ALWAYS]


def _word(name: str, value: str) -> str:
    if name == "opt":
        return "no optimization" if value == "none" else value
    if name == "gpus":
        return "no GPU" if value == "0" else f"{value} GPU" if value == "1" else f"{value} GPUs"
    if name == "tensor_parallel_size":
        return f"TP {value}"
    return _WORDS.get(name, "{}").format(value)

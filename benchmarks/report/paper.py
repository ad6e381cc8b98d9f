"""The figures of a paper as a study, so that the report can be held to what is known to be wrong with them.

    python -m benchmarks.report.paper results
    python -m orchestrator.report results_dir=results study=arxiv-2510.18672 out=report

Numbers are those of the figures of arXiv 2510.18672 (its project's page), read off the pictures to about 2 %
of an axis, with its figures over time as far as the text tells them. Nothing of it was measured here: every
cell is stored as simulated, with its source in ``provenance``, so that the report says so and never holds it
against a measured one. What the paper does not say is absent, the requests' times among it; requests have
grades alone, made to give the accuracy: of as many questions and repeats as it used (100, and AIME's 30,
three times), with the three answers of a question alike, since nothing else is known, which makes the
widest interval.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.records import Grade, Record, Sample
from orchestrator.store.write import commit

STUDY = "arxiv-2510.18672"
SOURCE = "arXiv 2510.18672 (read off its figures; which of the questions were right is drawn at random)"
DATASETS = {"gsm8k": 100, "math500": 100, "aime24": 30, "gpqa-diamond": 100}  # questions
REPEATS = 3
LONG_S = 200.0  # where it tells how many requests run
PAIRS = {"r1-7b": "qwen2.5-math-7b", "r1-14b": "qwen2.5-14b", "r1-32b": "qwen2.5-32b"}

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Quoted:
    """Bars of one configuration in one figure, one number a dataset of ``datasets``. ``accuracy`` and
    ``kv_max`` in per cent, ``tokens_per_s`` of the whole server, times in s; ``running`` requests after
    `LONG_S`, by dataset. An absent number is not in the paper."""

    figure: int
    model: str
    opt: str = "none"
    accuracy: Numbers = ()
    tokens_per_s: Numbers = ()
    e2e_s: Numbers = ()
    ttfvt_s: Numbers = ()
    kv_max: Numbers = ()
    running: tuple[tuple[str, float], ...] = ()
    datasets: tuple[str, ...] = tuple(DATASETS)
    load: str = "closed"
    concurrency: int | None = None
    max_tokens: int | None = None


_MATH = ("math500", "gsm8k")
_AS_IN_4 = ("aime24", "gpqa-diamond", "gsm8k", "math500")
_BAR = "weights-bar-{}"  # which method each bar is the page does not say
_FIGURE_3 = (  # MATH-500 and GSM8K: accuracy, tokens/s, E2E, TTFVT; the first bar is the original
    ((61.0, 87.7), (808, 531), (357, 115), (10.8, 5.2)),
    ((61.0, 86.7), (195, 617), (361, 90), (41.0, 4.6)),
    ((60.7, 89.0), (590, 447), (440, 139), (14.0, 6.5)),
    ((58.7, 83.7), (357, 323), (565, 207), (24.6, 9.9)),
    ((61.3, 84.6), (500, 791), (357, 61), (17.0, 2.4)),
)
_FIGURE_4 = (  # AIME, GPQA, GSM8K, MATH-500: accuracy, tokens/s, time
    ("none", (27.8, 15.3, 86.3, 60.3), (595, 581, 403, 389), (190, 648, 160, 507)),
    ("kv-fp8", (26.7, 15.0, 87.3, 63.0), (640, 631, 466, 417), (179, 602, 137, 457)),
    ("kv-fp8-e5m2", (26.7, 15.7, 82.3, 59.3), (632, 608, 390, 394), (181, 618, 160, 466)),
)
QUOTED = (
    Quoted(
        2,
        "qwen2.5-math-7b",
        accuracy=(72, 1, 13, 7),
        e2e_s=(1.07, 1.4, 0.5, 2.2),
        kv_max=(1.2, 2.0, 3.7, 2.2),
        concurrency=16,
    ),
    Quoted(
        2,
        "r1-7b",
        accuracy=(80, 64, 37, 19),
        e2e_s=(1.47, 17.4, 7.2, 24.2),
        kv_max=(2.1, 4.1, 12.7, 18.7),
        running=(("math500", 2), ("aime24", 11)),
        concurrency=16,
    ),
    *(
        Quoted(
            3, "r1-7b", _BAR.format(bar) if bar > 1 else "none", accuracy, rate, e2e, ttfvt, datasets=_MATH
        )
        for bar, (accuracy, rate, e2e, ttfvt) in enumerate(_FIGURE_3, 1)
    ),
    *(
        Quoted(4, "r1-14b", opt, accuracy, rate, e2e, datasets=_AS_IN_4)
        for opt, accuracy, rate, e2e in _FIGURE_4
    ),
    Quoted(
        5,
        "r1-32b",
        "prefix-cache",
        accuracy=(92.7, 61, 25.5, 19),
        tokens_per_s=(327, 197, 380, 350),
        e2e_s=(150, 930, 309, 1063),
        ttfvt_s=(6, 45, 114, 83),
    ),
    Quoted(
        5,
        "r1-32b",
        accuracy=(90.7, 66.3, 25.5, 21.7),
        tokens_per_s=(325, 202, 388, 353),
        e2e_s=(147, 888, 302, 1045),
        ttfvt_s=(5.5, 44.5, 111, 74),
    ),
    Quoted(
        6,
        "r1-7b",
        "speculative-decoding",
        accuracy=(82, 62, 19, 15),
        tokens_per_s=(380, 228, 250, 240),
        e2e_s=(92, 506, 288, 1013),
        ttfvt_s=(4, 30, 84, 86),
        max_tokens=4096,
    ),
    Quoted(7, "r1-14b", kv_max=(100, 100, 100, 100), load="gamma"),  # "near 100 %"; of figure 8, no number
)


def store(results_dir: Path, figures: Sequence[int] = range(2, 9)) -> Iterator[str]:
    """Stores the cells of these figures in `STUDY` and gives their ids, one after another."""
    for quoted in QUOTED:
        for place, dataset in enumerate(quoted.datasets if quoted.figure in figures else ()):
            cell_id = f"figure-{quoted.figure}-{quoted.model}-{dataset}-{quoted.opt}"
            row = _row(quoted, dataset, place)
            records, grades = _answers(cell_id, dataset, row["accuracy"])
            samples = _samples(row["kv_usage_max"], dict(quoted.running).get(dataset))
            commit(results_dir / STUDY, cell_id, row, records, grades or None, samples)
            yield cell_id


def _row(quoted: Quoted, dataset: str, place: int) -> dict[str, Any]:
    """What is not quoted is null. The engine is vLLM, whose log the figures over time show."""

    def of(numbers: Numbers, scale: float = 1.0) -> float | None:
        return numbers[place] / scale if numbers else None

    reasons = quoted.model in PAIRS
    config = {"model": {"name": quoted.model, "pair": PAIRS.get(quoted.model)}}
    return {
        **{"study": STUDY, "model": quoted.model, "model_kind": "reasoning" if reasons else "standard"},
        **{"engine": "vllm", "engine_version": "0.8.1", "opt": [quoted.opt], "dataset": dataset},
        **{"items": DATASETS[dataset], "repeats": REPEATS, "run": 1, "attempts": 1, "overrides": []},
        **{"load": quoted.load, "concurrency": quoted.concurrency, "max_tokens": quoted.max_tokens},
        **{
            "status": "done",
            "flags": [],
            "simulated": True,
            "started_at": datetime(2025, 10, 21, tzinfo=UTC),
        },
        "provenance": {"quoted_from": SOURCE, "figure": quoted.figure, "config": config},
        "accuracy": of(quoted.accuracy, 100.0),
        "output_token_per_s": of(quoted.tokens_per_s),
        "e2e_s_mean": of(quoted.e2e_s),
        "ttfvt_s_mean": of(quoted.ttfvt_s),
        "kv_usage_max": of(quoted.kv_max, 100.0),
    }


def _answers(cell_id: str, dataset: str, accuracy: float | None) -> tuple[list[Record], list[Grade]]:
    """Grades that give the accuracy to a sixth of a point (AIME's to half of one): which questions are right
    is drawn for each cell, since it is not said."""
    if accuracy is None:
        return [], []
    questions = DATASETS[dataset]
    right = round(accuracy * questions * REPEATS)
    order = np.random.default_rng(list(cell_id.encode())).permutation(questions)
    answers = [(int(question), repeat) for question in order for repeat in range(REPEATS)]
    records = [_record(f"{dataset}-{question}", repeat) for question, repeat in answers]
    return records, [Grade("quoted", place < right) for place in range(len(answers))]


def _record(item_id: str, repeat: int) -> Record:
    """An answer without times."""
    return Record(
        request_id=f"{item_id}-{repeat}",
        item_id=item_id,
        repeat=repeat,
        prompt_sha256="",
        scheduled_s=0.0,
        sent_s=None,
        first_token_s=None,
        first_visible_s=None,
        last_token_s=None,
        end_s=0.0,  # of a request that was never sent: no time follows from it
        prompt_tokens=None,
        output_tokens=None,
        reasoning_tokens=None,
        cached_tokens=None,
        outcome="ok",
        finish_reason=None,
        error=None,
        http_status=None,
        chunk_s=np.array([]),
        chunk_tokens=None,
        chunk_reasoning=None,
        reasoning_text="",
        response_text="",
    )


def _samples(kv_max: float | None, running: float | None) -> list[Sample]:
    """The largest KV use as a level, since its way there is not said, and the requests after `LONG_S`."""
    if kv_max is None:
        return []
    start = None if running is None else 16.0
    return [Sample(0.0, kv_usage=kv_max, running=start), Sample(LONG_S, kv_usage=kv_max, running=running)]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("error: give the folder of results: python -m benchmarks.report.paper results")
    print(f"{len(list(store(Path(sys.argv[1]))))} cells in {Path(sys.argv[1]) / STUDY}")

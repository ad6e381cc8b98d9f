"""Lessons as packed rows of tokens, made on every core and the same on any number of them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator import worked
from training.settings import Settings

IGNORED = -100
SHARD = 8  # batches of one seed
_OPEN = 24  # examples to choose from when a row is filled

Example = tuple[list[int], list[int]]  # token ids, and what is learned of them
Batch = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]
"""Ids, labels and positions, each [rows, row]. Positions begin again with each example."""


def chat(tokenizer: Any, prompt: str) -> str:
    """The prompt as the chat template puts it."""
    messages = [{"role": "user", "content": prompt}]
    return str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


def example(tokenizer: Any, lesson: worked.Lesson, slips: bool) -> Example:
    """The prompt is not learned, nor are the slips unless ``slips``."""

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    parts = [(ids(chat(tokenizer, lesson.prompt)), False), (ids("<think>\n"), True)]
    parts += [(ids(piece.text), slips or not piece.slip) for piece in lesson.thought]
    parts.append((ids(f"\n</think>\n\n{lesson.reply}<|im_end|>"), True))
    tokens = [token for part, _ in parts for token in part]
    return tokens, [token if learned else IGNORED for part, learned in parts for token in part]


def batches(tokenizer: Any, settings: Settings, seed: int) -> Iterator[Batch]:
    made = (example(tokenizer, lesson, settings.slips) for lesson in worked.lessons(seed))
    fitting = (each for each in made if len(each[0]) <= settings.row)
    waiting = [next(fitting) for _ in range(_OPEN)]
    shape = (settings.tokens // settings.row, settings.row)
    while True:
        ids = np.full(shape, tokenizer.pad_token_id, np.int32)
        labels, positions = np.full(shape, IGNORED, np.int32), np.zeros(shape, np.int32)
        for row in range(shape[0]):
            filled = 0
            while (index := _next(waiting, settings.row - filled)) is not None:
                tokens, learned = waiting[index]
                waiting[index] = next(fitting)
                end = filled + len(tokens)
                ids[row, filled:end], labels[row, filled:end] = tokens, learned
                positions[row, filled:end] = np.arange(len(tokens))
                filled = end
        yield ids, labels, positions


def _next(waiting: list[Example], room: int) -> int | None:
    return next((index for index, (tokens, _) in enumerate(waiting) if len(tokens) <= room), None)


def make(tokenizer: Any, settings: Settings) -> list[Batch]:
    """A batch for every step. Before anything uses a GPU: processes are forked."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    shards = -(-settings.steps // SHARD)
    jobs = [(tokenizer, settings, settings.seed + shard) for shard in range(shards)]
    with multiprocessing.get_context("fork").Pool(min(shards, os.cpu_count() or 1)) as pool:
        return [batch for part in pool.imap(_shard, jobs) for batch in part][: settings.steps]


def _shard(job: tuple[Any, Settings, int]) -> list[Batch]:
    made = batches(*job)
    return [next(made) for _ in range(SHARD)]

"""What a simulated engine answers: as many synthetic words as are drawn, and at their end an answer that is
right with a given probability where the question is a sum, difference or product of two numbers.

A function of the request alone, so that the same request is answered alike whatever happened around it.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.engines.simulated.batching import BLOCK_TOKENS
from orchestrator.engines.simulated.settings import Settings

TOKEN_BYTES = 4  # of English, roughly
TEMPLATE_TOKENS = 8
MEAN_REASONING_TOKENS, MEAN_TOKENS = 600.0, 120.0
SPREAD = 0.5  # of the logarithm of the length
_WORDS = ("so", "then", "we", "take", "both", "numbers", "and", "check", "them", "once", "more", "carefully")
_SIGNS: tuple[tuple[re.Pattern[str], Callable[[int, int], int]], ...] = (
    (re.compile(r"\*|\btimes\b|\bwith\b.*\bin each\b"), lambda a, b: a * b),
    (re.compile(r" - |\bgives away\b|\bminus\b"), lambda a, b: a - b),
    (re.compile(r"\+|\bgets\b|\bbuys\b|\bplus\b"), lambda a, b: a + b),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """``tokens`` pieces of text, the first ``reasoning`` of them thought."""

    words: tuple[str, ...]
    reasoning: int
    truncated: bool

    def text(self, start: int, end: int) -> str:
        return "".join(self.words[start:end])


def prompt_of(body: dict[str, Any]) -> str:
    """The conversation as one text. Raises ValueError where there is none."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages: must be a list with at least one message")
    if not all(isinstance(one, dict) and isinstance(one.get("content"), str) for one in messages):
        raise ValueError("messages: each must have a text as its content")
    return "\n".join(f"<{one.get('role')}>{one['content']}" for one in messages)


def prompt_tokens(prompt: str) -> int:
    """Four bytes are taken for a token: there is no tokenizer."""
    return TEMPLATE_TOKENS + -(-len(prompt.encode()) // TOKEN_BYTES)


def prompt_blocks(prompt: str) -> list[int]:
    """One hash per full block of the prompt, each over all that precedes it."""
    text, size = prompt.encode(), BLOCK_TOKENS * TOKEN_BYTES
    running, blocks = hashlib.blake2b(digest_size=8), []
    for start in range(0, len(text) - size + 1, size):
        running.update(text[start : start + size])
        blocks.append(int.from_bytes(running.copy().digest(), "big"))
    return blocks


def answer(settings: Settings, body: dict[str, Any], request_id: str, prompt: str, max_tokens: int) -> Answer:
    """The answer to one request, at most ``max_tokens`` long; exactly so long with ``ignore_eos``. It follows
    from the prompt and the request's seed, or its id where it has none."""
    draw = random.Random(f"{body.get('seed', request_id)}\0{prompt}")
    right = draw.random() < settings.accuracy
    mean = settings.mean_output_tokens or (MEAN_REASONING_TOKENS if settings.reasoning else MEAN_TOKENS)
    length = round(math.exp(draw.gauss(math.log(mean) - SPREAD**2 / 2, SPREAD)))
    first = draw.randrange(len(_WORDS))
    ending = _ending(_solved(prompt), right)
    length = max(length, len(ending) + 1, int(body.get("min_tokens") or 0))
    if body.get("ignore_eos"):
        length = max_tokens
    filler = max(length - len(ending), 0)
    budget = thinking_budget(body)
    if settings.reasoning and budget is not None and not settings.ignore_thinking_budget:
        filler = min(filler, budget)
    thought = (_WORDS[(first + i) % len(_WORDS)] + " " for i in range(filler))
    words = (*thought, *ending[: length - filler])
    cut = words[:max_tokens]
    reasoning = min(filler, len(cut)) if settings.reasoning else 0
    return Answer(cut, reasoning, truncated=len(cut) < len(words) or bool(body.get("ignore_eos")))


def thinking_budget(body: dict[str, Any]) -> int | None:
    """After how many tokens of reasoning it is to end. Raises ValueError where that is no such number."""
    budget = body.get("thinking_token_budget")
    if budget is None or (isinstance(budget, int) and not isinstance(budget, bool) and budget >= 0):
        return budget
    raise ValueError(f"thinking_token_budget={budget}: must be a whole number from 0 up")


def _ending(solved: int | None, right: bool) -> Sequence[str]:
    given = (solved if right else solved + 1) if solved is not None else 0
    return ("The ", "answer ", "is ", f"\\boxed{{{given}}}", ".")


def _solved(prompt: str) -> int | None:
    """The last question with exactly two numbers, worked out; None where there is none that is known."""
    for paragraph in reversed(prompt.split("\n\n")):
        numbers = [int(found) for found in re.findall(r"\d+", paragraph)]
        if len(numbers) == 2:
            return next(
                (work(numbers[0], numbers[1]) for sign, work in _SIGNS if sign.search(paragraph)), None
            )
    return None

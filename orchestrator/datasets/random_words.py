"""Prompts of a known number of tokens and no meaning: for speed alone, with an empty reference answer.

Each word is one token, with the space before it, in the byte-level BPE vocabularies of today's models: a
prompt has ``dataset.prompt_tokens`` of them and what the chat template adds. What the server counted is
stored with each request.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence

from orchestrator.datasets.question import Family, Question, Row

VERSION = "random-1"
SIZE = 8192
DEFAULT_TOKENS = 256

_TEXT = """
the of and to in is that for it as was with be by on not he this are or his from at which but have an
had they you were their one all we can her has there been if more when will would who so no said what up
its about into than them only other time new some could these two may then do first any my now such like
our over man me even most made after also did many before must through back years where much your way
well down should because each just those people how too little state good very make world still see own
men work long here get both between life being under never day same another know while last might us
great old year off come since against go came right used take three number part water place small found
high four money house box car book tree school hand line end page point play name home sea food sun city
road king song light
"""
WORDS = tuple(_TEXT.split())


@functools.lru_cache(maxsize=4)
def rows(prompt_tokens: int) -> Sequence[Row]:
    """Only ``random()`` is drawn from: of a seeded generator's methods it alone is promised to give the same
    sequence in every Python version."""
    made = []
    for number in range(SIZE):
        draw = random.Random(f"{VERSION} {number}").random
        words = " ".join(WORDS[int(draw() * len(WORDS))] for _ in range(prompt_tokens))
        made.append({"id": f"{number:05d}", "text": " " + words})
    return made


def _question(row: Row) -> Question:
    return Question(row["id"], row["text"], "")


FAMILY = Family(
    fields=("id", "text"),
    question=_question,
    rows=lambda dataset: rows(dataset.prompt_tokens or DEFAULT_TOKENS),
    size=SIZE,
    version=VERSION,
)

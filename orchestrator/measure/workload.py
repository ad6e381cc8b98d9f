"""What a cell sends: the warm-up wave and the measured requests, rendered before the run."""

from __future__ import annotations

import itertools
import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from orchestrator import datasets
from orchestrator.cell import Cell
from orchestrator.config.schema import DatasetConfig, SweepConfig
from orchestrator.engines import ADAPTERS
from orchestrator.load import lengths
from orchestrator.load.arrivals import Schedule, draw
from orchestrator.load.render import render
from orchestrator.records import Item, Message, Request

WARMUP_TOKENS = 64  # long enough that every shape of the batch has been seen
WARMUP_MAX = 256


@dataclass(frozen=True)
class Workload:
    """``asked_tokens`` is how long each measured request's answer is made to be, by request; None where
    answers end by themselves. ``heads`` are two requests for one token, whose prompts begin with what the
    measured ones have in common and go on with words that nobody has sent."""

    items: Mapping[str, Item]
    warmup: tuple[Request, ...]
    requests: tuple[Request, ...]
    schedule: Schedule
    asked_tokens: Mapping[str, int] | None
    heads: tuple[Request, ...] = ()


def workload(cell: Cell, model: str) -> Workload:
    """``model`` is the name that the server knows it by. Repeats follow one another as whole passes over the
    items, so that they are spread over the run. Another run of the cell has the same questions and forced
    lengths, and draws its arrivals and its requests' seeds anew."""
    config, seed = cell.config, seed_of(cell)
    items = datasets.load(config.dataset, config.limit).items
    count = config.repeats * len(items)
    extra: dict[str, Any] = {}
    if config.model.chat_template_kwargs:
        extra["chat_template_kwargs"] = dict(config.model.chat_template_kwargs)
    if config.thinking_budget is not None:
        way = ADAPTERS.get(config.engine.name, ADAPTERS["vllm"]).thinking_budget  # others' servers: as vLLM's
        extra |= {} if way is None else way.fields(config.thinking_budget)
    forced = config.weights == "dummy"  # random weights end an answer anywhere: its length is forced instead
    if forced:
        # Without min_tokens: it changes nothing then, and costs the engine work in every step.
        extra["ignore_eos"] = True
        spec = config.output_length or config.max_tokens
        length = lengths.draw(spec, count, config.seed, config.max_tokens).tolist()
    else:
        length = [config.max_tokens] * count

    def rendered(name: str, item: Item, repeat: int, max_tokens: int) -> Request:
        return render(
            item,
            repeat=repeat,
            request_id=f"{cell.cell_id}-{name}-{repeat}",
            model=model,
            sampling=cell.facts.sampling,
            max_tokens=max_tokens,
            seed=seed,
            usage=config.load.usage,
            extra=extra,
        )

    requests = tuple(
        rendered(f"{index:05d}", item, repeat, length[repeat * len(items) + index])
        for repeat in range(config.repeats)
        for index, item in enumerate(items)
    )
    wave = config.load.warmup
    if wave is None:
        wave = min(WARMUP_MAX, len(requests), config.load.concurrency or config.load.batch_size or 64)
    short = min(max(length), WARMUP_TOKENS)
    others = _unmeasured(config, items, wave)
    alike = items if len(items) > 1 else [*items, *others]  # a single one would share all of itself
    asked = dict(zip((request.request_id for request in requests), length, strict=True))
    return Workload(
        items={item.item_id: item for item in items},
        warmup=tuple(rendered(f"warmup-{index:05d}", item, 0, short) for index, item in enumerate(others)),
        requests=requests,
        schedule=draw(config.load, len(requests), seed),
        asked_tokens=asked if forced else None,
        heads=tuple(rendered(f"head-{number}", _head(alike, number), 0, 1) for number in range(2)),
    )


def seed_of(cell: Cell) -> int:
    """What a run draws with: the first with the cell's seed itself, a further one with a number that no other
    seed's runs share."""
    if cell.run == 1:
        return cell.config.seed
    return int(np.random.SeedSequence((cell.config.seed, cell.run)).generate_state(1)[0])


def _head(items: Sequence[Item], number: int) -> Item:
    """An item whose messages begin as those of all ``items`` do."""
    shared: list[Message] = []
    for messages in zip(*(item.messages for item in items), strict=False):
        if any(one != messages[0] for one in messages):
            break
        shared.append(messages[0])
    following = [item.messages[len(shared)] for item in items if len(item.messages) > len(shared)]
    begun = _common_start([one["content"] for one in following])
    message = {"role": following[0]["role"] if following else "user", "content": begun + uuid.uuid4().hex}
    return replace(items[0], item_id=f"head-{number}", messages=(*shared, message))


def _common_start(texts: Sequence[str]) -> str:
    least, most = min(texts, default=""), max(texts, default="")
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(least, most, strict=False))
    return "".join(one for one, _ in same)


def _unmeasured(config: SweepConfig, measured: Sequence[Item], count: int) -> list[Item]:
    """``count`` distinct items outside the measured ones: of the dataset where it has more, else sums."""
    taken = {item.item_id for item in measured}
    rest: list[Item] = []
    if config.limit is not None:
        more = datasets.load(config.dataset, config.limit + count).items
        rest = [item for item in more if item.item_id not in taken][:count]
    if len(rest) < count:
        sums = datasets.load(DatasetConfig(name="arithmetic", prompt=config.dataset.prompt), None).items
        others = [item for item in sums if item.item_id not in taken]
        rest += random.Random(0).sample(others, min(count - len(rest), len(others)))
    return rest

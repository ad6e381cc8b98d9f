"""Continuous batching, step by step, as vLLM's scheduler does it: running requests first, one token each or
the next chunk of their prompt; then waiting ones, first come first served, while the step's token budget and
the KV cache last; when the cache runs out, the youngest running request loses its blocks and starts over.

Pure: no clock, no input or output. `Batch.step` says how long the step takes and who got a token.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.engines.simulated.latency import GIB, REQUEST_S, step_s
from orchestrator.engines.simulated.settings import Settings

BLOCK_TOKENS = 16


@dataclass(slots=True, eq=False)
class Stream:
    """One request. ``prompt`` is its length in tokens, ``blocks`` the hashes of its full blocks (none without
    prefix caching), ``length`` how many tokens it will get. The rest is the batch's."""

    prompt: int
    length: int
    blocks: Sequence[int] = ()
    generated: int = 0
    cached: int | None = None  # prompt tokens found in the cache when it was first admitted
    submitted_s: float = 0.0  # by the batch's clock, as the next two
    admitted_s: float = 0.0
    first_s: float = 0.0
    computed: int = 0
    shared: list[int] = field(default_factory=list)  # blocks held by hash
    own: int = 0  # blocks held beside them


@dataclass(frozen=True, slots=True)
class Step:
    """``produced`` got one token each; those of them that are complete have left the batch."""

    duration_s: float
    produced: tuple[Stream, ...]


class Batch:
    """The engine's state between two steps."""

    def __init__(self, settings: Settings, gpus: int) -> None:
        self.settings = settings
        self.gpus = gpus
        self.capacity = int(settings.kv_gib * GIB / settings.kv_bytes_per_token) // BLOCK_TOKENS
        self.running: list[Stream] = []
        self.waiting: deque[Stream] = deque()
        self.preemptions = 0
        self.queried_tokens = 0
        self.hit_tokens = 0
        self.prompt_tokens = 0
        self.generated_tokens = 0
        self.busy_s = 0.0  # all steps: the clock that queueing and prefill are measured on
        self.finished = 0
        self.queue_s = 0.0  # of the finished ones, from submission to the first step with them
        self.prefill_s = 0.0  # from there to their first token
        self._taken_in = 0.0  # requests that the front end could take in during the last step
        self._own = 0
        self._held: dict[int, int] = {}  # hash -> how many hold it
        self._kept: OrderedDict[int, None] = OrderedDict()  # held by nobody, oldest first

    @property
    def idle(self) -> bool:
        return not self.running and not self.waiting

    @property
    def usage(self) -> float:
        """The share of blocks that requests hold."""
        return (self._own + len(self._held)) / self.capacity if self.capacity else 1.0

    def fits(self, tokens: int) -> bool:
        """Whether a request of so many tokens can ever be served."""
        return -(-tokens // BLOCK_TOKENS) <= self.capacity

    def submit(self, stream: Stream) -> None:
        """What comes during a step waits from the step's end on."""
        stream.submitted_s = self.busy_s
        self.waiting.append(stream)

    def cancel(self, stream: Stream) -> None:
        """Takes a request out, wherever it is."""
        if stream in self.running:
            self.running.remove(stream)
        elif stream in self.waiting:
            self.waiting.remove(stream)
        self._release(stream)

    def reset_cache(self) -> bool:
        """Whether the prefix cache is empty now: not while requests hold blocks."""
        if self._held or self._own:
            return False
        self._kept.clear()
        return True

    def step(self) -> Step:
        """Schedules one step and carries it out. Never empty while the batch is not `idle`."""
        budget, preempted = self.settings.max_num_batched_tokens, False
        scheduled: list[tuple[Stream, int]] = []
        position = 0
        while position < len(self.running) and budget:
            stream = self.running[position]
            tokens = min(_missing(stream), budget)
            while not self._grow(stream, tokens):
                preempted = True
                self._preempt(self.running.pop())
                if position == len(self.running):  # it was itself the youngest
                    break
            else:
                scheduled.append((stream, tokens))
                budget -= tokens
                position += 1
        new = max(self._taken_in, 0.0 if self.running else 1.0)
        while not preempted and self.waiting and budget and len(self.running) < self.settings.max_num_seqs:
            stream = self.waiting[0]
            if stream.cached is None and new < 1:
                break
            self._find(stream)
            found, tokens = stream.computed, min(_missing(stream), budget)
            if not self._grow(stream, tokens):
                self._release(stream)
                break
            if stream.cached is None:
                new -= 1
                stream.admitted_s = self.busy_s
                stream.cached = found
                if self.settings.enable_prefix_caching:
                    self.queried_tokens += stream.prompt
                    self.hit_tokens += found
            self.running.append(self.waiting.popleft())
            scheduled.append((stream, tokens))
            budget -= tokens
        step = self._carry_out(scheduled)
        self._taken_in = min(max(new, 0.0), 1.0) + step.duration_s / REQUEST_S
        return step

    def _carry_out(self, scheduled: list[tuple[Stream, int]]) -> Step:
        produced, new, context = [], 0, 0
        for stream, tokens in scheduled:
            stream.computed += tokens
            new += tokens
            context += stream.computed
        duration_s = step_s(self.settings, self.gpus, new, context, len(scheduled))
        self.busy_s += duration_s
        for stream, _ in scheduled:
            if stream.computed == stream.prompt + stream.generated:
                if not stream.generated:
                    self.prompt_tokens += stream.prompt
                    stream.first_s = self.busy_s
                stream.generated += 1
                produced.append(stream)
        self.generated_tokens += len(produced)
        finished = {id(stream) for stream in produced if stream.generated >= stream.length}
        if finished:
            for stream in produced:
                if id(stream) in finished:
                    self._count(stream)
                    self._release(stream)
            self.running = [stream for stream in self.running if id(stream) not in finished]
        return Step(duration_s, tuple(produced))

    def _count(self, stream: Stream) -> None:
        self.finished += 1
        self.queue_s += stream.admitted_s - stream.submitted_s
        self.prefill_s += stream.first_s - stream.admitted_s

    def _find(self, stream: Stream) -> None:
        """Takes what the cache has of its prompt, except for the last token, which gives the next one."""
        for block in stream.blocks[: (stream.prompt - 1) // BLOCK_TOKENS]:
            if block not in self._held and block not in self._kept:
                break
            self._hold(stream, block)
        stream.computed = len(stream.shared) * BLOCK_TOKENS

    def _grow(self, stream: Stream, tokens: int) -> bool:
        """Gives it the blocks for ``tokens`` more, or nothing where there are not enough."""
        after = stream.computed + tokens
        blocks = -(-after // BLOCK_TOKENS)
        if (more := blocks - len(stream.shared) - stream.own) <= 0:
            return True
        if more > self._room():
            return False
        for block in stream.blocks[len(stream.shared) : after // BLOCK_TOKENS]:
            self._hold(stream, block)
        own = blocks - len(stream.shared)
        self._own += own - stream.own
        stream.own = own
        while len(self._kept) > self._room():
            self._kept.popitem(last=False)
        return True

    def _room(self) -> int:
        return self.capacity - self._own - len(self._held)

    def _hold(self, stream: Stream, block: int) -> None:
        self._kept.pop(block, None)
        self._held[block] = self._held.get(block, 0) + 1
        stream.shared.append(block)

    def _release(self, stream: Stream) -> None:
        self._own -= stream.own
        for block in reversed(stream.shared):  # the end of a prompt is the least likely to come again
            self._held[block] -= 1
            if not self._held[block]:
                del self._held[block]
                self._kept[block] = None
        stream.own, stream.computed = 0, 0
        stream.shared.clear()

    def _preempt(self, stream: Stream) -> None:
        self._release(stream)
        self.waiting.appendleft(stream)
        self.preemptions += 1


def _missing(stream: Stream) -> int:
    """Tokens still to be computed before its next one."""
    return stream.prompt + stream.generated - stream.computed

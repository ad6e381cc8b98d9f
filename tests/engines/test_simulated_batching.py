from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engines.simulated.answers import prompt_blocks
from orchestrator.engines.simulated.batching import BLOCK_TOKENS, Batch, Stream
from orchestrator.engines.simulated.latency import GIB, step_s
from orchestrator.engines.simulated.settings import Settings

SETTINGS = Settings(
    weights_gib=14.2,
    parameters_b=7.6,
    kv_bytes_per_token=57344.0,
    kv_gib=110.0,
    bandwidth_gb_s=4800.0,
    bf16_tflops=989.0,
)


def with_room(tokens: int) -> Settings:
    return replace(SETTINGS, kv_gib=tokens * SETTINGS.kv_bytes_per_token / GIB)


def to_the_end(batch: Batch, limit: int = 100_000) -> list[tuple[float, tuple[Stream, ...]]]:
    """Every step's duration and who got a token."""
    steps = []
    while not batch.idle:
        step = batch.step()
        assert 0 <= batch.usage <= 1
        steps.append((step.duration_s, step.produced))
        assert len(steps) < limit
    return steps


def steps_of(batch: Batch, stream: Stream) -> int:
    batch.submit(stream)
    return len(to_the_end(batch))


@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 60), st.integers(0, 3)), min_size=1, max_size=20),
    st.integers(360, 2000),
    st.integers(16, 512),
    st.booleans(),
)
def test_every_request_gets_its_tokens_and_nothing_is_left_behind(
    requests: list[tuple[int, int, int]], room: int, budget: int, caching: bool
) -> None:
    settings = replace(
        with_room(room + BLOCK_TOKENS), max_num_batched_tokens=budget, enable_prefix_caching=caching
    )
    batch = Batch(settings, 1)
    streams = [
        Stream(prompt, length, [1000 * family + i for i in range(prompt // BLOCK_TOKENS)] if caching else ())
        for prompt, length, family in requests
    ]
    for stream in streams:
        batch.submit(stream)
    given = [stream for _, produced in to_the_end(batch) for stream in produced]
    assert [given.count(stream) for stream in streams] == [stream.length for stream in streams]
    assert batch.generated_tokens == sum(stream.length for stream in streams)
    assert batch.prompt_tokens == sum(stream.prompt for stream in streams)
    assert batch.usage == 0
    assert batch.reset_cache()


def test_a_prompt_beyond_the_budget_is_computed_in_chunks() -> None:
    batch = Batch(replace(SETTINGS, max_num_batched_tokens=512), 1)
    assert steps_of(batch, Stream(4096, 1)) == 8
    assert steps_of(Batch(SETTINGS, 1), Stream(4096, 1)) == 1


def test_when_the_cache_runs_out_the_youngest_starts_over_and_still_ends() -> None:
    batch = Batch(with_room(512), 1)
    old, young = Stream(200, 200), Stream(200, 200)
    batch.submit(old)
    batch.submit(young)
    order = [stream for _, produced in to_the_end(batch) for stream in produced]
    assert batch.preemptions > 0
    assert order.count(young) == young.length
    assert order.index(old) < order.index(young)
    assert max(i for i, one in enumerate(order) if one is old) < max(
        i for i, one in enumerate(order) if one is young
    )


def test_requests_without_room_wait_their_turn() -> None:
    batch = Batch(with_room(256), 1)
    for _ in range(3):
        batch.submit(Stream(200, 10))
    batch.step()
    assert len(batch.running) == 1
    assert len(batch.waiting) == 2


def test_a_repeated_prompt_is_found_in_the_cache_until_that_is_reset() -> None:
    settings = replace(SETTINGS, enable_prefix_caching=True)
    batch = Batch(settings, 1)
    blocks = prompt_blocks("x" * 4 * 330)

    def asked() -> int | None:
        stream = Stream(330, 5, blocks)
        batch.submit(stream)
        to_the_end(batch)
        return stream.cached

    assert [asked(), asked()] == [0, 320]  # 20 full blocks
    assert (batch.queried_tokens, batch.hit_tokens) == (660, 320)
    batch.submit(running := Stream(330, 5, blocks))
    batch.step()
    assert not batch.reset_cache()
    batch.cancel(running)
    assert batch.reset_cache()
    assert asked() == 0


def test_the_last_token_of_a_prompt_is_never_taken_from_the_cache() -> None:
    batch = Batch(replace(SETTINGS, enable_prefix_caching=True), 1)
    blocks = list(range(20))
    for expected in (0, 19 * BLOCK_TOKENS):
        batch.submit(stream := Stream(20 * BLOCK_TOKENS, 2, blocks))
        to_the_end(batch)
        assert stream.cached == expected


def test_without_prefix_caching_nothing_is_looked_up() -> None:
    batch = Batch(SETTINGS, 1)
    for _ in range(2):
        batch.submit(Stream(330, 5))
        to_the_end(batch)
    assert batch.queried_tokens == batch.hit_tokens == 0


def test_a_cancelled_request_gives_its_blocks_back() -> None:
    batch = Batch(SETTINGS, 1)
    batch.submit(running := Stream(100, 50))
    batch.step()
    batch.submit(waiting := Stream(100, 50))
    assert batch.usage > 0
    batch.cancel(running)
    batch.cancel(waiting)
    assert batch.idle
    assert batch.usage == 0


@given(st.integers(1, 512), st.integers(0, 100_000), st.integers(1, 512))
def test_more_work_never_takes_less_time_and_more_gpus_never_more(new: int, context: int, count: int) -> None:
    base = step_s(SETTINGS, 1, new, context, count)
    assert step_s(SETTINGS, 1, new + 100, context, count) >= base
    assert step_s(SETTINGS, 1, new, context + 10_000, count) >= base
    assert step_s(SETTINGS, 1, new, context, count + 100) >= base
    assert step_s(SETTINGS, 2, new, context, count) <= base
    assert step_s(replace(SETTINGS, weights_gib=7.1), 1, new, context, count) <= base


def test_queue_and_prefill_are_counted_by_the_batchs_own_clock() -> None:
    """The second has to wait until the first has all its tokens, and its prompt takes two steps."""
    batch = Batch(replace(SETTINGS, max_num_seqs=1, max_num_batched_tokens=512), 1)
    first, second = Stream(16, 20), Stream(1024, 3)
    batch.submit(first)
    batch.submit(second)
    durations = [duration_s for duration_s, _ in to_the_end(batch)]
    assert batch.finished == 2
    assert batch.busy_s == pytest.approx(sum(durations))
    assert batch.queue_s == pytest.approx(sum(durations[:20]))
    assert batch.prefill_s == pytest.approx(durations[0] + sum(durations[20:22]))


def test_who_goes_away_is_not_counted() -> None:
    batch = Batch(SETTINGS, 1)
    stream = Stream(16, 20)
    batch.submit(stream)
    batch.step()
    batch.cancel(stream)
    assert (batch.finished, batch.queue_s, batch.prefill_s) == (0, 0.0, 0.0)

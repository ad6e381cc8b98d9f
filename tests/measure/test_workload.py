"""What a cell sends (`orchestrator.measure.workload`): measured requests, the wave before them, lengths."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cell import Cell, make_cell, sampling
from orchestrator.load.arrivals import Closed, Open
from orchestrator.measure.workload import WARMUP_MAX, WARMUP_TOKENS, Workload, workload
from orchestrator.records import Request
from tests.cluster.plans import FACTS
from tests.support.compose import config_of

SUMS = ("dataset=arithmetic", "limit=6", "load=closed", "load.concurrency=4", "max_tokens=100")


def cell(*overrides: str) -> Cell:
    config = config_of(*SUMS, *overrides)
    return make_cell(config, replace(FACTS, sampling=sampling(config)), overrides)


def work_of(*overrides: str) -> Workload:
    return workload(cell(*overrides), "served-name")


def body(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.body)
    return found


def asked(requests: tuple[Request, ...]) -> list[int]:
    return [body(one)["max_tokens"] for one in requests]


def test_repeats_are_whole_passes_over_the_items_in_one_order() -> None:
    once, thrice = work_of(), work_of("repeats=3")
    order = [one.item_id for one in once.requests]
    assert len(set(order)) == 6
    assert list(once.items) == list(thrice.items) == order
    assert [(one.repeat, one.item_id) for one in thrice.requests] == [
        (repeat, item_id) for repeat in range(3) for item_id in order
    ]
    assert len({one.request_id for one in (*thrice.requests, *thrice.warmup)}) == 18 + 4
    assert all(one.request_id.startswith(f"{cell('repeats=3').cell_id}-") for one in thrice.requests)


def test_a_request_asks_the_servers_model_for_its_own_item() -> None:
    work = work_of("repeats=2")
    for one in work.requests:
        sent = body(one)
        assert sent["model"] == "served-name"
        assert sent["messages"] == list(work.items[one.item_id].messages)
        assert sent["max_tokens"] == 100


def test_a_seeded_repeat_has_a_seed_of_its_own() -> None:
    seeds = [body(one)["seed"] for one in work_of("repeats=3", "sampling.seeded=true").requests]
    assert len(set(seeds)) == 18


def test_what_the_template_is_told_is_told_in_every_request() -> None:
    work = work_of("+model.chat_template_kwargs.enable_thinking=false")
    for one in (*work.requests, *work.warmup):
        assert body(one)["chat_template_kwargs"] == {"enable_thinking": False}
    assert not any("chat_template_kwargs" in body(one) for one in work_of().requests)


def warmed(work: Workload) -> list[str]:
    """The items of the wave, of which none is sent twice and none is measured."""
    sent = [one.item_id for one in work.warmup]
    messages = [json.dumps(body(one)["messages"]) for one in (*work.warmup, *work.requests)]
    assert len(set(sent)) == len(sent)
    assert not set(sent) & set(work.items)
    assert len(set(messages)) == len(work.warmup) + len(work.items)
    return sent


@pytest.mark.parametrize(
    ("overrides", "wave"),
    [
        ((), 4),
        (("load.concurrency=2",), 2),
        (("load.concurrency=64",), 6),  # no larger than what is measured
        (("load.concurrency=64", "repeats=2"), 12),
        (("load=batch", "load.batch_size=3", "load.concurrency=null"), 3),
        (("load.warmup=0",), 0),
        (("load.warmup=9",), 9),
        (("limit=200", "repeats=2", "load.concurrency=300"), WARMUP_MAX),
    ],
)
def test_the_wave_is_of_distinct_items_that_are_not_measured(overrides: tuple[str, ...], wave: int) -> None:
    assert len(warmed(work_of(*overrides))) == wave


def test_the_wave_is_of_sums_where_the_dataset_has_no_more(tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    rows = [{"question": f"How many are {number} apples?", "answer": f"#### {number}"} for number in range(5)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = ("dataset=gsm8k", f"dataset.path={file}", "load.warmup=4")
    for limit, sums in (("limit=null", 4), ("limit=5", 4), ("limit=3", 2)):
        work = work_of(*own, limit)
        warmed(work)
        questions = [body(one)["messages"][-1]["content"] for one in work.warmup]
        assert sum("apples" not in one for one in questions) == sums
    assert work_of(*own, "limit=3").warmup == work_of(*own, "limit=3").warmup


@pytest.mark.parametrize(("most", "short"), [(16, 16), (WARMUP_TOKENS + 1, WARMUP_TOKENS)])
def test_an_answer_of_the_wave_is_short(most: int, short: int) -> None:
    assert set(asked(work_of(f"max_tokens={most}").warmup)) == {short}


def test_lengths_are_forced_on_random_weights_alone() -> None:
    plain, forced = work_of("repeats=2"), work_of("repeats=2", "weights=dummy")
    assert plain.asked_tokens is None
    assert not any("ignore_eos" in body(one) for one in (*plain.requests, *plain.warmup))
    assert all(body(one)["ignore_eos"] for one in (*forced.requests, *forced.warmup))
    assert not any("min_tokens" in body(one) for one in forced.requests)
    assert forced.asked_tokens == dict.fromkeys((one.request_id for one in forced.requests), 100)
    assert asked(forced.requests) == [100] * 12


def test_drawn_lengths_are_what_each_request_is_asked_for() -> None:
    drawn = ("weights=dummy", "output_length=uniform:5:90", "limit=50", "repeats=2")
    work = work_of(*drawn)
    assert work.asked_tokens is not None
    assert [work.asked_tokens[one.request_id] for one in work.requests] == asked(work.requests)
    assert len(work.asked_tokens) == 100
    assert set(asked(work.requests)) <= set(range(5, 91))
    assert asked(work.requests)[:50] != asked(work.requests)[50:], "each pass has its own"
    assert asked(work_of(*drawn).requests) == asked(work.requests)
    assert asked(work_of(*drawn, "seed=1").requests) != asked(work.requests)
    assert max(asked(work_of(*drawn, "max_tokens=20").requests)) == 20
    assert set(asked(work_of(*drawn, "output_length=uniform:5:9").warmup)) == {
        max(asked(work_of(*drawn, "output_length=uniform:5:9").requests))
    }


def test_a_further_run_has_the_same_questions_and_lengths_and_draws_anew() -> None:
    drawn = (
        "load=poisson",
        "load.rate=5",
        "sampling.seeded=true",
        "weights=dummy",
        "output_length=uniform:5:90",
    )
    config = config_of(*SUMS, *drawn)
    facts = replace(FACTS, sampling=sampling(config))
    works = [workload(make_cell(config, facts, (), run), "served-name") for run in (1, 2, 3, 2)]
    schedules = [one.schedule for one in works]
    assert all(isinstance(one, Open) for one in schedules)
    times = [tuple(one.times_s) for one in schedules if isinstance(one, Open)]
    seeds = [tuple(body(one)["seed"] for one in work.requests) for work in works]
    assert len(set(times)) == len(set(seeds)) == 3
    assert (times[1], seeds[1]) == (times[3], seeds[3])
    assert len({tuple(one.prompt_sha256 for one in work.requests) for work in works}) == 1
    assert len({tuple(asked(work.requests)) for work in works}) == 1
    other = config_of(*SUMS, *drawn, "seed=1")
    after = workload(make_cell(other, facts, ()), "served-name").schedule
    assert isinstance(after, Open)
    assert tuple(after.times_s) not in times, "another seed's first run is nobody's second"


def test_the_schedule_has_a_place_for_every_request() -> None:
    assert work_of("repeats=2").schedule == Closed(4)
    schedule = work_of("repeats=2", "load=poisson", "load.rate=5").schedule
    assert isinstance(schedule, Open)
    assert len(schedule.times_s) == 12
    assert all(earlier <= later for earlier, later in pairwise(schedule.times_s))


def test_heads_begin_as_all_prompts_do_and_go_on_with_what_nobody_sent() -> None:
    for shots in ("dataset.shots=0", "dataset.shots=3"):
        work = work_of(shots)
        first, second = ([one["content"] for one in body(head)["messages"]] for head in work.heads)
        prompts = [one.messages[-1]["content"] for one in work.items.values()]
        shared = next(n for n in range(9999) if len({prompt[: n + 1] for prompt in prompts}) > 1)
        assert len(first) == len(second) == 1
        assert first[0][:shared] == second[0][:shared] == prompts[0][:shared]
        assert first[0][shared : shared + 8] != second[0][shared : shared + 8]
        assert asked(work.heads) == [1, 1]
        assert work_of(shots).heads != work.heads, "another cell's were seen by an earlier one's server"
    assert shared > 50, "worked examples"


def test_a_single_question_is_not_all_shared() -> None:
    work = work_of("limit=1")
    (item,) = work.items.values()
    assert not any(item.messages[-1]["content"] in str(body(head)["messages"]) for head in work.heads)

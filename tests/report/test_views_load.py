"""Optimizations by model size, requests at once, arrivals: what is drawn, and what the sentence says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.report.build import find
from orchestrator.report.names import Names
from orchestrator.report.options import Options
from orchestrator.report.theme import Figure, specification, svg
from orchestrator.report.variants import sort_out
from orchestrator.report.views.by_size import by_size
from orchestrator.report.views.loads import arrivals, in_flight
from tests.report.studies import Planted, runs_of

pytestmark = pytest.mark.slow

BASE = Planted(runs=8, items=12)
LARGE = BASE.but(model="r1-32b", parameters_b=32.8)
SINGLE = Planted(runs=1, items=12)


def sized(planted: Sequence[Planted], **options: Any) -> Figure | None:
    found = find(runs_of(planted), Options(**options))
    figure = by_size(found.lines, found.names)
    assert figure is None or svg(specification(figure))
    return figure


def fp8(of: Planted, **changes: Any) -> Planted:
    return of.but(opt=("fp8",), **changes)


@pytest.mark.parametrize(
    ("small", "large", "said"),
    [
        (0.024, 0.016, "Choose by size: fp8 on r1-32b higher by 2"),
        (0.02, 0.016, "Take what gains tokens/s for certain: fp8 on r1-32b higher by 2"),
        (0.024, 0.02, "Leave it out where it costs tokens/s: fp8 on r1-7b lower by 1"),
        (0.02, 0.02, "at no size does any of them change tokens/s beyond the margin"),
    ],
)
def test_an_optimization_that_depends_on_the_size_is_told(small: float, large: float, said: str) -> None:
    figure = sized([BASE, LARGE, fp8(BASE, tpot_s=small), fp8(LARGE, tpot_s=large)])
    assert figure is not None
    assert said in figure.advice
    rows = {row["size_b"]: row for row in figure.rows if row["measure"] == "throughput"}
    assert rows[7.6]["value"] == pytest.approx(100 * (0.02 / small - 1), abs=3)
    assert rows[32.8]["value"] == pytest.approx(100 * (0.02 / large - 1), abs=3)


def test_kinds_of_models_are_apart_and_of_one_size_there_is_no_view() -> None:
    standard = LARGE.but(kind="standard", model="qwen2.5-32b")
    assert sized([BASE, fp8(BASE), standard, fp8(standard)]) is None  # one size of each kind
    figure = sized([BASE, fp8(BASE), LARGE, fp8(LARGE), standard, fp8(standard)])
    assert figure is not None
    assert {(row["kind"], row["joined"]) for row in figure.rows} == {("reasoning", True), ("standard", False)}


def test_two_deployments_of_one_size_are_not_joined_to_a_zigzag() -> None:
    two = BASE.but(gpus=2)
    figure = sized([BASE, fp8(BASE), LARGE, fp8(LARGE), two, fp8(two)])
    assert figure is not None
    assert {(row["size_b"], row["gpus"], row["joined"]) for row in figure.rows} == {
        *((7.6, "1", True), (32.8, "1", True), (7.6, "2", False))
    }


def test_a_baseline_on_other_gpus_is_no_effect_of_the_optimization() -> None:
    figure = sized([BASE, fp8(BASE), LARGE.but(gpus=2), fp8(LARGE)])
    assert figure is None  # at the larger size the baseline needed a second GPU


def test_with_one_run_nothing_is_decided_by_size() -> None:
    of = [one.but(runs=1) for one in (BASE, LARGE)]
    figure = sized([*of, *(fp8(one, tpot_s=0.01) for one in of)])
    assert figure is not None
    assert figure.advice.startswith("Decide nothing by size yet")
    assert "runs=" in figure.advice


def flight(rates: dict[int, float], **changes: Any) -> Figure | None:
    """Of one configuration with these tokens/s at so many in flight."""
    planted = [
        SINGLE.but(concurrency=at, changes=(("output_token_per_s", rate), *changes.items()))
        for at, rate in rates.items()
    ]
    variants, _ = sort_out(runs_of(planted))
    figure = in_flight(variants, Names(variants))
    assert figure is None or svg(specification(figure))
    return figure


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({8: 100.0, 16: 190.0, 32: 200.0, 64: 210.0}, "Stop at about 16 at once"),
        ({8: 100.0, 32: 119.0}, "Stop at about 8 at once"),  # two doublings: 9.1 % each
        ({8: 100.0, 32: 122.0}, "Measure more than 32 at once"),
        ({8: 100.0, 16: 80.0}, "16 change tokens/s by −20.0 %"),
    ],
)
def test_where_more_at_once_gives_little_more(rates: dict[int, float], said: str) -> None:
    figure = flight(rates)
    assert figure is not None
    assert said in figure.advice
    assert [row["x"] for row in figure.rows] == list(rates)


def test_of_several_runs_no_other_is_asked_for() -> None:
    variants, _ = sort_out(runs_of([SINGLE.but(runs=2), SINGLE.but(runs=2, concurrency=64)]))
    figure = in_flight(variants, Names(variants))
    assert figure is not None
    assert "measure again" not in figure.advice
    once = flight({8: 100.0, 16: 80.0})
    assert once is not None
    assert "measure again" in once.advice


def test_requests_at_once_are_per_gpu_need_two_and_what_is_missing_is_not_zero() -> None:
    assert flight({8: 100.0}) is None
    assert flight({8: 100.0, 16: 200.0}, status="invalid") is None
    figure = flight({8: 100.0, 16: 200.0}, gpus=4, e2e_s_mean=None)
    assert figure is not None
    assert [row["rate"] for row in figure.rows] == [25, 50]
    assert {row["e2e"] for row in figure.rows} == {None}
    assert figure.advice.startswith("Measure tokens/s and E2E")


def test_batches_and_closed_loads_are_not_one_line() -> None:
    batch = [
        SINGLE.but(load="batch", changes=(("concurrency", None), ("batch_size", at), ("cell_id", f"b{at}")))
        for at in (8, 16)
    ]
    variants, _ = sort_out(runs_of([SINGLE, *batch]))
    figure = in_flight(variants, Names(variants))
    assert figure is not None
    assert {row["x"] for row in figure.rows} == {8, 16}
    assert {row["setting"] for row in figure.rows} == {"math500 · batch"}


Offered = tuple[float, float, dict[str, Any]]  # rate, burstiness, further columns


def opened(*offered: Offered, **options: Any) -> dict[str, Figure]:
    planted = [
        SINGLE.but(
            load="gamma",
            changes=(
                *(("concurrency", None), ("request_rate", rate), ("burstiness", burst)),
                *(("cell_id", f"{rate}-{burst}"), *more.items()),
            ),
        )
        for rate, burst, more in offered
    ]
    variants, _ = sort_out(runs_of(planted))
    found = {figure.name: figure for figure in arrivals(variants, Names(variants), Options(**options))}
    assert all(svg(specification(figure)) for figure in found.values())
    return found


def met(share: float) -> dict[str, Any]:
    return {"slo_ttft_s": 1.0, "slo_attainment": share, "goodput_per_s": share}


@pytest.mark.parametrize(
    ("offered", "said"),
    [
        (
            [(1, 1, {}), (2, 1, {}), (4, 1, {"flags": ["behind"]})],
            "at most 2 requests/s, the highest rate",
        ),
        ([(1, 1, met(0.99)), (2, 1, met(0.7)), (4, 1, met(0.95))], "at 2 it met the limits for only 70.0 %."),
        ([(1, 1, met(0.99)), (2, 1, met(0.99) | {"flags": ["behind"]})], "at 2 it fell behind."),
        (
            [(1, 1, {"flags": ["behind"]}), (2, 1, {})],
            "or add GPUs: already there vllm · no optimization (math500) fell behind",
        ),
        ([(1, 1, {}), (2, 1, {})], "Measure above 2 requests/s"),
    ],
)
def test_the_highest_rate_that_was_kept_up_with(offered: list[Offered], said: str) -> None:
    assert said in opened(*offered)["arrivals-rate"].advice


def test_the_share_that_must_meet_the_limits_is_the_one_asked_for() -> None:
    figure = opened((1, 1, met(0.99)), (2, 1, met(0.7)), slo_attainment=0.6)["arrivals-rate"]
    assert "met the limits for 60 % of the requests at every rate" in figure.advice


def test_goodput_without_limits_is_not_drawn() -> None:
    without = {"goodput_per_s": 3.0, "slo_attainment": 1.0}
    figure = opened((1, 1, without), (2, 1, without))["arrivals-rate"]
    assert {row["goodput"] for row in figure.rows} == {None}


def test_what_bursts_cost_is_told_and_each_view_needs_two_values() -> None:
    calm, bursty = {"ttft_s_p50": 0.5}, {"ttft_s_p50": 1.5}
    found = opened((1, 1, calm), (1, 0.25, bursty))
    assert set(found) == {"arrivals-burst"}
    assert found["arrivals-burst"].advice == (
        "Size for the bursts that you have, since burstiness 0.25 instead of 1 changes the median TTFT of "
        "vllm · no optimization (math500) by +200 % (0.50 to 1.50 s), from a single run, so measure again "
        "before you build on it."
    )
    same = opened((1, 1, calm), (1, 0.25, calm))
    assert same["arrivals-burst"].advice.startswith("Bursts need no room of their own here")
    assert opened((1, 1, {})) == {}

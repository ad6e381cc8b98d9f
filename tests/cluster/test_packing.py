from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.schedule.sets import Shape, draw
from benchmarks.schedule.simulate import Simulation, bound_s
from orchestrator.cluster.packing import (
    Need,
    Node,
    Promise,
    Running,
    Serving,
    Start,
    Waiting,
    decide,
    longest_first,
    widen,
)

GPUS = {size: Need(gpus=size, cpus=1.0) for size in (1, 2, 4, 8)}
TWO_NODES = Need(gpus=8, cpus=1.0, nodes=2)


def node(name: str, gpus: float = 8, gpu_type: str = "H200") -> Node:
    return Node(name, gpus, 64.0, frozenset({gpu_type}))


def wait(key: str, need: Need, estimated_s: float | None = 100.0) -> Waiting:
    return Waiting(key, need, estimated_s)


def test_the_longest_comes_first_and_one_nobody_can_tell_before_it() -> None:
    order = longest_first([wait("a", GPUS[1], 10), wait("b", GPUS[1], None), wait("c", GPUS[1], 20)])
    assert [one.key for one in order] == ["b", "c", "a"]


def test_small_ones_fill_broken_nodes_so_that_whole_nodes_stay_whole() -> None:
    nodes = [node("whole"), node("broken", 3)]
    starts, _ = decide([wait("a", GPUS[2]), wait("b", GPUS[8])], [], nodes, 0.0)
    assert starts == [Start("a", ("broken",)), Start("b", ("whole",))]


def test_a_deployment_of_two_nodes_takes_two_different_ones() -> None:
    starts, _ = decide([wait("a", TWO_NODES)], [], [node("x"), node("y"), node("z", 4)], 0.0)
    assert {*starts[0].nodes} == {"x", "y"}


def test_gpus_of_another_type_are_not_taken() -> None:
    need = Need(gpus=1, cpus=1.0, gpu_type="H100")
    assert decide([wait("a", need)], [], [node("x", 8, "H200")], 0.0)[0] == []
    assert decide([wait("a", need)], [], [node("y", 8, "H100")], 0.0)[0] != []


def test_what_must_wait_is_promised_the_node_that_is_free_first() -> None:
    running = [Running(GPUS[4], ("x",), 50.0), Running(GPUS[4], ("y",), 30.0)]
    _, promise = decide([wait("large", GPUS[8])], running, [node("x", 4), node("y", 4)], 0.0)
    assert promise == Promise("large", ("y",), 30.0)


def test_only_what_is_gone_by_then_may_pass_on_the_promised_node() -> None:
    running = [Running(GPUS[4], ("x",), 50.0)]
    waiting = [wait("large", GPUS[8]), wait("too long", GPUS[1], 60.0), wait("short", GPUS[1], 40.0)]
    starts, _ = decide(waiting, running, [node("x", 4)], 0.0)
    assert starts == [Start("short", ("x",))]


def test_what_takes_nothing_that_was_promised_may_pass_however_long_it_is() -> None:
    running = [Running(GPUS[8], ("x",), 50.0)]
    four = Need(gpus=4, cpus=1.0)
    nodes = [Node("x", 2.0, 64.0)]
    starts, promise = decide([wait("first", four), wait("endless", GPUS[2], None)], running, nodes, 0.0)
    assert promise == Promise("first", ("x",), 50.0)
    assert starts == [Start("endless", ("x",))], "of ten GPUs then free, four are promised"


def test_a_promise_is_kept_and_once_its_time_has_passed_nothing_is_let_onto_its_node() -> None:
    running = [Running(GPUS[4], ("x",), 500.0), Running(GPUS[4], ("y",), 300.0)]
    waiting = [wait("large", GPUS[8]), wait("short", GPUS[4], 1.0)]
    kept = Promise("large", ("x",), 90.0)
    starts, promise = decide(waiting, running, [node("x", 4), node("y", 0)], 100.0, kept)
    assert (starts, promise) == ([], kept)


def test_where_nobody_can_tell_an_end_the_promised_node_drains() -> None:
    waiting = [wait("large", GPUS[8]), wait("short", GPUS[1], 1.0)]
    starts, promise = decide(waiting, [Running(GPUS[4], ("x",), None)], [node("x", 4)], 0.0)
    assert (starts, promise) == ([], Promise("large", ("x",), None))


def test_what_only_others_could_make_room_for_holds_nobody_up() -> None:
    starts, promise = decide([wait("large", GPUS[8]), wait("small", GPUS[2])], [], [node("x", 4)], 0.0)
    assert (starts, promise) == ([Start("small", ("x",))], None)


def test_idle_gpus_help_whoever_would_end_last_while_that_pays() -> None:
    long = Serving("long", GPUS[8], engines=1, cells=20, left_s=2000.0, start_s=100.0)
    short = Serving("short", GPUS[8], engines=1, cells=20, left_s=110.0, start_s=100.0)
    assert [one.key for one in widen([long, short], [node("x"), node("y")])] == ["long", "long"]
    assert widen([short], [node("x")]) == []


def test_no_more_engines_than_cells() -> None:
    one_cell = Serving("one", GPUS[8], engines=1, cells=1, left_s=5000.0, start_s=100.0)
    assert widen([one_cell], [node("x")]) == []


sizes = st.sampled_from([*GPUS.values(), TWO_NODES])
tasks = st.lists(st.tuples(sizes, st.none() | st.floats(1, 1000)), max_size=30)
frees = st.lists(st.integers(0, 8), min_size=1, max_size=6)


@given(tasks, frees)
def test_nothing_is_promised_or_started_beyond_what_is_there(
    drawn: list[tuple[Need, float | None]], free: list[int]
) -> None:
    nodes = [node(f"n{index}", gpus) for index, gpus in enumerate(free)]
    waiting = [wait(str(index), need, estimated) for index, (need, estimated) in enumerate(drawn)]
    starts, promise = decide(longest_first(waiting), [], nodes, 0.0)
    needs = {one.key: one.need for one in waiting}
    used: Counter[str] = Counter()
    for start in starts:
        assert len(set(start.nodes)) == needs[start.key].nodes
        for name in start.nodes:
            used[name] += int(needs[start.key].gpus)
    assert all(used[one.node_id] <= one.gpus for one in nodes)
    assert len({start.key for start in starts}) == len(starts)
    assert promise is None or promise.key not in {start.key for start in starts}


def test_a_simulated_sweep_comes_close_to_its_bound_and_first_in_first_out_does_not() -> None:
    works, nodes = draw(Shape("uniform"), 0, deployments=100, cells=2000, nodes=16)
    bound = bound_s(works, nodes)
    shared = Simulation(works, nodes, "shared").run()
    assert shared.makespan_s <= 1.06 * bound
    assert Simulation(works, nodes, "in order").run().makespan_s >= 1.15 * bound


def test_with_estimates_far_off_everything_still_runs_and_large_ones_do_not_starve() -> None:
    works, nodes = draw(Shape("wild", error=2.0, taken=3), 0, deployments=60, cells=600, nodes=12)
    result = Simulation(works, nodes, "shared").run()
    assert result.starts >= len(works)
    assert result.makespan_s <= 1.6 * bound_s(works, nodes)

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cell import Cell, Facts
from orchestrator.cluster.admission import Resources, admit, bundles, impossible, needs
from orchestrator.config import EngineConfig, HardwareConfig, ModelConfig, SamplingConfig, SweepConfig
from orchestrator.plan.fit import Fit
from orchestrator.plan.plan import Deployment

FACTS = Facts("r", "v", {}, {}, "d", "w", "h200", 1, SamplingConfig())


def deployment(
    gpus: int, *, cpus: float = 6.0, label: str | None = "H200", engine: str = "vllm"
) -> Deployment:
    config = SweepConfig(model=ModelConfig(name="m"), engine=EngineConfig(name=engine))
    hardware = HardwareConfig(
        name="h200" if gpus else "cpu",
        kind="gpu" if gpus else "cpu",
        ray_accelerator_type=label if gpus else None,
        cpus=cpus,
        gpus_per_node=8,
    )
    cell = Cell("c" * 16, "d" * 16, (), config, FACTS)
    return Deployment("d" * 16, (cell,), Fit(max(gpus, 1), None, None), hardware, ())


def test_one_bundle_holds_the_whole_deployment_on_a_node() -> None:
    assert bundles(deployment(4)) == [{"CPU": 6.0, "GPU": 4.0, "accelerator_type:H200": 0.001}]


def test_a_deployment_larger_than_a_node_gets_one_bundle_a_node() -> None:
    two = bundles(deployment(16))
    assert [bundle["GPU"] for bundle in two] == [8.0, 8.0]


def test_without_gpus_the_same_path_reserves_cpus() -> None:
    assert bundles(deployment(0, cpus=2.0)) == [{"CPU": 2.0}]


def test_an_external_server_reserves_no_gpu() -> None:
    assert "GPU" not in bundles(deployment(4, engine="external"))[0]


def test_a_smaller_deployment_is_let_past_one_that_does_not_fit() -> None:
    large, small = deployment(8), deployment(1)
    assert admit([large, small], Resources(4, 64)) == [small]


def test_what_the_cluster_can_never_hold_is_said_with_both_sides() -> None:
    reason = impossible(deployment(8), [{"CPU": 16.0, "GPU": 4.0, "accelerator_type:H200": 1.0}])
    assert reason is not None
    assert "8 GPU" in reason
    assert "4 GPU" in reason
    assert impossible(deployment(4), [{"CPU": 16.0, "GPU": 4.0, "accelerator_type:H200": 1.0}]) is None


def test_a_node_of_another_gpu_type_does_not_count() -> None:
    assert impossible(deployment(4), [{"CPU": 16.0, "GPU": 8.0, "accelerator_type:A100": 1.0}]) is not None


@given(st.lists(st.sampled_from([1, 2, 4, 8]), max_size=20), st.integers(0, 32))
def test_what_is_admitted_never_exceeds_what_is_free(sizes: list[int], free: int) -> None:
    admitted = admit([deployment(size) for size in sizes], Resources(free, 1000))
    assert sum(needs(one).gpus for one in admitted) <= free


@given(st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=20))
def test_an_empty_cluster_that_is_large_enough_always_admits_the_first(sizes: list[int]) -> None:
    waiting = [deployment(size) for size in sizes]
    assert admit(waiting, Resources(8, 1000))[0] is waiting[0]

from __future__ import annotations

from orchestrator.cluster.admission import bundles, impossible, needs
from tests.cluster.plans import deployment


def test_one_bundle_holds_the_whole_deployment_on_a_node() -> None:
    assert bundles(needs(deployment(4, cpus=6.0, label="H200"))) == [{"CPU": 6.0, "GPU": 4.0}]


def test_a_deployment_larger_than_a_node_gets_one_bundle_a_node() -> None:
    two = bundles(needs(deployment(16, cpus=6.0)))
    assert two == [{"CPU": 6.0, "GPU": 8.0}, {"CPU": 6.0, "GPU": 8.0}]


def test_without_gpus_the_same_path_reserves_cpus() -> None:
    assert bundles(needs(deployment(0, cpus=2.0))) == [{"CPU": 2.0}]


def test_an_external_server_reserves_no_gpu() -> None:
    assert "GPU" not in bundles(needs(deployment(4, engine="external")))[0]


def test_what_the_cluster_can_never_hold_is_said_with_both_sides() -> None:
    need = needs(deployment(8, cpus=6.0, label="H200"))
    reason = impossible(need, [{"CPU": 16.0, "GPU": 4.0, "accelerator_type:H200": 1.0}])
    assert reason is not None
    assert "8 GPU" in reason
    assert "4 GPU" in reason
    fits = needs(deployment(4, cpus=6.0, label="H200"))
    assert impossible(fits, [{"CPU": 16.0, "GPU": 4.0, "accelerator_type:H200": 1.0}]) is None


def test_a_node_of_another_gpu_type_does_not_count() -> None:
    need = needs(deployment(4, label="H200"))
    assert impossible(need, [{"CPU": 16.0, "GPU": 8.0, "accelerator_type:A100": 1.0}]) is not None

"""A sweep over two nodes on a real engine: vLLM's CPU build, a rank on each, whose GPU is only declared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.cli import sweep
from tests.support.ray_cluster import ray_cluster

pytestmark = [pytest.mark.engine, pytest.mark.ray, pytest.mark.timeout(400)]
TINY = (
    *("model=smollm2-135m", "model.name=tiny", "model.layers=4", "model.hidden_size=256"),
    *("model.intermediate_size=512", "model.heads=8", "model.kv_heads=4", "model.head_dim=32"),
    *("model.vocab_size=2048", "model.context=1024"),
)
NODES = ("hardware=h200", "hardware.gpus_per_node=1", "hardware.ray_accelerator_type=null", "hardware.cpus=1")
ON_CPU = ("engine.args.enforce-eager=true", f"engine.args.kv-cache-memory-bytes={256 << 20}")
LOAD = ("dataset=random", "output_length=16", "max_tokens=16", "limit=8", "load=batch", "load.batch_size=4")


@pytest.fixture
def address() -> Iterator[str]:
    with ray_cluster(2, cpus=2, gpus=1) as made:
        yield str(made.address)


def test_a_sweep_measures_vllm_over_two_nodes(address: str, tmp_path: Path) -> None:
    done = sweep(
        *(f"ray.address={address}", f"results_dir={tmp_path / 'results'}", "study_name=s", "tracker=none"),
        *("engine=vllm", "weights=dummy", "tensor_parallel_size=2"),
        *(*TINY, *NODES, *ON_CPU, *LOAD),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 x 1" in done.stdout
    (path,) = (tmp_path / "results" / "s" / "cells").glob("*.parquet")
    (row,) = pq.ParquetFile(path).read().to_pylist()
    assert (row["status"], row["tensor_parallel_size"], row["gpus"], row["nodes"]) == ("done", 2, 2, 2)
    assert (row["requests_ok"], row["output_token_per_s"] > 0, row["energy_j"]) == (8, True, None)
    (logs,) = (tmp_path / "results" / "s" / "logs").iterdir()
    said = (logs / "rank1.log").read_text()
    assert "world_size=2 rank=1" in said
    assert "headless multiproc executor" in said

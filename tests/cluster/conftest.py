from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.cluster.driven import CPUS, GPUS
from tests.support.ray_cluster import ray_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without resources and two nodes of 8 GPUs, which are only declared."""
    with ray_cluster(2, cpus=CPUS, gpus=GPUS) as made:
        ray.init(address=made.address, log_to_driver=False, namespace="orchestrator")
        yield made
        ray.shutdown()

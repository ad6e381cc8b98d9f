from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.progress.plan_table import show
from tests.cluster.plans import deployment, plan_of


@pytest.mark.parametrize(
    ("gpus", "gpus_per_node", "shown"), [(16, 8, "2 x 8"), (2, 1, "2 x 1"), (4, 8, "4"), (0, 8, "1 CPUs")]
)
def test_what_is_reserved_is_nodes_times_gpus(
    gpus: int, gpus_per_node: int, shown: str, tmp_path: Path
) -> None:
    said = io.StringIO()
    one = deployment(gpus, gpus_per_node=gpus_per_node)
    show(plan_of(tmp_path, one), Console(file=said, width=160))
    assert said.getvalue().splitlines()[2].split("none")[1].split(maxsplit=1)[1].strip() == shown

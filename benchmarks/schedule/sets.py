"""Sets of deployments and clusters for the simulation, drawn from a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.schedule.simulate import Work
from orchestrator.cluster.packing import Need, Node

START_S = 100.0  # a 7B engine on an H200
GPUS_PER_NODE = 8
CPUS_PER_NODE = 128.0
CPUS = 6.0

Draw = Callable[[random.Random], float]

CELL_S: Mapping[str, Draw] = {
    "alike": lambda rng: 60.0,
    "uniform": lambda rng: rng.uniform(10.0, 120.0),
    "lognormal": lambda rng: rng.lognormvariate(3.5, 0.8),
    "heavy tail": lambda rng: 15.0 * rng.paretovariate(1.3),
}
"""A deployment's mean cell; its cells are within half of it."""

SIZES: Mapping[str, Sequence[int]] = {
    "1 to 16 GPUs": (1, 1, 2, 2, 4, 4, 8, 16),
    "mostly small": (1, 1, 1, 1, 1, 2, 4, 16),
    "mostly large": (1, 4, 8, 8, 8, 16, 16, 16),
    "up to 8 GPUs": (1, 2, 4, 8),
}


@dataclass(frozen=True)
class Shape:
    """One kind of set. ``error``: estimates are the truth times exp(N(0, error)), one factor for each
    deployment and one for its kind; None: nobody has estimated anything. ``types`` of GPU are spread evenly
    over the nodes, and of each node others hold ``taken`` GPUs at random (at most this many)."""

    name: str
    cells: str = "uniform"
    sizes: str = "1 to 16 GPUs"
    error: float | None = 0.0
    types: tuple[str, ...] = ("H200",)
    taken: int = 0


SHAPES = (
    Shape("cells alike", cells="alike"),
    Shape("uniform"),
    Shape("lognormal", cells="lognormal"),
    Shape("heavy tail", cells="heavy tail"),
    Shape("mostly small", sizes="mostly small"),
    Shape("mostly large", sizes="mostly large"),
    Shape("estimates off by 2x", error=0.7),
    Shape("no estimates", error=None),
    Shape("two GPU types", types=("H200", "H100")),
    Shape("GPUs taken by others", taken=4),
)

ON_ONE_HOST = (
    Shape("uniform", sizes="up to 8 GPUs"),
    Shape("lognormal", cells="lognormal", sizes="up to 8 GPUs"),
    Shape("estimates off by 1.3x", sizes="up to 8 GPUs", error=0.3),
)


def draw(
    shape: Shape, seed: int, *, deployments: int = 400, cells: int = 10_000, nodes: int = 64
) -> tuple[list[Work], list[Node]]:
    """The deployments, in the order a user might have typed them, and the nodes."""
    rng = random.Random(f"{shape.name} {seed}")
    there = [
        Node(
            node_id=f"node-{index:02}",
            # Others take whole GPUs of every second node; the others are left free.
            gpus=GPUS_PER_NODE - (rng.randint(0, shape.taken) if index % 2 else 0),
            cpus=CPUS_PER_NODE,
            gpu_types=frozenset({shape.types[index % len(shape.types)]}),
        )
        for index in range(nodes)
    ]
    kinds = [rng.gauss(0.0, shape.error or 0.0) for _ in range(7)]
    works = []
    for index in range(deployments):
        size = rng.choice(SIZES[shape.sizes])
        kind = rng.randrange(len(kinds))
        mean_s = CELL_S[shape.cells](rng)
        count = cells // deployments + (index < cells % deployments)
        own = rng.gauss(0.0, shape.error or 0.0)
        works.append(
            Work(
                key=f"deployment-{index:03}",
                need=Need(
                    gpus=min(size, GPUS_PER_NODE),
                    cpus=CPUS,
                    nodes=max(1, size // GPUS_PER_NODE),
                    gpu_type=rng.choice(shape.types),
                ),
                start_s=START_S,
                cells_s=tuple(mean_s * rng.uniform(0.5, 1.5) for _ in range(count)),
                kind=f"kind-{kind}",
                estimated=None if shape.error is None else math.exp(kinds[kind] + own),
            )
        )
    return works, there

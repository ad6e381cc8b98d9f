"""What planning must know before a run and cannot read from files: the nodes' engine versions, what external
servers serve, the commits of the hub's branches. Ray is touched only where a cluster has to be asked."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.cluster.admission import LABEL
from orchestrator.cluster.packing import Need, is_kind
from orchestrator.config.schema import EngineConfig, HardwareConfig, RayConfig, SweepConfig
from orchestrator.engines import ADAPTERS, revisions
from orchestrator.engines.external import UntrustedError, served
from orchestrator.engines.revisions import unpinned
from orchestrator.engines.version import installed_version
from orchestrator.errors import ConfigError
from orchestrator.plan.known import Known, Served, as_stored, engine_key, server_key

NODES_ANSWER_S = 90.0  # a node starts a process and imports this package first


@dataclass(frozen=True)
class NodeVersion:
    """``version`` is None where the node has no such engine."""

    node: str
    version: str | None


def ask(configs: Sequence[SweepConfig], study_dir: Path) -> Known:
    """Everything that ``configs`` need to be told apart. What cannot be asked is as the study's rows have it,
    if they do, and named in ``notes``. Raises ConfigError where the cluster does not answer, where its nodes
    have different versions of an engine, and where a server's certificate does not hold."""
    stored, notes = as_stored(configs, study_dir), list[str]()
    return Known(
        versions=_versions(configs),
        served=_served(configs, stored.served, notes),
        revisions=_revisions(configs, stored.revisions, notes),
        notes=tuple(notes),
    )


def _served(
    configs: Sequence[SweepConfig], stored: Mapping[str, Served], notes: list[str]
) -> dict[str, Served]:
    found: dict[str, Served] = {}
    engines = {server_key(c.engine): c.engine for c in configs if c.engine.name == "external"}
    for key, engine in engines.items():
        try:
            found[key] = served(engine)
        except UntrustedError:
            raise
        except ConfigError as error:
            notes.append(f"what the server serves was not told to this machine: {error}")
            if key in stored:
                found[key] = stored[key]
    return found


def _revisions(configs: Sequence[SweepConfig], stored: Mapping[str, str], notes: list[str]) -> dict[str, str]:
    """The hub first; where it cannot be reached, this machine's cache and then the study."""
    found: dict[str, str] = {}
    reachable = True
    for source in dict.fromkeys(one for config in configs for one in unpinned(config)):
        commit = None
        if reachable:
            try:
                commit = revisions.asked(source)
            except OSError as error:
                reachable = False
                notes.append(f"{' '.join(str(error).split())[:160]}")
        if commit := commit or revisions.cached(source) or stored.get(source):
            found[source] = commit
    return found


def _versions(configs: Sequence[SweepConfig]) -> dict[str, str]:
    """Of the engines that a cluster's nodes start, by asking every node that could."""
    wanted = {
        (engine_key(config.engine), repr(config.hardware)): config
        for config in configs
        if config.ray.address is not None and ADAPTERS.get(config.engine.name) and not config.engine.simulated
    }
    if not wanted:
        return {}
    found: dict[str, str] = {}
    answers = _of_nodes(configs[0].ray, [(c.engine, c.hardware) for c in wanted.values()])
    for (key, _), config, nodes in zip(wanted, wanted.values(), answers, strict=True):
        version = agreed(config.engine, nodes)
        if version is not None:
            if found.get(key, version) != version:
                raise ConfigError(
                    f"engine={config.engine.name}: nodes of different hardware have versions "
                    f"{found[key]} and {version}; make them the same"
                )
            found[key] = version
    return found


def agreed(engine: EngineConfig, nodes: Iterable[NodeVersion]) -> str | None:
    """The version that all nodes with the engine have; None where none has it. Raises ConfigError where they
    differ: where a cell ran would decide what it measured."""
    by_version: dict[str, list[str]] = {}
    for one in nodes:
        if one.version is not None:
            by_version.setdefault(one.version, []).append(one.node)
    if len(by_version) > 1:
        listed = "; ".join(f"{version} on {', '.join(sorted(of))}" for version, of in by_version.items())
        raise ConfigError(
            f"engine={engine.name}: the nodes have different versions ({listed}); make them the same"
        )
    return next(iter(by_version), None)


def _of_nodes(
    config: RayConfig, questions: Sequence[tuple[EngineConfig, HardwareConfig]]
) -> list[list[NodeVersion]]:
    """For each question the answers of the nodes that have its hardware."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from orchestrator.cluster.nodes import listed_nodes
    from orchestrator.cluster.session import ray_session

    with nullcontext() if ray.is_initialized() else ray_session(config, 1.0):
        nodes: list[dict[str, Any]] = [node for node in listed_nodes() if node["Alive"]]
        remote: Any = ray.remote(_version_here)
        refs = [
            [
                remote.options(
                    num_cpus=0,
                    max_retries=0,
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
                ).remote(engine)
                for node in nodes
                if _has(node["Resources"], hardware)
            ]
            for engine, hardware in questions
        ]
        every = [ref for row in refs for ref in row]
        ready = set(ray.wait(every, num_returns=len(every), timeout=NODES_ANSWER_S)[0]) if every else set()
        return [[answer for ref in row if ref in ready if (answer := _got(ref))] for row in refs]


def _got(ref: Any) -> NodeVersion | None:
    """None of a node that went, or cannot run this package: its start will tell."""
    import ray

    try:
        answer: NodeVersion = ray.get(ref)
    except Exception:
        return None
    return answer


def _has(resources: Mapping[str, float], hardware: HardwareConfig) -> bool:
    if hardware.kind != "gpu":
        return True
    need = Need(0.0, 0.0, gpu_type=hardware.ray_accelerator_type)
    labels = [key.removeprefix(LABEL) for key in resources if key.startswith(LABEL)]
    return resources.get("GPU", 0.0) > 0 and is_kind(need, labels, None)


def _version_here(engine: EngineConfig) -> NodeVersion:
    return NodeVersion(socket.gethostname(), installed_version(engine))

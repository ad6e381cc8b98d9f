"""Everything that Ray tells only through interfaces that are not public, in one place. Read in Ray 2.60.0,
which leaves these functions untyped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ray._private import state
from ray.experimental.internal_kv import _internal_kv_get, internal_kv_get_gcs_client

STATUS = "__autoscaling_status"  # what the first autoscaler says of itself, for `ray status`
MIRRORED = "node_"  # where nobody scales, Ray's monitor gives each node a type of its own, named so


@dataclass(frozen=True)
class NodeGroup:
    """A type of nodes that an autoscaler can bring, at most ``most`` of them."""

    name: str
    resources: Mapping[str, float]
    most: int


def available_resources_per_node() -> dict[str, dict[str, float]]:
    """What is free on each live node, by its id. In public there is only the sum over all nodes."""
    found: Callable[[], dict[str, dict[str, float]]] = state.available_resources_per_node
    return found()


def autoscaled() -> bool | None:
    """Whether an autoscaler can bring nodes; None while the cluster has not said."""
    try:
        types = _node_types()
    except Exception:  # an autoscaler that cannot be read is one that nobody can ask
        return None
    return any(not one.startswith(MIRRORED) for one in types) if types else None


def node_groups() -> list[NodeGroup]:
    """What an autoscaler may bring, where the cluster knows: empty where it does not."""
    try:
        config: Any = state.state.get_cluster_config()
    except Exception:
        return []
    groups = [] if config is None else config.node_group_configs
    return [NodeGroup(one.name, dict(one.resources), int(one.max_count)) for one in groups]


def _node_types() -> set[str]:
    """The types of the nodes that are there, by whichever of Ray's two autoscalers runs."""
    from ray.autoscaler.v2.sdk import get_cluster_status
    from ray.autoscaler.v2.utils import is_autoscaler_v2

    if is_autoscaler_v2(fetch_from_server=True):  # its cache outlives the cluster
        client: Callable[[], Any] = internal_kv_get_gcs_client
        status: Any = get_cluster_status(client().address)
        return {node.ray_node_type_name for node in (*status.active_nodes, *status.idle_nodes)}
    said = _internal_kv_get(STATUS)
    report = json.loads(said).get("autoscaler_report") if said else None
    return set((report or {}).get("node_type_mapping", {}).values())


def actors_began() -> dict[str, datetime]:
    """When each actor was started, by its id, in local time. The public list of actors leaves it out."""
    table: dict[str, dict[str, Any]] = state.actors()
    return {
        key: datetime.fromtimestamp(one["StartTime"] / 1000) for key, one in table.items() if one["StartTime"]
    }

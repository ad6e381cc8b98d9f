"""Composes jobs as the command line does, in process."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from orchestrator.config.compose import to_config
from orchestrator.config.schema import SweepConfig
from orchestrator.paths import conf_dir

RESULTS = "results_dir="  # the one that no two tests have in common; nothing is composed from it


def config_of(*overrides: str) -> SweepConfig:
    """A configuration of the caller's own; each combination is composed once."""
    config = deepcopy(_composed(*(one for one in overrides if not one.startswith(RESULTS))))
    for one in overrides:
        if one.startswith(RESULTS):
            config.results_dir = one.removeprefix(RESULTS)
    return config


@cache
def _composed(*overrides: str) -> SweepConfig:
    ConfigStore.instance().store(name="sweep_schema", node=SweepConfig)
    OmegaConf.register_new_resolver("orchestrator_scratch", lambda: "unused", replace=True)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return to_config(compose("sweep", list(overrides)))

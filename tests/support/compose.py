"""Composes jobs as the command line does for a sweep, in process."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from orchestrator.config.compose import SweepLoader, to_config
from orchestrator.config.schema import SweepConfig
from orchestrator.paths import conf_dir

RESULTS = "results_dir="  # hardly two tests have it in common, and nothing else is composed from it


def config_of(*overrides: str) -> SweepConfig:
    """A configuration of the caller's own; each combination is composed once."""
    config = deepcopy(_composed(*(one for one in overrides if not one.startswith(RESULTS))))
    for one in overrides:
        if one.startswith(RESULTS):
            config.results_dir = one.removeprefix(RESULTS)
    return config


@cache
def _composed(*overrides: str) -> SweepConfig:
    master, loader = _opened()
    return to_config(loader.load_sweep_config(master, list(overrides)))


@cache
def _opened() -> tuple[DictConfig, SweepLoader]:
    ConfigStore.instance().store(name="sweep_schema", node=SweepConfig)
    OmegaConf.register_new_resolver("orchestrator_scratch", lambda: "unused", replace=True)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("sweep", [], RunMode.MULTIRUN)
        return master, SweepLoader(loader.get_search_path())

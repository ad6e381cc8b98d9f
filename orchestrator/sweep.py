"""``python -m orchestrator.sweep [-m] key=value ...``: compose, plan, run, store, summarise."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from atexit import register as at_exit
from collections.abc import Sequence

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from orchestrator import interruption, launcher, study
from orchestrator.config.arguments import arrange
from orchestrator.config.compose import to_config
from orchestrator.config.explain import explain
from orchestrator.config.schema import SweepConfig
from orchestrator.errors import ConfigError
from orchestrator.paths import conf_dir
from orchestrator.plan.plan import Job

DONE, WRONG, INTERRUPTED = 0, 2, 130

_single: list[tuple[tuple[str, ...], DictConfig, list[str]]] = []
"""The job of a command without ``-m``: its overrides, the configuration, what its study would sweep over."""


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command line and returns its exit code (CONTRACT, "Exit codes")."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting with 1
    interruption.install()
    ConfigStore.instance().store(name="sweep_schema", node=SweepConfig)
    OmegaConf.register_new_resolver("orchestrator_scratch", _scratch, use_cache=True, replace=True)
    sys.argv[1:] = arrange(arguments)
    launcher.exit_codes.clear()
    _single.clear()
    try:
        _compose()
        for overrides, composed, swept in _single:
            if swept:
                raise ConfigError(f"{', '.join(swept)}: the study sweeps over them, which needs -m")
            result = study.run([Job(overrides, to_config(composed))])
            launcher.exit_codes.append(result.exit_code)
    except KeyboardInterrupt:
        print("interrupted: what was finished is stored", file=sys.stderr)
        return INTERRUPTED
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return WRONG
    return whole(launcher.exit_codes)


def whole(codes: Sequence[int]) -> int:
    """The exit code of a command from those of its batches: as if they had been one. A batch in which nothing
    could run counts only where no other ran."""
    ran = [code for code in codes if code != WRONG]
    return max(ran or codes, default=DONE)


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="sweep")
def _compose(composed: DictConfig) -> None:
    """One job without ``-m``: only kept, since Hydra reports what a job raises in its own words. With ``-m``
    Hydra calls `orchestrator.launcher.Launcher` instead, and this never."""
    hydra_config = HydraConfig.get()
    _single.append(
        (tuple(hydra_config.overrides.task), composed, list(hydra_config.sweeper.get("params") or ()))
    )


def _scratch() -> str:
    """Where Hydra's sweepers put files of their own; removed at exit."""
    folder = tempfile.mkdtemp(prefix="orchestrator-hydra-")
    at_exit(shutil.rmtree, folder, ignore_errors=True)
    return folder


if __name__ == "__main__":
    main()

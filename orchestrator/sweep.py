"""``python -m orchestrator.sweep [-m] key=value ...``: compose, plan, run, store, summarise."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import tempfile
from contextlib import closing, suppress

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
from orchestrator.secrets import cover_command_line, hidden, known, typed

DONE, WRONG, INTERRUPTED = 0, 2, 130

_single: list[tuple[tuple[str, ...], DictConfig, list[str]]] = []
"""The job of a command without ``-m``: its overrides, the configuration, what its study would sweep over."""


def main() -> None:
    cover_command_line()
    code = run(sys.argv[1:])
    atexit._run_exitfuncs()
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)  # taking hundreds of modules apart would take as long as importing many of them


def run(arguments: list[str]) -> int:
    """Runs one command line and returns its exit code (README, "A sweep")."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting with 1
    interruption.install()
    ConfigStore.instance().store(name="sweep_schema", node=SweepConfig)
    OmegaConf.register_new_resolver("orchestrator_scratch", _scratch, use_cache=True, replace=True)
    sys.argv[1:] = arrange(arguments)
    launcher.exit_codes.clear()
    _single.clear()
    try:
        with closing(launcher.kept):
            _compose()
            for overrides, composed, swept in _single:
                if swept:
                    raise ConfigError(f"{', '.join(swept)}: the study sweeps over them, which needs -m")
                result = study.run([Job(overrides, to_config(composed))], launcher.kept)
                launcher.exit_codes.append(result.exit_code)
    except KeyboardInterrupt:
        return _interrupted()
    except SystemExit as error:
        if error.code != signal.SIGTERM:
            raise
        return _interrupted()  # while Ray starts, SIGTERM is Ray's, which exits with its number
    except ConfigError as error:
        _complain(str(error), arguments)
        return WRONG
    except Exception as error:
        if launcher.exit_codes and launcher.between_batches():
            said = " ".join(f"{type(error).__name__}: {error}".split())
            _complain(f"the search ended without a result ({said}); its cells are stored", arguments)
            return max(study.INCOMPLETE, _exit_code())
        message = explain(error)
        if message is None:
            raise
        _complain(message, arguments)
        return WRONG
    return _exit_code()


def _complain(said: str, arguments: list[str]) -> None:
    """What was typed is quoted in it, but for secrets."""
    print(f"error: {hidden(said, (*typed(arguments), *known()))}", file=sys.stderr)


def _exit_code() -> int:
    """That of all batches as of one: one that held only what cannot run matters where there was no other."""
    could = [code for code in launcher.exit_codes if code != study.NOTHING_CAN_RUN]
    return max(could or launcher.exit_codes, default=DONE)


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="sweep")
def _compose(composed: DictConfig) -> None:
    """One job without ``-m``: only kept, since Hydra reports what a job raises in its own words. With ``-m``
    Hydra calls `orchestrator.launcher.Launcher` instead, and this never."""
    hydra_config = HydraConfig.get()
    swept = hydra_config.sweeper.get("params") or ()
    _single.append((tuple(hydra_config.overrides.task), composed, list(swept)))


def _interrupted() -> int:
    print("interrupted: what was finished is stored", file=sys.stderr)
    return INTERRUPTED


def _scratch() -> str:
    """Where Hydra's sweepers put files of their own; removed at exit."""
    folder = tempfile.mkdtemp(prefix="orchestrator-hydra-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


if __name__ == "__main__":
    main()

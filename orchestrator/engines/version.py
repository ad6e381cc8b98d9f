"""Which interpreter has the engine, and in which version, without importing it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from orchestrator import paths
from orchestrator.config.schema import EngineConfig
from orchestrator.engines import ADAPTERS
from orchestrator.engines.install import complete
from orchestrator.errors import ConfigError

_PROBE = """
import importlib.metadata as m, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def interpreter_path(engine: EngineConfig) -> Path:
    """Where the engine's interpreter is meant to be: ``engine.python``, else an environment made by
    `orchestrator.engines.install`, else this interpreter. Nothing is checked."""
    if engine.python:
        path = Path(engine.python).expanduser()
        found = shutil.which(engine.python) if path.name == engine.python else None
        return Path(found) if found else path.absolute()
    for name in (engine.name, f"{engine.name}-gpu", f"{engine.name}-cpu"):
        environment = paths.home() / "engines" / name
        if complete(environment):
            return environment / "bin" / "python"
    return Path(sys.executable)


def interpreter(engine: EngineConfig) -> Path:
    """`interpreter_path`, checked: a ConfigError when it does not exist or has no such engine."""
    python = interpreter_path(engine)
    makes_one = f"`python -m orchestrator.engines.install {engine.name}-cpu` makes one for the CPU"
    if not os.access(python, os.X_OK):
        raise ConfigError(f"engine.python={python}: no such interpreter; {makes_one}")
    if engine_version(engine) is None:
        raise ConfigError(f"engine.python={python}: has no {engine.name}; {makes_one}")
    return python


def engine_version(engine: EngineConfig) -> str | None:
    """The version of the engine's distribution in its interpreter, or ``engine.version`` where that is set.
    None when it is not installed there, or is no engine of ours to start. About 0.1 s, cached."""
    return engine.version or installed_version(engine)


def installed_version(engine: EngineConfig) -> str | None:
    """As `engine_version`, whatever ``engine.version`` says: for the node that starts the engine."""
    if engine.name not in ADAPTERS:
        return None
    if ADAPTERS[engine.name].version:
        return ADAPTERS[engine.name].version
    names = ADAPTERS[engine.name].distributions
    found = installed(interpreter_path(engine), names, engine.env)
    return next((found[name] for name in names if name in found), None)


def installed(python: Path, names: tuple[str, ...], env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Versions of those of the distributions ``names`` that ``python`` has; of ``env`` only PYTHONPATH
    counts. Empty when the interpreter does not run."""
    return dict(_installed(str(python), names, str((env or {}).get("PYTHONPATH", ""))))


@lru_cache
def _installed(python: str, names: tuple[str, ...], pythonpath: str) -> Mapping[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if pythonpath:
        env["PYTHONPATH"] = pythonpath
    try:
        answer = subprocess.run(
            [python, "-c", _PROBE, *names],
            env=env,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        found: dict[str, str] = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}
    return found

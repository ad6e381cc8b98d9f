"""An engine's packages into its environment: by pip, and a CPU build of torch by uv where pip's own sources
have none. What is downloaded is said while it lasts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from orchestrator.errors import OrchestratorError

Say = Callable[[str], None]

# Those whose builds for CPUs and for CUDA bear one version.
_BUILT_TWICE = ("torch", "torchvision", "torchaudio")
_NEEDS_CUDA = re.compile(r"\s*(nvidia|cuda)[-_]", re.IGNORECASE)
_LARGE_MB = 50.0
_MB = {"kB": 1e-3, "MB": 1.0, "GB": 1e3}
_LOADED = re.compile(r"\s*Downloading (?P<what>\S+) \((?P<size>[\d.]+) (?P<unit>[kMG]B)\)")
_TAKEN = re.compile(r"\s*(Collecting|Processing) ")
WHERE_CPU_BUILDS_ARE = "set PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS to where one is (docs/engines.md)"


def add(python: Path, requirements: Path, *, cpu: bool, say: Say = lambda line: None) -> None:
    """Puts what ``requirements`` pins, and nothing else, into the environment of ``python``.

    ``cpu``: torch has to be a CPU build. Where pip would bring one for CUDA (PyPI has no other for Linux),
    uv, which knows where the CPU builds are, installs torch and what is built like it, and pip the rest.
    ``say`` gets one line per large file, and one when all is there. Raises OrchestratorError with the last
    lines of whichever failed.
    """
    pins = [
        line for line in map(str.strip, requirements.read_text().splitlines()) if line[:1] not in ("", "#")
    ]
    twice = [pin for pin in pins if re.split(r"[=<>!~ ]", pin)[0].lower() in _BUILT_TWICE]
    if not cpu or not twice or not _for_cuda(python, twice):
        _pip(python, requirements, len(pins), say)
        return
    say(f"{', '.join(twice)}: pip's sources have only the build for CUDA; uv brings the one for CPUs")
    _uv(python, twice)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as rest:
        rest.write("\n".join(pin for pin in pins if pin not in twice))
        rest.flush()
        _pip(python, Path(rest.name), len(pins) - len(twice), say)


def _for_cuda(python: Path, pins: Sequence[str]) -> bool:
    """Whether pip would bring builds that need CUDA's libraries, by their metadata alone. What pip cannot
    tell it says itself when it installs."""
    options = ["--dry-run", "--quiet", "--report", "-", "--no-deps", "--ignore-installed"]
    done = subprocess.run([*_pip_of(python), "install", *options, *pins], capture_output=True, text=True)
    if done.returncode != 0:
        return False
    found = [one["metadata"] for one in json.loads(done.stdout)["install"]]
    return any(_NEEDS_CUDA.match(need) for one in found for need in one.get("requires_dist", ()))


def _uv(python: Path, pins: Sequence[str]) -> None:
    options = ["--quiet", "--no-deps", "--torch-backend", "cpu", "--python", str(python)]
    command = [sys.executable, "-m", "uv", "pip", "install", *options, *pins]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        tail = "\n".join(done.stderr.strip().splitlines()[-6:])
        raise OrchestratorError(
            f"torch: pip's sources have only the build for CUDA, and uv could not bring the one for CPUs; "
            f"{WHERE_CPU_BUILDS_ARE}. uv said:\n{tail}"
        )


def _pip_of(python: Path) -> list[str]:
    return [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]


def _pip(python: Path, requirements: Path, pins: int, say: Say) -> None:
    # Compiling every module takes longer than all the rest; what an engine imports is compiled then.
    options = ["--no-deps", "--no-compile", "--progress-bar", "off", "-r", str(requirements)]
    command = [*_pip_of(python), "install", *options]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as pip,
    ):
        assert pip.stdout is not None
        for line in _told(pip.stdout, pins):
            say(line)
        if pip.wait() != 0:
            errors.seek(0)
            tail = "\n".join(errors.read().strip().splitlines()[-20:])
            raise OrchestratorError(f"pip failed: {' '.join(command)}\n{tail}")


def _told(lines: Iterator[str], pins: int) -> Iterator[str]:
    """What a person wants to know of pip's own words."""
    taken, loaded_mb = 0, 0.0
    for line in lines:
        taken += bool(_TAKEN.match(line))
        if found := _LOADED.match(line):
            size_mb = float(found["size"]) * _MB[found["unit"]]
            loaded_mb += size_mb
            if size_mb >= _LARGE_MB:
                yield f"{taken} of {pins} packages; {found['what'].rsplit('/', 1)[-1]}, {size_mb:,.0f} MB"
        elif line.startswith("Installing collected packages"):
            yield f"{pins} packages are here ({loaded_mb:,.0f} MB downloaded); unpacking them"

"""Packages into an engine's environment, by the real pip from wheels in a folder and a stand-in for uv."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from orchestrator.engines import packages
from orchestrator.errors import OrchestratorError

pytestmark = pytest.mark.slow


def wheel(folder: Path, name: str, version: str, *needs: str, build: str = "", size: int = 0) -> None:
    """A wheel whose one module says which build it is."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    metadata = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {need}" for need in needs)]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as made:
        made.writestr(f"{name}/__init__.py", f"BUILD = {build!r}\n" + "#" * size)
        made.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\n" + "\n".join(metadata) + "\n")
        made.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr(f"{info}/RECORD", "")


@pytest.fixture
def python(tmp_path: Path) -> Path:
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    return tmp_path / "env" / "bin" / "python"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder where pip looks; uv, in a folder of its own, takes wheels from ``cpu``."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    stand_in = tmp_path / "stand-in" / "uv"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").touch()
    (stand_in / "__main__.py").write_text(f"""
import os, subprocess, sys
del os.environ["PIP_FIND_LINKS"]
options = sys.argv[1:]
assert options[:2] == ["pip", "install"] and "--no-deps" in options
assert options[options.index("--torch-backend") + 1] == "cpu"
python = options[options.index("--python") + 1]
pins = [one for one in options if "==" in one]
pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
sys.exit(subprocess.run([*pip, "--find-links", {str(tmp_path / "cpu")!r}, *pins]).returncode)
""")
    monkeypatch.setenv("PYTHONPATH", str(stand_in.parent))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "pip"))
    return tmp_path / "pip"


def requirements(folder: Path, *pins: str) -> Path:
    file = folder / "tiny-cpu.txt"
    file.write_text("# two of them\n\n" + "\n".join(pins) + "\n")
    return file


def build_of(python: Path, name: str) -> str:
    return subprocess.check_output([python, "-c", f"import {name}; print({name}.BUILD)"], text=True).strip()


def test_a_cpu_build_comes_by_pip_alone(tmp_path: Path, python: Path, source: Path) -> None:
    wheel(source, "torch", "2.13.0", "filelock", build="pip's")
    wheel(source, "other", "1.0", build="pip's")
    said: list[str] = []
    packages.add(python, requirements(tmp_path, "torch==2.13.0", "other==1.0"), cpu=True, say=said.append)
    assert (build_of(python, "torch"), build_of(python, "other")) == ("pip's", "pip's")
    assert said[-1].startswith("2 packages are here")


@pytest.mark.parametrize("need", ["nvidia-cudnn-cu13==9.20; platform_system == 'Linux'", "cuda_bindings<14"])
def test_where_pip_has_the_cuda_build_alone_uv_brings_the_other(
    tmp_path: Path, python: Path, source: Path, need: str
) -> None:
    for name in ("torch", "torchvision"):
        wheel(source, name, "2.13.0", need, build="CUDA")
        wheel(tmp_path / "cpu", name, "2.13.0", build="CPU")
    wheel(source, "other", "1.0", build="pip's")
    said: list[str] = []
    pins = requirements(tmp_path, "torch==2.13.0", "other==1.0", "torchvision==2.13.0")
    packages.add(python, pins, cpu=True, say=said.append)
    assert [build_of(python, name) for name in ("torch", "torchvision", "other")] == ["CPU", "CPU", "pip's"]
    assert "torch==2.13.0, torchvision==2.13.0" in said[0]


def test_an_environment_for_gpus_keeps_the_cuda_build(tmp_path: Path, python: Path, source: Path) -> None:
    wheel(source, "torch", "2.13.0", "nvidia-nccl-cu13", build="CUDA")
    packages.add(python, requirements(tmp_path, "torch==2.13.0"), cpu=False)
    assert build_of(python, "torch") == "CUDA"


def test_uv_that_fails_is_quoted_with_what_to_set(tmp_path: Path, python: Path, source: Path) -> None:
    wheel(source, "torch", "2.13.0", "nvidia-nccl-cu13", build="CUDA")
    (tmp_path / "cpu").mkdir()
    with pytest.raises(OrchestratorError, match=r"(?s)PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS.*torch==2"):
        packages.add(python, requirements(tmp_path, "torch==2.13.0"), cpu=True)
    with pytest.raises(subprocess.CalledProcessError):
        build_of(python, "torch")


def test_large_files_are_named_with_their_size() -> None:
    lines = [
        "Collecting torch==2.13.0 (from -r list.txt (line 2))",
        "  Downloading somewhere/else/torch-2.13.0-cp311-cp311-linux_x86_64.whl (180.3 MB)",
        "Collecting six==1.17.0",
        "  Downloading six-1.17.0-py2.py3-none-any.whl (11 kB)",
        "Processing /wheels/uv-0.13.9-py3-none-any.whl",
        "Installing collected packages: torch, six, uv",
    ]
    assert list(packages._told(iter(lines), 3)) == [
        "1 of 3 packages; torch-2.13.0-cp311-cp311-linux_x86_64.whl, 180 MB",
        "3 packages are here (180 MB downloaded); unpacking them",
    ]


def test_the_pinned_uv_knows_the_option() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "--help"], capture_output=True, text=True
    )
    assert "--torch-backend" in done.stdout

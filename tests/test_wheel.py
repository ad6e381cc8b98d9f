from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.cli import ROOT


@pytest.mark.slow
def test_the_command_works_from_an_installed_wheel(tmp_path: Path) -> None:
    """Unpacked as an installer would, and run from another folder, where no checkout can be found."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    assert (site / "orchestrator/engines/lora/smollm2-135m-think.safetensors").is_file()
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.sweep", "-m", "+study=demo", "dry_run=true", "hardware=cpu"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "4 cells to run on 2 deployments" in done.stdout
    compiles = "from orchestrator.load.client import loops; raise SystemExit(not loops.choose().compiled)"
    environment = os.environ | {"PYTHONPATH": str(site), "ORCHESTRATOR_HOME": str(tmp_path / "home")}
    subprocess.run([sys.executable, "-c", compiles], cwd=tmp_path, env=environment, check=True)

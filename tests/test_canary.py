"""Secrets of one sweep, looked for in everything that it leaves and in what others see of it meanwhile."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from orchestrator.cluster.address import find_token
from tests.support.cli import ROOT, environment

pytestmark = [pytest.mark.ray, pytest.mark.timeout(200)]

TYPED, INHERITED, PROXY, WRITTEN = "canary-typed-1", "canary-env-2", "canary-url-3", "hf_canary4" + "x" * 24
CANARIES = (TYPED, INHERITED, PROXY, WRITTEN)
SHOWN = "told-to-everybody"  # what must be found, so that the looking is known to see
# By name; by the value of a variable that is a secret here; by how it is written; and what is no secret.
GIVEN = (
    *(f"engine.env.HF_TOKEN={TYPED}", f"engine.env.HARMLESS={INHERITED}", f"engine.env.PLAIN={WRITTEN}"),
    f"engine.env.SHOWN={SHOWN}",
)
SWEEP = (
    *("-m", "engine=simulated", "model=r1-7b", "hardware=h200", "limit=8", "load.concurrency=1", *GIVEN),
    *("max_tokens=600", "engine.args.speed=20", "tracker=wandb", "engine.args.oom-at-start=false,true"),
)
STATE = ("jobs", "actors", "tasks", "workers", "nodes", "placement_groups", "runtime_envs", "objects")


@dataclass
class Seen:
    """Texts by where they were seen."""

    texts: dict[str, str] = field(default_factory=dict)

    def files(self, folder: Path) -> None:
        for path in folder.rglob("*"):
            if path.is_file() and path.suffix == ".parquet":
                self.texts[str(path)] = str(pq.ParquetFile(path).read().to_pylist())
            elif path.is_file():
                self.texts[str(path)] = path.read_bytes().decode("latin-1")

    def processes(self, root: int) -> None:
        """What ``ps`` shows everybody."""
        for process in [psutil.Process(root), *psutil.Process(root).children(recursive=True)]:
            try:
                said = " ".join(process.cmdline())
            except psutil.Error:
                continue
            self.texts[f"process {process.pid}"] = f"{said} {self.texts.get(f'process {process.pid}', '')}"

    def state(self, dashboard: str) -> None:
        for what in STATE:
            self.texts[f"state of {what}"] = fetched(f"{dashboard}/api/v0/{what}?detail=1")
        self.texts["list of jobs"] = fetched(f"{dashboard}/api/jobs/")

    def having(self, word: str) -> list[str]:
        return [where for where, text in self.texts.items() if word in text]


def fetched(url: str) -> str:
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {find_token()}"})
    with urllib.request.urlopen(asked, timeout=20) as answer:
        said: str = answer.read().decode()
    return said


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """A cell that is done and one whose engine never starts, watched while they run."""
    results, found = tmp_path_factory.mktemp("results"), Seen()
    ray = Path(tempfile.mkdtemp(dir="/tmp"))  # a short path: Ray's sockets lie below it
    own = {"HF_TOKEN": INHERITED, "ALL_PROXY": f"http://user:{PROXY}@proxy.invalid:1", "NO_PROXY": "*"}
    with (results / "said").open("wb") as said:
        sweep = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.sweep", *SWEEP, f"results_dir={results}"],
            cwd=results,
            env=environment() | own | {"RAY_TMPDIR": str(ray)},
            stdout=said,
            stderr=said,
        )
    asked = False
    try:
        while sweep.poll() is None:
            time.sleep(0.5)
            if (results / "default").exists():  # its command line has been read
                found.processes(sweep.pid)
            dashboard = re.search(r"http://127\.0\.0\.1:\d+", (results / "said").read_text())
            if dashboard and "ready after" in (results / "said").read_text() and not asked:
                found.state(dashboard[0])
                asked = True
        found.files(results)
        found.files(ray)
        yield found
    finally:
        sweep.kill()
        sweep.wait()
        shutil.rmtree(ray)


def test_no_secret_is_anywhere(seen: Seen) -> None:
    assert {canary: seen.having(canary) for canary in CANARIES} == {canary: [] for canary in CANARIES}


@pytest.mark.parametrize(
    "place",
    ["/said", "/default/cells/", "/engine.log", ".wandb", "/default/wandb/", "list of jobs", "process "],
)
def test_what_is_no_secret_is_there(seen: Seen, place: str) -> None:
    """So the canary would have been seen there: the command line shows it too, and Ray's list of jobs."""
    assert [where for where in seen.having(SHOWN) if place in where]


def test_every_place_was_looked_at(seen: Seen) -> None:
    assert {f"state of {what}" for what in STATE} <= seen.texts.keys()
    assert [where for where in seen.texts if "/session_" in where and where.endswith(".log")]
    said = next(text for where, text in seen.texts.items() if where.endswith("/said"))
    assert "oom-at-start asks" in said + str(seen.having("oom-at-start asks"))


def test_the_plan_and_the_complaints_say_none(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "orchestrator.sweep", f"results_dir={tmp_path}", "engine=simulated"]
    env = environment() | {"HF_TOKEN": INHERITED}

    def said(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [*command, *words], env=env, cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    code, plan = said("dry_run=json", *GIVEN)
    assert (code, SHOWN in plan) == (0, True)
    assert json.loads(plan)["cells"][0]["overrides"][-4:-1] == [
        "++engine.env.HF_TOKEN=***",
        "++engine.env.HARMLESS=***",
        "++engine.env.PLAIN=***",
    ]
    wrong = (f"engine.emv.HF_TOKEN={TYPED}", f"engine.args.hf-token={TYPED}", f"max_tokens={INHERITED}")
    for one in wrong:
        code, complaint = said("dry_run=true", one)
        assert (code, complaint.count("\n")) == (2, 1), complaint
        assert not {canary for canary in CANARIES if canary in complaint}

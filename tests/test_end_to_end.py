"""The main job for real: Hydra, Ray, vLLM on the CPU, real questions, Parquet."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from tests.support.cli import ROOT, environment, sweep, undisturbed

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]
GSM8K = ROOT.parent / "shared" / "data" / "gsm8k_test.jsonl"
SMALL = ("hardware=cpu", "tracker=none", "limit=8", "load.concurrency=4")


def rows(results: Path, folder: str = "cells", study: str = "default") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for path in sorted((results / study / folder).glob("*.parquet")):
        found += pq.ParquetFile(path).read().to_pylist()
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One real sweep of eight cells on four engines, with W&B on; what the tests below look at."""
    folder, said = undisturbed(*SWEEP, folder=tmp_path_factory.mktemp("results"), timeout_s=550)
    assert "results: " in said
    return folder


SWEEP = (
    "-m",
    "engine=vllm,sglang",
    "opt=none,prefix-cache",
    "max_tokens=16,32",
    "hardware=cpu",
    "tracker=wandb",
    "limit=8",
    "repeats=2",
    "load.concurrency=4",
)


def test_every_cell_is_done_and_accounts_for_every_request(results: Path) -> None:
    cells = rows(results)
    assert len(cells) == 8
    assert {cell["status"] for cell in cells} == {"done"}
    assert all(cell["requests_total"] == cell["requests_ok"] == 16 for cell in cells)
    assert len({cell["deployment_id"] for cell in cells}) == 4
    assert {cell["engine"] for cell in cells} == {"vllm", "sglang"}
    assert len(rows(results, "requests")) == 128


def test_accuracy_is_above_zero_with_an_interval_around_it(results: Path) -> None:
    for cell in rows(results):
        assert cell["accuracy"] > 0
        assert cell["accuracy_low"] <= cell["accuracy"] <= cell["accuracy_high"]


def test_both_optimizations_were_asked_the_same_questions(results: Path) -> None:
    asked: dict[str, set[str]] = {}
    for request in rows(results, "requests"):
        asked.setdefault(request["cell_id"], set()).add(request["prompt_sha256"])
    first, *others = asked.values()
    assert all(prompts == first for prompts in others)


def test_prefix_caching_hits_only_where_it_is_on(results: Path) -> None:
    for cell in rows(results):
        if cell["opt"] == ["prefix-cache"]:
            assert cell["prefix_hit_rate"] > 0.2
        else:
            assert not cell["prefix_hit_rate"]


def test_the_clients_tokens_are_the_servers(results: Path) -> None:
    for cell in rows(results):
        assert "token_mismatch" not in cell["flags"]
        own = [r for r in rows(results, "requests") if r["cell_id"] == cell["cell_id"]]
        samples = [s for s in rows(results, "telemetry") if s["cell_id"] == cell["cell_id"]]
        counted = samples[-1]["generation_tokens_total"] - samples[0]["generation_tokens_total"]
        assert sum(request["output_tokens"] for request in own) == counted
        assert all(sum(request["chunk_tokens"]) == request["output_tokens"] for request in own)


def test_the_times_of_a_request_are_in_order(results: Path) -> None:
    for request in rows(results, "requests"):
        order = ("scheduled_s", "sent_s", "first_token_s", "last_token_s", "end_s")
        times = [request[name] for name in order]
        assert times == sorted(times)
        assert request["ttft_s"] == pytest.approx(request["first_token_s"] - request["sent_s"])


def test_the_engines_log_and_a_tracker_run_per_cell_are_kept(results: Path) -> None:
    logs = list((results / "default" / "logs").glob("*/engine.log"))
    assert sorted("sglang" in log.read_text() for log in logs) == [False, False, True, True]
    assert len(list((results / "default" / "wandb").glob("offline-run-*"))) == 8


def test_the_same_command_again_runs_nothing(results: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*.parquet")}
    began = time.monotonic()
    done = sweep(*SWEEP, f"results_dir={results}")
    assert done.returncode == 0
    assert "0 cells to run" in done.stdout
    assert "8 already done" in done.stdout
    assert time.monotonic() - began < 10
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*.parquet")} == before


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a sweep in the background; whatever is left of it is killed after the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "orchestrator.sweep", *SMALL, *arguments]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()


def wait_for(condition: Callable[[], object], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.1)


def committed(results: Path) -> list[Path]:
    return sorted((results / "default" / "cells").glob("[!.]*.parquet"))


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def is_engine(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return any(word.endswith("entry.py") for word in words) and not any("guard.py" in word for word in words)


def test_a_killed_driver_leaves_no_process_and_loses_no_finished_cell(
    tmp_path: Path, started: Callable[..., subprocess.Popen[str]]
) -> None:
    command = ("-m", "max_tokens=8,32,48", f"results_dir={tmp_path}")
    driver = started(*command)
    wait_for(lambda: committed(tmp_path), 150)
    left = family(driver)
    assert any(is_engine(process) for process in left)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    wait_for(lambda: all(is_gone(process) for process in left), 40)

    finished = {path: path.stat().st_mtime_ns for path in committed(tmp_path)}
    assert 1 <= len(finished) < 3
    again = sweep(*SMALL, *command)
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(rows(tmp_path)) == 3
    assert {row["status"] for row in rows(tmp_path)} == {"done"}
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert not list(tmp_path.rglob("*.tmp"))


def test_ctrl_c_stores_what_is_finished_and_stops_everything(
    tmp_path: Path, started: Callable[..., subprocess.Popen[str]]
) -> None:
    driver = started("-m", "max_tokens=8,1024", f"results_dir={tmp_path}")
    wait_for(lambda: committed(tmp_path), 150)
    left = family(driver)
    driver.send_signal(signal.SIGINT)
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130, output
    assert "interrupted" in output
    assert "Traceback" not in output
    assert all(is_gone(process) for process in left)
    assert len(rows(tmp_path)) == 1


def test_a_cell_that_loses_its_engine_is_measured_on_a_fresh_one(
    tmp_path: Path, started: Callable[..., subprocess.Popen[str]]
) -> None:
    driver = started("-m", "max_tokens=8,512", f"results_dir={tmp_path}")
    wait_for(lambda: committed(tmp_path), 150)
    time.sleep(2)  # the second cell is in its load by now
    for process in family(driver):
        if is_engine(process):
            process.kill()
    output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 0, output
    attempts = {row["max_tokens"]: row["attempts"] for row in rows(tmp_path)}
    assert attempts == {8: 1, 512: 2}
    assert {row["status"] for row in rows(tmp_path)} == {"done"}
    assert len(list((tmp_path / "default" / "logs").glob("*/engine*.log"))) == 2


@pytest.mark.skipif(not GSM8K.exists(), reason="needs shared/data/gsm8k_test.jsonl beside the checkout")
def test_real_gsm8k_questions(tmp_path: Path) -> None:
    done = sweep(
        *SMALL,
        "dataset=gsm8k",
        f"dataset.path={GSM8K}",
        "limit=16",
        "max_tokens=128",
        f"results_dir={tmp_path}",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (cell,) = rows(tmp_path)
    assert cell["status"] == "done"
    assert cell["items"] == 16
    assert cell["accuracy"] is not None
    assert all(request["reference"] and request["question"] for request in rows(tmp_path, "requests"))

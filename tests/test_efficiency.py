"""benchmarks/efficiency: what it adds up, and that its peer is given the same work."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from benchmarks.efficiency.__main__ import Points, stored
from benchmarks.efficiency.peer import bench_options, seconds_with_servers, split
from benchmarks.efficiency.plans import planned
from orchestrator.engines.adapter import to_flags
from orchestrator.store.ledger import Reservation, record
from orchestrator.store.write import commit
from tests.support.timelines import record as request

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_windows_reach_from_a_cells_first_request_to_its_last_end(tmp_path: Path) -> None:
    for study, cell_id, status, shift_s in (("a", "1", "done", 0.0), ("b", "2", "invalid", 100.0)):
        records = [request(at_s, [(at_s + 1.0, 3, 0)]) for at_s in (shift_s, shift_s + 2.0)]
        row = {"status": status, "engine": "vllm", "gpus": 0, "opt": ["none"]}
        commit(tmp_path / study, cell_id, row, records, None, ())
        record(tmp_path / study, Reservation(NOW, 10.0, 0, 2.0, ("n",), ("d",), False))
        log = tmp_path / study / "logs" / "d" / "engine.log"
        log.parent.mkdir(parents=True)
        log.touch()
    found = stored([tmp_path / "a", tmp_path / "b"], wall_s=30.0)
    assert (found.cells, found.engines, found.output_tokens) == ({"done": 1, "invalid": 1}, 2, 12)
    assert found.window_s == pytest.approx(2 * 3.0)
    assert found.held_s == 20.0
    assert found.row("x") == "| x | 1 done, 1 invalid | 2 | 12 | 6.0 | 20.0 | 30.0 % | 7.0 | 30 |"


def test_the_cells_that_run_alone_are_spread_over_the_sweep() -> None:
    points = Points(("none", "prefix-cache"), (2, 4, 8), 24, 4, ())
    assert len(points.cells()) == 12
    alone = [" ".join(cell) for cell in points.alone_cells()]
    assert len(alone) == 4
    assert sum("prefix-cache" in cell for cell in alone) == 2
    assert {"seed=0", "seed=1"} == {cell.split()[-1] for cell in alone}


def test_flags_that_differ_are_left_to_each_engine_and_those_only_one_has_too() -> None:
    common, own = split([{"a": 1, "b": True}, {"a": 1, "b": False, "c": "x"}])
    assert common == {"a": 1}
    assert own == [{"b": True}, {"b": False, "c": "x"}]


def test_the_peers_client_sends_what_ours_would(tmp_path: Path) -> None:
    what = ("model=r1-7b", "weights=dummy", "dataset=random", "limit=3", "max_tokens=128", "load=closed")
    one = planned([*what, "engine=simulated", "hardware=h200", f"results_dir={tmp_path}"])
    flags = " ".join(to_flags(bench_options(one, one.launch, tmp_path / "questions.jsonl")))
    for words in (
        "--model r1-7b --tokenizer",
        "--custom-output-len 128 --num-prompts 3 --ignore-eos --temperature 0.6 --top-p 0.95",
        "--skip-chat-template",
    ):
        assert words in flags
    assert len(one.questions()) == 3


LEAVES_AN_ENGINE = """
import subprocess, sys, time
print("[BEGIN SERVER]", flush=True)
engine = f"file = open({sys.argv[1]!r}, 'w'); print(flush=True); import time; time.sleep(600)"
engine = subprocess.Popen([sys.executable, "-c", engine], stdout=subprocess.PIPE, start_new_session=True)
engine.stdout.readline()
time.sleep(0.3)
print("[END SERVER]", flush=True)
sys.exit(int(sys.argv[2]))
"""


@pytest.mark.parametrize("code", [0, 3])
def test_what_the_peer_leaves_behind_is_gone_with_it(tmp_path: Path, code: int) -> None:
    memory = Path("/dev/shm") / f"peer-{uuid4().hex}"
    command = [sys.executable, "-c", LEAVES_AN_ENGINE, str(memory), str(code)]
    if code:
        with pytest.raises(SystemExit, match="ended with 3"):
            seconds_with_servers(command, os.environ, tmp_path / "peer.log")
    else:
        assert 0.3 <= seconds_with_servers(command, os.environ, tmp_path / "peer.log") < 20
    assert "[END SERVER]" in (tmp_path / "peer.log").read_text()
    assert not memory.exists()
    assert not [one for one in psutil.process_iter(["cmdline"]) if str(memory) in str(one.info["cmdline"])]

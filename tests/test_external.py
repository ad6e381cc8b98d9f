"""``engine=external`` against a server whose behaviour is scripted: the whole path, faults included, without
an engine's start."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from orchestrator.config.schema import SloConfig
from orchestrator.store.limits import under
from tests.support import scripted_server
from tests.support.external import Measured, measuring, wrong
from tests.support.scripted_reply import Script

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]


@pytest.fixture
def port() -> Iterator[int]:
    with scripted_server.serve(Script(tokens=20, reasoning=8, ttft_s=0.05, gap_s=0.01)) as number:
        yield number


@pytest.fixture(scope="module")
def measured() -> Iterator[Measured]:
    with measuring() as measure:
        yield measure


def test_known_times_come_out_of_the_whole_path(tmp_path: Path, port: int, measured: Measured) -> None:
    code, output, (row,) = measured(tmp_path, port)
    assert code == 0, output
    assert row["status"] == "done"
    assert row["requests_ok"] == 16
    assert row["ttft_s_p50"] == pytest.approx(0.05, abs=0.01)
    assert row["ttfvt_s_p50"] == pytest.approx(0.05 + 8 * 0.01, abs=0.015)
    assert row["tpot_s_p50"] == pytest.approx(0.01, abs=0.002)
    assert row["gpus"] == 0
    assert 0 <= row["receive_lag_s_p99"] <= row["receive_lag_s_max"]
    assert json.loads(row["provenance"])["stamp_source"] == "kernel"


def test_a_load_client_that_stands_still_makes_the_cell_invalid(tmp_path: Path, measured: Measured) -> None:
    over = threading.Event()

    def stop_the_clients_now_and_then() -> None:
        while not over.wait(0.7):
            found = clients_below()
            for action, pause_s in ((psutil.Process.suspend, 0.3), (psutil.Process.resume, 0.0)):
                for client in found:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        action(client)
                time.sleep(pause_s)

    def clients_below() -> list[psutil.Process]:
        """Those that descend from this process alone."""
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "orchestrator.load.client.process" in process.cmdline():
                    found.append(process)
        return found

    stopper = threading.Thread(target=stop_the_clients_now_and_then)
    stopper.start()
    try:
        with scripted_server.serve(Script(tokens=100, ttft_s=0.05, gap_s=0.02)) as port:
            _, output, (row,) = measured(tmp_path, port, tries=1)
    finally:
        over.set()
        stopper.join()
    assert row["status"] == "invalid", output
    assert "client_stalled" in row["flags"]
    assert "stood still" in row["reason"]
    assert row["receive_lag_s_max"] > 0.25


def test_several_loads_share_the_one_server(tmp_path: Path, port: int, measured: Measured) -> None:
    code, output, rows = measured(tmp_path, port, "load.concurrency=1,4", "load.processes=2")
    assert code == 0, output
    assert len(rows) == 2
    assert len({row["deployment_id"] for row in rows}) == 1


def test_a_server_that_is_down_is_a_failed_cell(tmp_path: Path, measured: Measured) -> None:
    code, _, (row,) = measured(tmp_path, 1)
    assert code == 1
    assert row["status"] == "failed"
    assert "nothing answers there" in row["reason"]
    assert row["output_token_per_s"] is None


def test_a_server_that_is_down_leaves_what_was_measured_before(tmp_path: Path, measured: Measured) -> None:
    with scripted_server.serve(Script(tokens=20, ttft_s=0.01, gap_s=0.001)) as port:
        code, output, (before,) = measured(tmp_path, port)
    assert code == 0, output
    requests = (tmp_path / "default" / "requests" / f"{before['cell_id']}.parquet").read_bytes()
    code, output, rows = measured(tmp_path, port, "rerun=all")
    assert code == 1, "it was asked to be measured again, and was not"
    assert rows == [before]
    assert (tmp_path / "default" / "requests" / f"{before['cell_id']}.parquet").read_bytes() == requests
    assert "not measured again" in output
    assert "the earlier measurement stands" in " ".join(output.split())


def test_another_model_behind_the_same_address_is_another_cell(tmp_path: Path, measured: Measured) -> None:
    """And its numbers are kept beside the first one's, which is found done again when it is back."""
    scripts = [Script(tokens=20, ttft_s=0.01, gap_s=0.001, root=root) for root in ("org/a", "org/b")]
    with scripted_server.serve(scripts[0]) as port:
        code, output, rows = measured(tmp_path, port)
    assert code == 0, output
    assert len(rows) == 1
    with scripted_server.serve(scripts[1], port=port):
        code, output, rows = measured(tmp_path, port)
    assert code == 0, output
    served = [json.loads(row["provenance"])["served"] for row in rows]
    assert {one["root"] for one in served} == {"org/a", "org/b"}
    assert not any("created" in one for one in served)
    assert {row["engine_version"] for row in rows} == {"0.0.0"}
    with scripted_server.serve(scripts[0], port=port):
        code, output, again = measured(tmp_path, port)
    assert "1 already done" in output
    assert [row["started_at"] for row in again] == [row["started_at"] for row in rows]
    code, output, _ = measured(tmp_path, port, "dry_run=true")  # nobody there, and nobody asked
    assert code == 0, output
    assert "1 already done" in output


def test_goodput_under_other_limits_is_computed_again(tmp_path: Path, port: int, measured: Measured) -> None:
    code, output, (row,) = measured(tmp_path, port, "objective=goodput_per_s", "slo.ttft_s=10")
    assert code == 0, output
    assert row["goodput_per_s"] > 0
    code, output, (again,) = measured(tmp_path, port, "objective=goodput_per_s", "slo.ttft_s=0.001")
    assert code == 0, output
    assert "1 already done" in output
    assert again["started_at"] == row["started_at"]
    assert under(again, SloConfig(ttft_s=0.001), tmp_path / "default")["goodput_per_s"] == 0


def test_a_window_shorter_than_every_answer_has_the_servers_rate_and_no_failure(
    tmp_path: Path, measured: Measured
) -> None:
    """Four at a time, a token each 10 ms: 400 a second. An answer takes 10 s, the window 3."""
    with scripted_server.serve(Script(tokens=1000, ttft_s=0.01, gap_s=0.01)) as port:
        asked = ("max_tokens=1000", "load.concurrency=4", "load.duration_s=3")
        code, output, (row,) = measured(tmp_path, port, *asked)
    assert code == 0, output
    assert row["status"] == "done"
    assert (row["requests_ok"], row["requests_cut"], row["requests_failed"]) == (0, 4, 0)
    assert row["output_token_per_s"] == pytest.approx(400, rel=0.05)
    assert row["ttft_s_p50"] == pytest.approx(0.01, abs=0.01)
    assert row["e2e_s_p50"] is None
    assert row["slo_undecided"] == 4
    stored = under(row, SloConfig(e2e_s=2.0), tmp_path / "default")
    assert (stored["slo_attainment"], stored["slo_undecided"]) == (0.0, 0)


def test_failing_requests_make_the_cell_invalid_and_are_in_no_rate(
    tmp_path: Path, measured: Measured
) -> None:
    with scripted_server.serve(Script(tokens=20, fault="http", status=500)) as port:
        code, output, (row,) = measured(tmp_path, port)
    assert code == 1, output
    assert row["status"] == "failed"
    assert row["requests_ok"] == 0
    assert row["output_token_per_s"] is None
    assert row["request_per_s"] is None
    assert row["ttft_s_p50"] is None


def test_half_the_requests_failing_makes_the_cell_invalid(tmp_path: Path, measured: Measured) -> None:
    script = Script(tokens=20, ttft_s=0.05, gap_s=0.01, fault="http", status=503, every=2)
    with scripted_server.serve(script) as port:
        code, _, (row,) = measured(tmp_path, port)
    assert code == 1
    assert row["status"] == "invalid"
    assert "errors" in row["flags"]
    assert row["requests_ok"] == 8
    assert row["error_rate"] == pytest.approx(0.5)
    requests = pq.ParquetFile(tmp_path / "default" / "requests" / f"{row['cell_id']}.parquet").read()
    rows = requests.to_pylist()
    assert {(r["outcome"], r["http_status"]) for r in rows} == {("ok", 200), ("error", 503)}
    window_s = max(r["end_s"] for r in rows) - min(r["sent_s"] for r in rows)
    assert row["output_token_per_s"] == pytest.approx(8 * 20 / window_s, rel=0.01)


def test_streams_that_break_are_errors_not_short_answers(tmp_path: Path, measured: Measured) -> None:
    with scripted_server.serve(Script(tokens=20, fault="reset", after=5)) as port:
        code, _, (row,) = measured(tmp_path, port)
    assert code == 1
    assert row["error_rate"] == 1.0
    assert row["accuracy"] is None


def test_answers_are_as_long_as_the_distribution_says(tmp_path: Path, measured: Measured) -> None:
    """The scripted server answers with max_tokens tokens, as an engine does that ignores the end."""
    with scripted_server.serve(Script(ttft_s=0.01, gap_s=0.001)) as port:
        dummy = ("weights=dummy", "output_length=uniform:5:20", "max_tokens=16", "dataset=random")
        code, output, (row,) = measured(tmp_path, port, *dummy)
    assert code == 0, output
    assert row["accuracy"] is None
    requests = pq.ParquetFile(tmp_path / "default" / "requests" / f"{row['cell_id']}.parquet").read()
    lengths = requests["output_tokens"].to_pylist()
    assert set(lengths) <= set(range(5, 17))
    assert len(set(lengths)) > 3


def test_a_server_that_stops_early_makes_forced_lengths_invalid(tmp_path: Path, measured: Measured) -> None:
    with scripted_server.serve(Script(tokens=7, ttft_s=0.01, gap_s=0.001)) as port:
        code, _, (row,) = measured(tmp_path, port, "weights=dummy", "output_length=8")
    assert code == 1
    assert row["status"] == "invalid"
    assert wrong(row) == {"length_missed"}
    assert "short" in row["flags"], "sixteen requests"


def test_requests_that_the_server_drops_are_counted_and_told(tmp_path: Path, measured: Measured) -> None:
    with scripted_server.serve(Script(tokens=5, ttft_s=0.01, fault="drop", every=6)) as port:
        code, output, (row,) = measured(tmp_path, port, "limit=60", "load.concurrency=1")
    assert code == 0, output
    assert (row["status"], row["requests_ok"], row["error_rate"]) == ("done", 60, 0.0)
    assert 10 <= row["retries"] <= 13
    assert "retried" in row["flags"]
    assert "sent again" in output
    (path,) = (tmp_path / "default" / "requests").glob("*.parquet")
    stored = pq.ParquetFile(path).read(["retries"]).to_pydict()["retries"]
    assert sum(stored) == row["retries"]
    assert set(stored) == {0, 1}

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from orchestrator.errors import MeasurementError
from orchestrator.records import Endpoint
from orchestrator.telemetry import engine
from orchestrator.telemetry.engine import Sampler, assert_present, read_once
from orchestrator.telemetry.gpu import GpuUse

VLLM = (Path(__file__).parent / "vllm_0_32_metrics.txt").read_text()
NAMES = {
    "kv_usage": "vllm:kv_cache_usage_perc",
    "running": "vllm:num_requests_running",
    "generation_tokens_total": "vllm:generation_tokens_total",
}


WAITING = "vllm:num_requests_waiting"


def page(running: float = 1.0, tokens: float = 5.0) -> str:
    return (
        f'{WAITING}{{engine="0"}} 0.0\n'
        f'# TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc{{engine="0"}} 0.5\n'
        f'vllm:num_requests_running{{engine="0"}} {running}\n'
        f'vllm:generation_tokens_total{{engine="0"}} {tokens}\n'
    )


class Server:
    """Serves ``answer(path)``: a page, or an HTTP status, 0 for hanging up. Keeps the paths, keys and client
    ports it saw."""

    def __init__(self, answer: Callable[[str], str | int]) -> None:
        self.seen: list[tuple[str, str | None, int]] = []
        seen = self.seen

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # header and body in one segment: two would wait for a delayed acknowledgement

            def do_GET(self) -> None:
                seen.append((self.path, self.headers.get("Authorization"), self.client_address[1]))
                answered = answer(self.path)
                if answered == 0:
                    self.close_connection = True
                    return
                status, body = (answered, b"") if isinstance(answered, int) else (200, answered.encode())
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        self.endpoint = Endpoint("127.0.0.1", self._http.server_address[1], "m", api_key="secret")

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[str], str | int]], Server]]:
    servers: list[Server] = []

    def start(answer: Callable[[str], str | int]) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def wait_for_failure(sampler: Sampler) -> None:
    while not sampler.failures:
        time.sleep(0.01)


Serve = Callable[[Callable[[str], str | int]], Server]


def test_a_stale_metric_name_is_an_error_that_names_what_looks_like_it(serve: Serve) -> None:
    server = serve(lambda path: VLLM)
    assert_present(server.endpoint, NAMES)
    with pytest.raises(MeasurementError, match="vllm:gpu_cache_usage_perc") as raised:
        assert_present(server.endpoint, NAMES | {"kv_usage": "vllm:gpu_cache_usage_perc"})
    assert "vllm:kv_cache_usage_perc" in str(raised.value)
    assert "num_requests_running" not in str(raised.value)


def test_a_counter_that_appears_with_its_first_increment_is_0_until_then(serve: Serve) -> None:
    server = serve(lambda path: page())
    names = NAMES | {"prefix_hits_tokens_total": "vllm:not_there_yet_total"}
    assert_present(server.endpoint, names, lazy={"prefix_hits_tokens_total"})
    with Sampler(server.endpoint, names, hz=50, zero=0.0, lazy={"prefix_hits_tokens_total"}) as sampler:
        pass
    assert {sample.prefix_hits_tokens_total for sample in sampler.samples} == {0.0}
    assert {sample.running for sample in sampler.samples} == {1.0}


@pytest.mark.parametrize("answer", [404, 500])
def test_a_server_without_the_page_is_an_error(serve: Serve, answer: int) -> None:
    with pytest.raises(MeasurementError, match=f"answers HTTP {answer}"):
        assert_present(serve(lambda path: answer).endpoint, NAMES)


def test_a_server_that_is_not_there_is_an_error(serve: Serve) -> None:
    server = serve(lambda path: VLLM)
    server.stop()
    with pytest.raises(MeasurementError, match="cannot be read"):
        read_once(server.endpoint, NAMES, zero=0.0)


def test_one_reading_is_on_the_cells_clock_and_leaves_the_rest_absent(serve: Serve) -> None:
    zero = perf_counter() - 100.0
    sample = read_once(serve(lambda path: VLLM).endpoint, NAMES, zero)
    assert 100.0 <= sample.t_s < 101.0
    assert (sample.kv_usage, sample.running, sample.generation_tokens_total) == (0.0, 0.0, 5.0)
    assert sample.waiting is None
    assert sample.gpu_energy_j is None


def test_a_sample_is_timed_at_the_middle_of_the_exchange(serve: Serve) -> None:
    def slowly(path: str) -> str:
        time.sleep(0.4)
        return page()

    asked = perf_counter()
    sample = read_once(serve(slowly).endpoint, NAMES, zero=asked)
    took = perf_counter() - asked
    assert sample.t_s == pytest.approx(took / 2, abs=0.1)
    assert took >= 0.4


def test_engines_of_one_server_add_up_and_their_cache_shares_average(serve: Serve) -> None:
    two = page() + page(running=3.0, tokens=7.0).replace("0.5", "0.7").replace('"0"', '"1"')
    sample = read_once(serve(lambda path: two).endpoint, NAMES, zero=0.0)
    assert sample.kv_usage == pytest.approx(0.6)
    assert (sample.running, sample.generation_tokens_total) == (4.0, 12.0)


def test_samples_bracket_the_load_at_the_asked_rate_on_one_connection_with_the_key(serve: Serve) -> None:
    server = serve(lambda path: page())
    zero = perf_counter()
    with Sampler(server.endpoint, NAMES, hz=20, zero=zero) as sampler:
        start = perf_counter() - zero
        time.sleep(0.6)
        end = perf_counter() - zero
    times = [sample.t_s for sample in sampler.samples]
    assert times == sorted(times)
    assert times[0] < start
    assert times[-1] > end
    assert 6 <= sum(start <= t_s <= end for t_s in times) <= 13
    assert {sample.running for sample in sampler.samples} == {1.0}
    assert len({port for _, _, port in server.seen}) == 1
    assert {key for _, key, _ in server.seen} == {"Bearer secret"}


def test_asks_for_the_wanted_metrics_alone_where_the_server_can(serve: Serve) -> None:
    def filtered(path: str) -> str:
        wanted = parse_qs(urlsplit(path).query).get("name[]", [])
        return "\n".join(line for line in VLLM.splitlines() if not wanted or line.split("{")[0] in wanted)

    server = serve(filtered)
    with Sampler(server.endpoint, NAMES, hz=50, zero=0.0):
        pass
    paths = [path for path, _, _ in server.seen]
    assert all(path.startswith("/metrics/?") for path in paths)
    assert parse_qs(urlsplit(paths[-1]).query)["name[]"] == sorted(NAMES.values())


@pytest.mark.parametrize("refusal", [404, 307, ""])
def test_asks_for_the_whole_page_where_it_cannot(serve: Serve, refusal: str | int) -> None:
    server = serve(lambda path: page() if path == "/metrics" else refusal)
    with Sampler(server.endpoint, NAMES, hz=50, zero=0.0) as sampler:
        pass
    assert sampler.samples[0].running == 1.0
    assert server.seen[-1][0] == "/metrics"


@pytest.mark.parametrize("failure", [0, 503])
def test_a_page_that_fails_for_a_while_leaves_absent_values_and_the_sampling_goes_on(
    serve: Serve, failure: int
) -> None:
    broken = threading.Event()
    server = serve(lambda path: failure if broken.is_set() else page())
    with Sampler(server.endpoint, NAMES, hz=100, zero=0.0) as sampler:
        broken.set()
        wait_for_failure(sampler)
        broken.clear()
    running = [sample.running for sample in sampler.samples]
    assert running[0] == running[-1] == 1.0
    assert None in running
    assert sampler.failures == running.count(None)


@pytest.mark.parametrize(
    "line",
    ["{} ", "{}", "{} three", '{}{{engine="0}} 1', '{}{{engine="0"}}', "{} NaN", '{}{{engine="1"}} +Inf'],
)
def test_a_malformed_line_is_a_hole_in_its_own_field_and_the_sampling_goes_on(
    serve: Serve, line: str
) -> None:
    broken = threading.Event()
    bad = line.format(NAMES["running"])
    server = serve(lambda path: page() + (bad + "\n" if broken.is_set() else ""))
    with Sampler(server.endpoint, NAMES, hz=100, zero=0.0) as sampler:
        broken.set()
        before = len(sampler.samples)
        while len(sampler.samples) < before + 3:
            time.sleep(0.01)
        broken.clear()
    samples = sampler.samples
    assert samples[0].running == samples[-1].running == 1.0
    assert None in [sample.running for sample in samples]
    assert {sample.generation_tokens_total for sample in samples} == {5.0}


@pytest.mark.parametrize("reply", [b"garbage\r\n\r\n", b"HTTP/1.1 2x0 OK\r\n\r\n", b"\x00\xff"])
def test_what_is_no_http_is_a_hole(reply: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with suppress(OSError):
                while True:
                    peer = listener.accept()[0]
                    with peer:
                        peer.recv(65536)
                        peer.sendall(reply)

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(MeasurementError, match="cannot be read"):
            read_once(Endpoint("127.0.0.1", listener.getsockname()[1], "m"), NAMES, zero=0.0)


def test_neighbours_are_sampled_whether_or_not_the_page_can_be_read(serve: Serve) -> None:
    broken = threading.Event()
    server = serve(lambda path: 503 if broken.is_set() else page())
    with Sampler(server.endpoint, NAMES, hz=20, zero=0.0, pid=os.getpid()) as sampler:
        broken.set()
        time.sleep(0.4)
        broken.clear()
    first, *later = sampler.samples
    assert (first.engine_cpus, first.others_cpus) == (None, None)
    assert all(sample.engine_cpus is not None for sample in later)
    assert any(sample.running is None and sample.others_cpus is not None for sample in later)
    assert None in [sample.running for sample in later]


def test_a_page_that_stalls_is_given_up_and_asked_for_again(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "TIMEOUT_S", 0.05)
    stalled = threading.Event()

    def answer(path: str) -> str:
        if stalled.is_set():
            time.sleep(0.2)
        return page()

    with Sampler(serve(answer).endpoint, NAMES, hz=100, zero=0.0) as sampler:
        stalled.set()
        wait_for_failure(sampler)
        stalled.clear()
        time.sleep(0.3)
    running = [sample.running for sample in sampler.samples]
    assert None in running
    assert running[-1] == 1.0


def test_the_first_reading_must_succeed(serve: Serve) -> None:
    with pytest.raises(MeasurementError), Sampler(serve(lambda path: 503).endpoint, NAMES, hz=5, zero=0.0):
        pass


def test_the_last_sample_waits_for_the_token_counter_to_rest(serve: Serve) -> None:
    """The counter catches up over the three readings after the load."""
    ended, counted = threading.Event(), [5.0]

    def answer(path: str) -> str:
        if ended.is_set():
            counted[0] = min(counted[0] + 1.0, 8.0)
        return page(tokens=counted[0])

    with Sampler(serve(answer).endpoint, NAMES, hz=1, zero=0.0) as sampler:
        ended.set()
    assert sampler.samples[-1].generation_tokens_total == 8.0


@pytest.mark.parametrize(
    ("running", "expected_tokens", "waits"), [(0, 3, False), (1, 3, True), (0, 4, True), (0, None, True)]
)
def test_an_idle_engine_that_has_counted_what_the_clients_saw_is_not_waited_for(
    serve: Serve, running: float, expected_tokens: int | None, waits: bool
) -> None:
    ended = threading.Event()
    server = serve(lambda path: page(running=running, tokens=8.0 if ended.is_set() else 5.0))
    with Sampler(server.endpoint, NAMES | {"waiting": WAITING}, hz=1, zero=0.0) as sampler:
        ended.set()
        sampler.expected_tokens = expected_tokens
    assert sampler.samples[-1].generation_tokens_total == 8.0
    assert len(sampler.samples) == (3 if waits else 2)


def test_without_names_no_page_is_asked_for() -> None:
    with Sampler(Endpoint("127.0.0.1", 9, "m"), {}, hz=100, zero=0.0) as sampler:
        time.sleep(0.05)
    assert len(sampler.samples) >= 2
    assert {sample.running for sample in sampler.samples} == {None}


def test_a_failing_load_still_ends_the_thread(serve: Serve) -> None:
    server = serve(lambda path: page())
    with pytest.raises(ZeroDivisionError), Sampler(server.endpoint, NAMES, hz=100, zero=0.0) as sampler:
        raise ZeroDivisionError
    taken = len(sampler.samples)
    time.sleep(0.05)
    assert len(sampler.samples) == taken


def test_the_gpus_are_sampled_beside_the_engine(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    use = GpuUse(frozenset({7}), (1 << 30,), (0,))

    class OneGpu:
        def read(self) -> dict[str, tuple[float, ...]]:
            return {"gpu_power_w": (300.0,)}

        def use(self) -> GpuUse:
            return use

    monkeypatch.setattr(engine, "open_gpus", OneGpu)
    server = serve(lambda path: page())
    with Sampler(server.endpoint, NAMES, hz=50, zero=0.0, gpu=True) as sampler:
        pass
    assert {(sample.running, sample.gpu_power_w) for sample in sampler.samples} == {(1.0, (300.0,))}
    assert sampler.gpu_uses == [use, use], "at the start and at the end of what was short"
    assert read_once(server.endpoint, NAMES, zero=0.0).gpu_power_w is None
    with Sampler(server.endpoint, NAMES, hz=100, zero=0.0, gpu=True) as sampler:
        time.sleep(1.3)
    assert 3 <= len(sampler.gpu_uses) <= 4, "about one a second in between"

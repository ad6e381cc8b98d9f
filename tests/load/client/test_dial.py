"""Connections: every address of a host is tried, and https is spoken where the endpoint speaks it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.engines.http import ask
from orchestrator.load.arrivals import Closed
from orchestrator.load.client.dial import ConnectError, Dial
from orchestrator.load.driver import run
from orchestrator.records import Endpoint
from orchestrator.telemetry.engine import Scraper
from tests.load.scripted import job, truth
from tests.support.scripted_server import serve
from tests.support.tls import certificate, tls_before


@contextmanager
def addresses(*ports: int) -> Iterator[list[int]]:
    """Host names stand for these ports of this machine; yields the ports that were connected to."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        yield list(ports)


def dialled(times: int) -> list[int]:
    """The ports that so many connections came to."""

    async def body() -> list[int]:
        dial = Dial(asyncio.get_running_loop(), Endpoint("h", 1, "m"))
        await dial.resolve()
        ports = []
        for _ in range(times):
            sock, tls = await dial.open()
            assert tls is None
            ports.append(sock.getpeername()[1])
            sock.close()
        return ports

    return asyncio.run(body())


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening
        yield held.getsockname()[1]


def test_addresses_are_tried_in_their_order(closed_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        first, second = one.getsockname()[1], two.getsockname()[1]
        with addresses(closed_port, first, second):
            assert dialled(3) == [first] * 3
        with addresses(second, first):
            assert dialled(1) == [second]


def test_where_no_address_answers_the_last_one_says_why(closed_port: int) -> None:
    with (
        addresses(closed_port, closed_port),
        pytest.raises(ConnectError, match=r"h:1 \(Connection refused\)"),
    ):
        dialled(1)


def test_an_unknown_name_is_looked_up_again_for_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def unknown(*_: Any, **__: Any) -> Any:
        asked.append(1)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConnectError, match=r"h:1 \(Name or service not known\)"):
        dialled(1)
    assert len(asked) == 2


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int, Path]]:
    """The scripted server's port, the port where it speaks TLS, and the certificate for localhost."""
    made, key = certificate(tmp_path_factory.mktemp("tls"))
    with serve() as port, tls_before(port, made, key) as tls_port:
        yield port, tls_port, made


def test_over_tls_a_load_is_timed_as_without(
    secure: tuple[int, int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, tls_port, trusted = secure
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    endpoint = Endpoint("localhost", tls_port, "scripted", tls=True)
    scripts = [{"tokens": 50, "gap_s": 0.004, "reasoning": 20}] * 6
    load = job(port, scripts, Closed(2), endpoint=endpoint, processes=2)
    result = run(load)
    assert [(record.outcome, record.error) for record in result.records] == [("ok", None)] * 6
    stamps = truth(port)
    for record in result.records:
        assert record.output_tokens == 50
        late = (
            record.chunk_s + load.zero - np.array(stamps[record.request_id]["sent_s"])[: len(record.chunk_s)]
        )
        assert (late >= 0).all()
        assert np.median(late) < 0.01
    status, _ = ask(endpoint, "GET", "/v1/models")
    assert status == 200
    scraper = Scraper(endpoint)
    assert b"vllm:" in scraper.page()
    assert scraper.url == f"https://localhost:{tls_port}/metrics"
    scraper.close()


def test_a_certificate_that_is_not_trusted_is_each_requests_error(secure: tuple[int, int, Path]) -> None:
    _, tls_port, _ = secure
    endpoint = Endpoint("localhost", tls_port, "scripted", tls=True)
    records = run(job(tls_port, [{}] * 3, Closed(1), endpoint=endpoint)).records
    assert {record.outcome for record in records} == {"error"}
    assert all("its certificate is not trusted" in str(record.error) for record in records)
    assert all(record.sent_s is None for record in records)
    assert ask(endpoint, "GET", "/v1/models") == (None, b"")


def test_a_server_that_does_not_speak_tls_is_each_requests_error(secure: tuple[int, int, Path]) -> None:
    port, _, _ = secure
    endpoint = Endpoint("localhost", port, "scripted", tls=True)
    (record,) = run(job(port, [{}], Closed(1), endpoint=endpoint)).records
    assert record.outcome == "error"
    assert "cannot connect to localhost" in str(record.error)
    with pytest.raises(ssl.SSLError):
        ssl.create_default_context().wrap_socket(
            socket.create_connection(("127.0.0.1", port)), server_hostname="localhost"
        )

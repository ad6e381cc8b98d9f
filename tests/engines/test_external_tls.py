"""A server of others over https: what is said before a sweep where its certificate does not hold here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.cluster.ask import ask
from orchestrator.config.schema import EngineConfig
from orchestrator.engines.external import UntrustedError, served
from tests.support.cli import sweep
from tests.support.compose import config_of
from tests.support.scripted_server import serve
from tests.support.tls import certificate, tls_before


@pytest.fixture(scope="module")
def plain() -> Iterator[int]:
    with serve() as port:
        yield port


def said(url: str) -> str:
    """Why no sweep of it begins."""
    with pytest.raises(UntrustedError) as caught:
        served(EngineConfig(name="external", base_url=url))
    message = str(caught.value)
    assert message.startswith(f"engine.base_url={url}: ")
    assert "\n" not in message
    return message


def test_a_certificate_that_signed_itself_is_refused_until_it_is_named(
    tmp_path: Path, plain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    made, key = certificate(tmp_path)
    with tls_before(plain, made, key) as port:
        url = f"https://localhost:{port}/v1"
        told = said(url)
        assert "its certificate does not hold (self-signed certificate" in told
        assert "set SSL_CERT_FILE to a PEM file" in told
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent.pem"))
        assert f"set SSL_CERT_FILE (now {tmp_path}/absent.pem, which is no file) to" in said(url)
        other = tmp_path / "other"
        other.mkdir()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate(other)[0]))
        assert "which does not have it" in said(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(made))
        assert served(EngineConfig(name="external", base_url=url))["id"] == "scripted"


@pytest.mark.parametrize(
    ("name", "days", "host", "told"),
    [
        (
            "other.example",
            2,
            "localhost",
            "not valid for 'localhost'); the host must be one that the certific",
        ),
        (
            "localhost",
            2,
            "127.0.0.1",
            "not valid for '127.0.0.1'); the host must be one that the certificate n",
        ),
        ("localhost", -1, "localhost", "certificate has expired); the server needs one that is valid now"),
    ],
)
def test_a_trusted_certificate_for_another_host_or_another_time_is_refused(
    name: str, days: int, host: str, told: str, tmp_path: Path, plain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, key = certificate(tmp_path, name, days)
    monkeypatch.setenv("SSL_CERT_FILE", str(made))
    with tls_before(plain, made, key) as port:
        assert told in said(f"https://{host}:{port}")


def test_planning_ends_there(tmp_path: Path, plain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another server that does not answer is only noted: the nodes may reach it."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with tls_before(plain, *certificate(tmp_path)) as port:
        config = config_of("engine=external", f"engine.base_url=https://localhost:{port}", "hardware=cpu")
        with pytest.raises(UntrustedError, match="SSL_CERT_FILE"):
            ask([config], tmp_path)


@pytest.mark.slow
def test_the_command_ends_with_one_line_before_anything_starts(
    tmp_path: Path, plain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with tls_before(plain, *certificate(tmp_path)) as port:
        done = sweep(
            *("-m", "engine=external", f"engine.base_url=https://localhost:{port}", "hardware=cpu"),
            *("tracker=none", "limit=4", f"results_dir={tmp_path / 'results'}"),
        )
    assert done.returncode == 2, done.stdout + done.stderr
    told = [line for line in (done.stdout + done.stderr).splitlines() if "SSL_CERT_FILE" in line]
    assert len(told) == 1
    assert f"engine.base_url=https://localhost:{port}: its certificate does not hold" in told[0]
    assert not list((tmp_path / "results").rglob("*.parquet"))

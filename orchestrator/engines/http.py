"""One small request to a server's control routes."""

from __future__ import annotations

import http.client

from orchestrator.records import Endpoint

ANSWERS_S = 10.0


def ask(
    endpoint: Endpoint,
    method: str,
    path: str,
    *,
    timeout_s: float = ANSWERS_S,
    key: str | None = None,
    sent: bytes | None = None,
) -> tuple[int | None, bytes]:
    """Status and body of one request with the endpoint's key, or with ``key``; None when nothing answers.
    ``sent`` is its own body, JSON."""
    try:
        return answer(endpoint, method, path, timeout_s=timeout_s, key=key, sent=sent)
    except (OSError, http.client.HTTPException):
        return None, b""


def answer(
    endpoint: Endpoint,
    method: str,
    path: str,
    *,
    timeout_s: float = ANSWERS_S,
    key: str | None = None,
    sent: bytes | None = None,
) -> tuple[int, bytes]:
    """As `ask`, but raises what came instead of an answer: OSError, TimeoutError after ``timeout_s`` without
    a byte, HTTPException where it was no HTTP. A redirection is not followed; its body is where it leads."""
    connect = http.client.HTTPSConnection if endpoint.tls else http.client.HTTPConnection
    connection = connect(endpoint.host, endpoint.port, timeout=timeout_s)
    used = key or endpoint.api_key
    try:
        headers = {"Authorization": f"Bearer {used}"} if used else {}
        if sent is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, endpoint.base_path + path, sent, headers)
        response = connection.getresponse()
        body, to = response.read(), response.getheader("Location")
        moved = response.status // 100 == 3 and to
        return response.status, f"redirects to {to}".encode() if moved else body
    finally:
        connection.close()

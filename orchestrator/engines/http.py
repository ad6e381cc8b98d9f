"""One small request to a server's control routes."""

from __future__ import annotations

import http.client

from orchestrator.records import Endpoint


def ask(
    endpoint: Endpoint, method: str, path: str, *, timeout_s: float = 10.0, key: str | None = None
) -> tuple[int | None, bytes]:
    """Status and body of one request with the endpoint's key, or with ``key``; None when nothing answers."""
    connect = http.client.HTTPSConnection if endpoint.tls else http.client.HTTPConnection
    connection = connect(endpoint.host, endpoint.port, timeout=timeout_s)
    used = key or endpoint.api_key
    try:
        headers = {"Authorization": f"Bearer {used}"} if used else {}
        connection.request(method, endpoint.base_path + path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return None, b""
    finally:
        connection.close()

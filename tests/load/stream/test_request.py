"""`response.request_bytes`: the request as it goes on the wire."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.load.stream.response import request_bytes
from orchestrator.records import Endpoint, Request

REQUEST = Request("cell-7", "item", 0, b'{"model": "m"}', "")
ENDPOINT = Endpoint("127.0.0.1", 8000, "m")


def test_the_whole_request() -> None:
    assert request_bytes(ENDPOINT, REQUEST) == (
        b"POST /v1/chat/completions HTTP/1.1\r\n"
        b"Host: 127.0.0.1:8000\r\n"
        b"Content-Type: application/json\r\n"
        b"Accept: text/event-stream\r\n"
        b"Accept-Encoding: identity\r\n"
        b"Content-Length: 14\r\n"
        b"X-Request-Id: cell-7\r\n"
        b"\r\n"
        b'{"model": "m"}'
    )


def test_a_path_a_key_and_an_address_of_the_sixth_version() -> None:
    endpoint = replace(ENDPOINT, host="::1", base_path="/llm/", api_key="abc")
    head = request_bytes(endpoint, REQUEST).split(b"\r\n")
    assert head[0] == b"POST /llm/v1/chat/completions HTTP/1.1"
    assert b"Host: [::1]:8000" in head
    assert b"Authorization: Bearer abc" in head

"""What a connection reports of a call, by how its answer ended and whoever takes the connection next."""

from __future__ import annotations

from time import perf_counter

import pytest

from tests.load.client.line import Line

HEAD = b"HTTP/1.1 %d X\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"


def response(finish: str, status: int = 200) -> bytes:
    body = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"%b"}]}\n\n' % finish.encode()
    return HEAD % (status, len(body)) + body


def ended(finish: str) -> tuple[str, str | None, int | None]:
    line = Line()
    line.ask()
    line.feed(perf_counter(), response(finish))
    line.settle()
    (end,) = line.ends
    return end.outcome, end.error, end.status


@pytest.mark.parametrize("status", [200, 503])
def test_the_status_is_the_calls_own_though_another_takes_the_connection(status: int) -> None:
    line = Line()
    line.ask()

    def next_one() -> None:
        line.ask()

    line.on_release = next_one
    line.feed(perf_counter(), response("stop", status))
    line.flush()
    assert line.connection.call is not None
    assert [end.status for end in line.ends] == [status]


@pytest.mark.parametrize(
    "finish",
    [
        *("abort", "error", "content_filter", "CONTENT_FILTER", "insufficient_system_resource", "SAFETY"),
        *("content-filter", "ContentFilter", "guardrail_intervened", "refusal", "server_error", "Timeout"),
    ],
)
def test_an_answer_that_the_server_gave_up_or_withheld_is_not_ok(finish: str) -> None:
    assert ended(finish) == ("error", f"the server gave the request up (finish_reason {finish})", 200)


@pytest.mark.parametrize("finish", ["stop", "length", "MAX_TOKENS", "model_length", "tool_calls", "end_turn"])
def test_any_other_end_is_ok(finish: str) -> None:
    assert ended(finish) == ("ok", None, 200)


def test_an_empty_reason_is_none() -> None:
    assert ended("") == ("error", "the stream ended without a finish_reason", 200)

"""One answer in every way that HTTP and server-sent events let a server frame it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.load.client.line import End, Line

DATA = (
    b'{"choices":[{"delta":{"role":"assistant","content":""}}],"usage":{"completion_tokens":0}}',
    b'{"choices":[{"delta":{"content":"4"}}],"usage":{"completion_tokens":1}}',
    b'{"choices":[{"delta":{"content":"2"}}],"usage":{"completion_tokens":2}}',
    b'{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"completion_tokens":2,"prompt_tokens":5}}',
    b"[DONE]",
)
PLAIN = tuple(b"data: %b\n\n" % data for data in DATA)
TYPE = b"Content-Type: text/event-stream\r\n"
HEAD = b"HTTP/1.1 200 OK\r\n" + TYPE
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def chunked(
    events: tuple[bytes, ...], form: bytes = b"%x\r\n%b\r\n", last: bytes = b"0\r\n\r\n"
) -> list[bytes]:
    return [CHUNKED, *(form % (len(event), event) for event in events), last]


def sized(events: tuple[bytes, ...], head: bytes = HEAD) -> list[bytes]:
    body = b"".join(events)
    return [head + b"Content-Length: %d\r\n\r\n" % len(body), *events]


HTTP = {
    "chunks": chunked(PLAIN),
    "chunk extensions": chunked(PLAIN, b"%x;name=value\r\n%b\r\n"),
    "quoted extensions": chunked(PLAIN, b'%x;a;b="c; d"\r\n%b\r\n'),
    "sizes with zeros": chunked(PLAIN, b"000%x\r\n%b\r\n"),
    "sizes in capitals": chunked(PLAIN, b"%X\r\n%b\r\n"),
    "trailers": chunked(PLAIN, last=b"0\r\nServer-Timing: total;dur=5\r\nX-Request-Id: request-0\r\n\r\n"),
    "trailers that a head would mean": chunked(PLAIN, last=b"0\r\nContent-Type: a/b\r\nLocation: /\r\n\r\n"),
    "two events a chunk": chunked((PLAIN[0] + PLAIN[1], PLAIN[2] + PLAIN[3], PLAIN[4])),
    "events across chunks": chunked(tuple(part for one in PLAIN for part in (one[:9], one[9:]))),
    "a length": sized(PLAIN),
    "HTTP/1.0": [b"HTTP/1.0 200 OK\r\n" + TYPE + b"\r\n", *PLAIN],
    "HTTP/1.0 with a length": sized(PLAIN, b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + TYPE),
    "until it closes": [HEAD + b"Connection: close\r\n\r\n", *PLAIN],
    "after 100": [b"HTTP/1.1 100 Continue\r\n\r\n", *chunked(PLAIN)],
    "after 102 and 103": [
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n"
        b"Content-Type: text/html\r\n\r\n",
        *chunked(PLAIN),
    ],
    "a type with parameters": sized(
        PLAIN, b'HTTP/1.1 200\r\nCONTENT-TYPE:Text/Event-Stream;charset="UTF-8"\r\n'
    ),
    "a keep-alive that names a time": sized(
        PLAIN, HEAD + b"Connection: Keep-Alive\r\nKeep-Alive: timeout=1\r\n"
    ),
}
EVENTS = {
    "CRLF": tuple(event.replace(b"\n", b"\r\n") for event in PLAIN),
    "CR": tuple(event.replace(b"\n", b"\r") for event in PLAIN),
    "no space": tuple(event.replace(b"data: ", b"data:") for event in PLAIN),
    "ids": tuple(b"id: %d\nevent: message\nretry: 9\n%b" % one for one in enumerate(PLAIN)),
    "data before its type": tuple(b"%b\nevent: chunk\n\n" % event[:-2] for event in PLAIN),
    "comments": tuple(b": OPENROUTER PROCESSING\n\n:\n%b" % event for event in PLAIN),
    "a comment inside": tuple(event[:-1] + b": note\n\n" for event in PLAIN),
    "several lines": tuple(b"data: %b\n\n" % data.replace(b"[{", b"[\ndata: {") for data in DATA),
    "several lines with CRLF": tuple(b"data: %b\r\n\r\n" % d.replace(b",", b",\r\ndata:") for d in DATA),
    "null": tuple(b"data: null\n\n" + event for event in PLAIN),
    "a field without a value": tuple(b"data\n\nevent\n" + event for event in PLAIN),
}


def ended(reads: list[bytes], size: int | None) -> End:
    wire = b"".join(reads)
    line = Line()
    line.ask()
    for number, data in enumerate(reads if size is None else list(_cut(wire, size))):
        line.feed(1e6 + number, data)
    line.settle()
    (end,) = line.ends
    assert not line.counted
    return end


def _cut(wire: bytes, size: int) -> Iterator[bytes]:
    return (wire[at : at + size] for at in range(0, len(wire), size))


def check(end: End) -> None:
    assert (end.outcome, end.error, end.status) == ("ok", None, 200)
    stream = end.stream
    assert (stream.response_text, stream.usage_mode, stream.finish_reason) == ("42", "continuous", "stop")
    assert (stream.output_tokens, stream.prompt_tokens, list(stream.chunk_tokens)) == (2, 5, [1, 1])


@pytest.mark.parametrize("size", [None, 1, 7, 4096])
@pytest.mark.parametrize("reads", HTTP.values(), ids=HTTP)
def test_the_answer_is_the_same_however_http_frames_it(reads: list[bytes], size: int | None) -> None:
    check(ended(reads, size))


@pytest.mark.parametrize("size", [None, 1, 7, 4096])
@pytest.mark.parametrize("events", EVENTS.values(), ids=EVENTS)
@pytest.mark.parametrize("framed", [chunked, sized])
def test_and_however_its_events_are_written(
    events: tuple[bytes, ...], framed: object, size: int | None
) -> None:
    assert callable(framed)
    check(ended(framed(events), size))


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", "HTTP 204: "),
        (
            b"HTTP/1.1 307 X\r\nLocation: https://h/v1/\r\nContent-Length: 2\r\n\r\n{}",
            "HTTP 307: redirects to https://h/v1/",
        ),
        (b"HTTP/1.1 301 X\r\nlocation: /b\r\nContent-Length: 0\r\n\r\n", "HTTP 301: redirects to /b"),
        (b"HTTP/1.1 300 X\r\nContent-Length: 6\r\n\r\nchoose", "HTTP 300: choose"),
        (b"HTTP/1.1 503 X\r\nLocation: /b\r\nContent-Length: 4\r\n\r\nbusy", "HTTP 503: busy"),
        (b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "not an HTTP response"),
        (HEAD + b"Content-Length: 9\r\n\r\ndata: {}\n", "the stream ended without a finish_reason"),
    ],
)
@pytest.mark.parametrize("size", [None, 1])
def test_what_is_no_answer_says_what_it_is(response: bytes, error: str, size: int | None) -> None:
    end = ended([response], size)
    assert end.outcome == "error"
    assert str(end.error).startswith(error)


def test_an_answer_that_breaks_off_before_its_length_or_its_last_chunk_is_an_error() -> None:
    for reads in (chunked(PLAIN)[:-3], sized(PLAIN)[:-2]):
        end = ended(reads, None)
        assert end.outcome == "error"
        assert end.error == "the connection was closed by the server in the middle of the response"
        assert end.stream.response_text == "42"

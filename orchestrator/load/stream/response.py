"""The bytes of one keep-alive connection: HTTP/1.1 responses in, server-sent events out."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import repeat

import httptools

from orchestrator.load.receive.receiver import EVENT_END, HeldReads
from orchestrator.load.stream.event_template import EventTemplate, Split
from orchestrator.load.stream.sse import EventStream
from orchestrator.load.stream.timeline import Timeline
from orchestrator.records import Endpoint, Request

_BODY_LIMIT = 64 * 1024  # bytes kept of a body that is not an event stream
_RUN_AT_LEAST, _MISSES_AT_MOST = 12, 3


class ProtocolError(Exception):
    """The bytes are not an HTTP response, or one that cannot be read."""


def request_bytes(endpoint: Endpoint, request: Request) -> bytes:
    """The whole request as it goes on the wire."""
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    head = [
        f"POST {endpoint.base_path.rstrip('/')}/v1/chat/completions HTTP/1.1",
        f"Host: {host}:{endpoint.port}",
        "Content-Type: application/json",
        "Accept: text/event-stream",
        "Accept-Encoding: identity",
        f"Content-Length: {len(request.body)}",
        f"X-Request-Id: {request.request_id}",
    ]
    if endpoint.api_key is not None:
        head.append(f"Authorization: Bearer {endpoint.api_key}")
    return "\r\n".join([*head, "", ""]).encode() + request.body


class ResponseReader:
    """Reads one response after the other from bytes cut anywhere, into the timeline given to ``begin``.

    llhttp and `EventStream` can read everything. The usual read, whole HTTP chunks of one whole event each,
    goes past them when neither is in the middle of something; both keep no state between chunks, so they need
    not see it. The receiver holds such reads until `flush` takes them, as a run of events from one
    `EventTemplate` costs less than each of them alone.
    """

    __slots__ = (
        "_at_boundary",
        "_content_type",
        "_events",
        "_fast",
        "_held",
        "_misses",
        "_parser",
        "_split",
        "_template",
        "_time_s",
        "_timeline",
        "body",
        "complete",
        "encoding",
        "excess",
        "foreign",
        "is_stream",
        "keep_alive",
        "location",
        "request_id",
        "started",
        "status",
        "until_close",
    )

    def __init__(self, held: HeldReads, split: Split) -> None:
        """``held``: this connection's reads that wait to be taken."""
        self._held = held
        self._split = split
        self._fast = False
        self._parser = httptools.HttpResponseParser(self)
        self._time_s = 0.0
        self.begin(Timeline())

    def begin(self, timeline: Timeline) -> None:
        """Expect the next response."""
        self._timeline = timeline
        self._events = EventStream()
        self._set_fast(False)
        self._template: EventTemplate | None = None
        self._misses = 0  # in a row
        self._at_boundary = False
        self._content_type = b""
        self.started = False
        self.status: int | None = None
        self.is_stream = False
        self.until_close = True  # neither a length nor chunked: the end of the connection ends the body
        self.complete = self.keep_alive = False
        self.excess = False  # more came behind the response, which nobody asked for
        self.request_id = b""  # which it says it is the response to
        self.foreign = False  # and that is another request
        self.encoding = b""  # of the body, where it has one
        self.location = b""  # of a redirection: where to
        self.body = b""

    def feed(self, t: float, data: bytes) -> None:
        """Take a read that arrived at ``t``, after those held. Raises ProtocolError."""
        self.started = True
        self.flush()
        self._read(t, data)

    def flush(self) -> None:
        """Take the reads that are held. Raises ProtocolError."""
        reads = self._held.take()
        if reads is None:
            return
        times, ends, wire = reads
        taken = 0
        if len(times) >= _RUN_AT_LEAST and self._misses < _MISSES_AT_MOST:
            taken = self._take_run(wire, times, ends)
        start = ends[taken - 1] if taken else 0
        for t, end in zip(times[taken:], ends[taken:], strict=True):
            self._read(t, wire[start:end])
            start = end

    def _set_fast(self, fast: bool) -> None:
        if fast != self._fast:
            self._held.hold(fast)
        self._fast = fast

    def _take_run(self, wire: bytes, times: array[float], ends: array[int]) -> int:
        """Take the reads whose events follow the template, learning a new one from the first read if they do
        not. Returns how many reads were taken: never the last, whose usage brings all counts up to date."""
        last = len(times) - 1
        if self._add_run(wire, times, ends, 0, last):
            return last
        self._read(times[0], wire[: ends[0]])
        self._template = EventTemplate.of(self._timeline.last)
        if self._add_run(wire, times, ends, 1, last):
            self._misses = 0
            return last
        self._misses += 1
        return 1

    def _add_run(
        self, wire: bytes, times: Sequence[float], ends: Sequence[int], first: int, last: int
    ) -> bool:
        """Add the reads ``first`` up to but not including ``last``, if all follow the template."""
        template, timeline = self._template, self._timeline
        if template is None:
            return False
        start = ends[first - 1] if first else 0
        texts = template.read(wire[start : ends[last - 1]], timeline.tokens, self._split)
        if texts is None:
            return False
        each = times[first:last]
        if len(texts) > len(each):  # some reads hold several
            starts = [0, *ends][first:last]
            counts = map(wire.count, repeat(EVENT_END), starts, ends[first:last])
            each = [t for t, count in zip(each, counts, strict=True) for _ in range(count)]
        return timeline.add_run(template, each, texts)

    def _read(self, t: float, data: bytes) -> None:
        self._time_s = t
        if self._fast:
            data = self._take_whole_events(t, data)
            if not data:
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:  # what a callback raised is its context
            raise ProtocolError(f"the response cannot be read ({error.__context__!r})") from error
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                raise ProtocolError(f"not an HTTP response ({error})") from None
            self.excess = True
        self._set_fast(
            self._at_boundary and self.is_stream and self._events.between_events and data.endswith(b"\n")
        )

    def _take_whole_events(self, t: float, data: bytes) -> bytes:
        """Take what leads ``data`` in the form ``SIZE CRLF "data: " EVENT LF LF CRLF``; returns the rest."""
        at, end = 0, len(data)
        while at < end:
            line = data.find(b"\r\n", at, at + 10)
            try:
                stop = line + 2 + int(data[at:line], 16) if line > 0 else end
            except ValueError:
                break
            event = data[line + 8 : stop]
            if (
                stop < line
                or data[stop - 2 : stop + 2] != b"\n\n\r\n"
                or data[line + 2 : line + 8] != b"data: "
                or event.count(b"\n") != 2
                or b"\r" in event
            ):
                break
            self._timeline.add(t, event)
            at = stop + 2
        return data[at:]

    def close(self) -> None:
        """Break the cycle with the parser: no collector runs during a measurement."""
        del self._parser

    # What llhttp calls. What comes behind the response changes nothing of it.

    def on_message_begin(self) -> None:
        if self.complete:
            self.excess = True
            return
        self._content_type = self.encoding = self.location = b""
        self.until_close = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.excess:
            return
        name = name.lower()
        if name == b"content-type":
            self._content_type = value.lower()
        elif name == b"content-encoding":
            self.encoding = value.lower().strip().replace(b"identity", b"")
        elif name == b"location":
            self.location = value.strip()
        elif name == b"x-request-id":
            self.request_id = value.strip()
        elif name in (b"content-length", b"transfer-encoding"):
            self.until_close = False

    def on_headers_complete(self) -> None:
        if self.excess:
            return
        self.status = self._parser.get_status_code()
        stream = self.status == 200 and b"text/event-stream" in self._content_type
        self.is_stream = stream and not self.encoding

    def on_chunk_header(self) -> None:
        self._at_boundary = False

    def on_chunk_complete(self) -> None:
        self._at_boundary = not self.excess

    def on_body(self, body: bytes) -> None:
        if self.excess:
            return
        if self.is_stream:
            for event in self._events.feed(body):
                self._timeline.add(self._time_s, event)
        elif len(self.body) < _BODY_LIMIT:
            self.body += body

    def on_message_complete(self) -> None:
        self._at_boundary = False
        if self.status is not None and self.status >= 200 and not self.excess:  # a 1xx announces the real one
            self.complete = True
            self.keep_alive = bool(self._parser.should_keep_alive())  # llhttp forgets it with the message

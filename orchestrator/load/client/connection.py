"""One keep-alive connection, and the outcome of each call on it."""

from __future__ import annotations

import socket
from time import perf_counter
from typing import NamedTuple, Protocol

from orchestrator.load.client.tls import Tls
from orchestrator.load.receive.receiver import NOTHING_HELD, READ_SIZE, HeldReads
from orchestrator.load.receive.sockets import Sockets
from orchestrator.load.stream.event_template import Split
from orchestrator.load.stream.payload import error_message, excerpt
from orchestrator.load.stream.response import ProtocolError, ResponseReader
from orchestrator.load.stream.timeline import Stream, Timeline
from orchestrator.records import Outcome, plain

WINDOW_ENDED = "the window of {:g} s ended"  # why a request was cancelled once `duration_s` was over
RETRY_WITHIN_S = 0.25
"""A server that closes an idle connection has done so before the request comes, so that its word is here at
most a round trip after the request was sent. One that closes later has had the request."""

_HEAD_AT_MOST = 4096  # bytes of a request in which its X-Request-Id is looked for
# With a 408 a server may tell of itself that it closes an idle connection (RFC 9110, 15.5.9).
_IDLE_TOO_LONG = (b"HTTP/1.1 408", b"HTTP/1.0 408")

# Why an answer is none, as `records.plain` writes it: vLLM's and SGLang's "abort" and "error"; OpenAI's,
# DeepSeek's, Zhipu's, Google's, Anthropic's and Bedrock's words for what they withheld or broke off.
_FAILED_FINISH = frozenset(
    {
        *("abort", "aborted", "error", "network_error", "insufficient_system_resource", "cancelled"),
        *("canceled", "failed", "timeout", "internal_error", "server_error", "malformed_function_call"),
        *("content_filter", "content_filtered", "guardrail_intervened", "refusal"),
        *("sensitive", "safety", "recitation", "blocklist", "prohibited_content", "spii"),
    }
)


class Finished(NamedTuple):
    """What became of request ``number``. Times are ``perf_counter`` seconds; ``sent_s`` is the first one's
    where it was sent again, ``retries`` times."""

    number: int
    scheduled_s: float
    sent_s: float | None
    end_s: float
    outcome: Outcome
    error: str | None
    http_status: int | None
    stream: Stream
    retries: int = 0


class Call:
    """One request in flight, or waiting for its connection."""

    __slots__ = ("number", "retries", "scheduled_s", "sent_s", "timeline")

    def __init__(self, number: int, scheduled_s: float, timeline: Timeline) -> None:
        self.number = number
        self.scheduled_s = scheduled_s
        self.sent_s: float | None = None
        self.retries = 0
        self.timeline = timeline


class Owner(Protocol):
    """Is told what happens on a connection."""

    echoes: bool
    """Whether a response carried the X-Request-Id of its request: then each that carries one has to."""

    def release(self, connection: Connection) -> None:
        """It is idle again."""

    def unasked(self, mixed: bool) -> None:
        """The server sent what nobody asked for. ``mixed``: an earlier answer on that connection may then be
        that of another request."""

    def resend(self, call: Call) -> None:
        """The call never reached the server."""

    def finished(
        self, call: Call, t: float, outcome: Outcome, error: str | None, status: int | None
    ) -> None: ...

    def forget(self, connection: Connection) -> None:
        """It is closed."""


class Connection:
    """One keep-alive connection with at most one call on it."""

    __slots__ = (
        "_asked_s",
        "_held",
        "_last_s",
        "_owner",
        "_request",
        "_sock",
        "_sockets",
        "_tls",
        "_unproven",
        "_unsent",
        "call",
        "idle_since_s",
        "reader",
        "used",
    )

    def __init__(
        self, owner: Owner, sockets: Sockets, sock: socket.socket, split: Split, tls: Tls | None = None
    ) -> None:
        """``sock`` is connected and does not block. ``tls``: what goes over it, after the handshake."""
        self._owner = owner
        self._sockets = sockets
        self._sock = sock
        self._tls = tls
        self._unsent: bytes | memoryview = b""
        self._asked_s = 0.0  # when the call was handed to this socket
        held = sockets.add(sock, self)
        # Where an event ends does not show in what is encrypted.
        self._held: HeldReads = held if tls is None else NOTHING_HELD
        self.reader = ResponseReader(self._held, split)
        self.call: Call | None = None
        self.used = False
        self._request: bytes | memoryview = b""
        self._unproven = 0  # answers after the first that did not say which request they are of
        self._last_s: float | None = None
        self.idle_since_s = perf_counter()

    @property
    def last_s(self) -> float | None:
        """The arrival of the last byte for this call; None before the first."""
        return None if self._last_s is None else max(self._last_s, self._held.last_s())

    def start(self, call: Call, data: bytes | memoryview) -> None:
        self.call = call
        self._last_s = None
        self.reader.begin(call.timeline)
        self._request = data
        self._unsent = data if self._tls is None else self._tls.encrypted(data)
        self._asked_s = perf_counter()
        if call.sent_s is None:
            call.sent_s = self._asked_s
        self._send()
        if self._unsent:
            self._sockets.watch_writable(self._sock, True)

    def quiet(self) -> bool:
        """Whether, between two requests, it is open and nothing has come on it. What has is counted, and the
        connection is then only to be closed."""
        try:
            data = self._sock.recv(READ_SIZE)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        try:
            said = data if self._tls is None else self._tls.decrypted(data)
        except OSError:
            return False
        if said:
            self._count_unasked(said)
        return not said  # what TLS says for itself, as new session tickets, is nobody's answer

    def hang_up(self) -> bool:
        """Send no more, so that the server closes unless it has something left to say. False, without doing
        so, where that would say nothing of the answers."""
        try:
            if self._unproven:
                self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return self._unproven > 0

    def _count_unasked(self, data: bytes) -> None:
        if not data.startswith(_IDLE_TOO_LONG):
            self._owner.unasked(not self.used or self._unproven > 0)

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent = b""  # `on_closed` will tell

    def on_writable(self) -> None:
        self._send()
        if not self._unsent:
            self._sockets.watch_writable(self._sock, False)

    def on_read(self, t: float, data: bytes) -> None:
        if self._tls is not None:
            try:
                data = self._tls.decrypted(data)
            except OSError as error:
                self.on_closed(error)
                return
            if not data:
                return
        if self.call is None:
            self._count_unasked(data)
            self.close()
            return
        if t < self._asked_s:
            self._count_unasked(data)
            self.end(t, "error", "the server sent something before it was asked")
            return
        self._last_s = t
        reader = self.reader
        try:
            reader.feed(t, data)
        except Exception as error:  # whatever a server sends, it must not end the load
            self.end(t, "error", _unreadable(error))
            return
        if reader.complete:
            self.end(t, None, None)

    def on_held_full(self, t: float) -> None:
        try:
            self.reader.flush()
        except Exception as error:
            self.end(t, "error", _unreadable(error))
            return
        if self.call is not None and self.reader.complete:
            self.end(t, None, None)

    def on_closed(self, error: OSError | None) -> None:
        t = perf_counter()
        call, reader = self.call, self.reader
        if call is None:
            self.close()
        elif error is None and reader.until_close and reader.status is not None:
            self.end(t, None, None)
        elif not reader.started and self.used and not call.retries and t - self._asked_s < RETRY_WITHIN_S:
            # The server closed an idle connection while the request was on its way: it never saw it.
            self.call = None
            self.close()
            call.retries = 1
            self._owner.resend(call)
        else:
            what = "reset" if error else "closed by the server"
            when = "in the middle of the response" if reader.started else "before the response"
            self.end(t, "error", f"the connection was {what} {when}")

    def end(self, t: float, outcome: Outcome | None, error: str | None) -> None:
        """The call has ended: with its response (``outcome`` None) or before it, with ``outcome``."""
        call, reader = self.call, self.reader
        assert call is not None
        try:
            reader.flush()
        except Exception as broken:
            outcome, error = "error", _unreadable(broken)
        proven, outcome, error = self._whose(outcome, error)
        self._unproven += self.used and reader.complete and not proven
        if reader.excess:
            self._owner.unasked(self._unproven > 0)
        self.call = None
        self.used = True
        self.idle_since_s = t
        reusable = outcome is None and reader.complete and reader.keep_alive and not reader.excess
        outcome, message = _outcome(call.timeline, reader, outcome, error)
        status = reader.status  # a call that waited for this connection begins with its release
        if reusable:
            self._owner.release(self)
        else:
            self.close()
        self._owner.finished(call, t, outcome, message, status)

    def _whose(self, outcome: Outcome | None, error: str | None) -> tuple[bool, Outcome | None, str | None]:
        """Whether the response said that it is this request's, and what it has come to: an error where it is
        another's. A server that never repeats the X-Request-Id that it was sent may have ids of its own."""
        said, asked = self.reader.request_id, _request_id(self._request) if self.reader.request_id else b""
        self._request = b""
        if said and said == asked:
            self._owner.echoes = True
            return True, outcome, error
        if said and self._owner.echoes:
            self.reader.foreign = True
            return True, "error", f"the response is another request's (X-Request-Id: {excerpt(said)})"
        return False, outcome, error

    def close(self) -> None:
        """At once, whatever is on its way."""
        self._sockets.remove(self._sock)
        self._owner.forget(self)
        self.reader.close()


def _unreadable(error: Exception) -> str:
    return str(error) if isinstance(error, ProtocolError) else f"the response cannot be read ({error!r})"


def _request_id(request: bytes | memoryview) -> bytes:
    """What the head of the request gives as X-Request-Id; empty where it has none."""
    head = bytes(request[:_HEAD_AT_MOST])
    return head.partition(b"\r\nX-Request-Id: ")[2].partition(b"\r\n")[0]


def _outcome(
    timeline: Timeline, reader: ResponseReader, outcome: Outcome | None, error: str | None
) -> tuple[Outcome, str | None]:
    """Never both ok and wrong: ok needs status 200, an event stream, no error in it, and a finish_reason."""
    if reader.foreign:
        return "error", error
    if timeline.error is not None:
        return "error", timeline.error
    if outcome is not None and not (timeline.done and timeline.finish_reason):
        return outcome, error
    if reader.encoding:
        named = f"Content-Encoding: {excerpt(reader.encoding)}"
        return "error", f"HTTP {reader.status}: compressed ({named}), which was not asked for"
    if reader.status != 200:
        moved = reader.status is not None and reader.status // 100 == 3 and reader.location
        said = f"redirects to {excerpt(reader.location)}" if moved else error_message(reader.body)
        return "error", f"HTTP {reader.status}: {said}"
    if not reader.is_stream:
        return "error", f"HTTP 200, but not an event stream: {error_message(reader.body)}"
    if timeline.finish_reason is None:
        return "error", "the stream ended without a finish_reason"
    if plain(timeline.finish_reason) in _FAILED_FINISH or timeline.finish_reason.startswith("{"):
        return "error", f"the server gave the request up (finish_reason {timeline.finish_reason})"
    return "ok", None

"""One client process's connections: sends requests that are bytes already, and times what comes back.

Every read is stamped at once and parsed a little later, many together, in slices between which the sockets are
looked at again: what parsing and ended requests cost delays no stamp by more than a slice. A read that ends a
response has the parsing begin in that turn of the loop, as the next request may wait for it.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from time import perf_counter, sleep
from typing import NamedTuple, cast

from orchestrator.load.http import ProtocolError, ResponseReader
from orchestrator.load.timeline import Stream, Timeline, error_message
from orchestrator.records import Outcome

CONNECT_TIMEOUT_S = 30.0
# uvicorn, the server of vLLM and SGLang, closes a connection 5 s after its last response.
_IDLE_LIMIT_S = 3.0
_RETRY_WITHIN_S = 1.0
_PARSE_WITHIN_S, _PARSE_AT, _SLICE_S = 0.002, 256, 0.0003
# Above 8,000 reads/s, waking up for each read costs more than the read. The loop then lets reads gather for a
# moment whenever it had to wait for one; stamps are late by at most that.
_BUSY_AT, _GATHER_S, _WAITED_S = 16, 0.0002, 0.00002
_CONNECT_AT_ONCE = 64  # below any sensible listen backlog
_FAILED_FINISH = ("abort", "error")  # what vLLM and SGLang call a request that they gave up


class Finished(NamedTuple):
    """What became of request ``number``. Times are ``perf_counter`` seconds."""

    number: int
    scheduled_s: float
    sent_s: float | None
    end_s: float
    outcome: Outcome
    error: str | None
    http_status: int | None
    stream: Stream


class Call:
    """One request in flight, or waiting for its connection."""

    __slots__ = ("last_s", "number", "retried", "scheduled_s", "sent_s", "timeline")

    def __init__(self, number: int, scheduled_s: float, timeline: Timeline) -> None:
        self.number = number
        self.scheduled_s = scheduled_s
        self.sent_s: float | None = None
        self.last_s: float | None = None  # the last byte's arrival
        self.retried = False
        self.timeline = timeline


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one call on it."""

    __slots__ = ("_client", "_fd", "_transport", "call", "idle_since_s", "reader", "used")

    def __init__(self, client: Client) -> None:
        self._client = client
        self._fd: int
        self._transport: asyncio.Transport
        self.reader = ResponseReader()
        self.call: Call | None = None
        self.used = False
        self.idle_since_s = perf_counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._fd = transport.get_extra_info("socket").fileno()
        self._client.opened(self)

    def start(self, call: Call, data: bytes) -> None:
        self.call = call
        self.reader.begin(call.timeline)
        # Past the transport: uvloop would hold the bytes back until the end of this turn of the loop.
        call.sent_s = perf_counter()
        try:
            sent = os.write(self._fd, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = len(data)  # connection_lost will tell
        if sent < len(data):
            self._transport.write(data[sent:])

    def data_received(self, data: bytes) -> None:
        self._client.arrived(self, perf_counter(), data)

    def feed(self, t: float, data: bytes) -> None:
        call = self.call
        if call is None:
            self.abort()  # nothing was asked
            return
        call.last_s = t
        reader = self.reader
        try:
            reader.feed(t, data)
        except ProtocolError as error:
            self.end(t, "error", str(error))
            return
        if reader.complete:
            self.end(t, None, None)

    def eof_received(self) -> None:
        self._lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(exc)
        self._client.forget(self)
        self.reader.close()

    def _lost(self, exc: Exception | None) -> None:
        """No more bytes will come."""
        t = perf_counter()
        self._client.drain()
        call, reader = self.call, self.reader
        if call is None:
            return
        if exc is None and reader.until_close and reader.status is not None:
            self.end(t, None, None)
        elif (
            not reader.started and self.used and not call.retried and t - (call.sent_s or t) < _RETRY_WITHIN_S
        ):
            # The server closed an idle connection while the request was on its way: it never saw it.
            self.call = None
            call.retried = True
            self._client.resend(call)
        else:
            what = "reset" if exc else "closed by the server"
            when = "in the middle of the response" if reader.started else "before the response"
            self.end(t, "error", f"the connection was {what} {when}")

    def end(self, t: float, outcome: Outcome | None, error: str | None) -> None:
        """The call has ended: by itself (``outcome`` None, so the response decides) or by ``outcome``."""
        call, reader = self.call, self.reader
        assert call is not None
        self.call = None
        self.used = True
        self.idle_since_s = t
        reusable = outcome is None and reader.complete and reader.keep_alive
        verdict, message = _judge(call.timeline, reader, outcome, error)
        if reusable:
            self._client.release(self)
        else:
            self.abort()
        self._client.finished(call, t, verdict, message, reader.status)

    def abort(self) -> None:
        self._transport.abort()


def _judge(
    timeline: Timeline, reader: ResponseReader, outcome: Outcome | None, error: str | None
) -> tuple[Outcome, str | None]:
    """Never both ok and wrong: ok needs status 200, an event stream, no error in it, and a finish_reason."""
    if timeline.error is not None:
        return "error", timeline.error
    if outcome is not None and not (timeline.done and timeline.finish_reason):
        return outcome, error
    if reader.status != 200:
        return "error", f"HTTP {reader.status}: {error_message(reader.body)}"
    if not reader.is_stream:
        return "error", f"HTTP 200, but not an event stream: {error_message(reader.body)}"
    if timeline.finish_reason is None:
        return "error", "the stream ended without a finish_reason"
    if timeline.finish_reason in _FAILED_FINISH or timeline.finish_reason.startswith("{"):
        return "error", f"the server gave the request up (finish_reason {timeline.finish_reason})"
    return "ok", None


class Client:
    """Sends on idle connections, opens what is missing, and hands each finished call to ``on_finished``."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: tuple[str, int],
        payloads: dict[int, bytes],
        *,
        timeline: Callable[[], Timeline],
        request_timeout_s: float,
        idle_timeout_s: float,
        spare: int,
        on_finished: Callable[[Finished], None],
    ) -> None:
        """``payloads``: request number → bytes on the wire. ``spare``: idle connections kept open."""
        self._loop = loop
        self._address = address
        self._payloads = payloads
        self._timeline = timeline
        self._request_timeout_s = request_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._spare = spare
        self._on_finished = on_finished
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._waiting: deque[Call] = deque()
        self._arrivals: list[tuple[Connection, float, bytes]] = []
        self._parsing_soon = False
        self._busy = False
        self._last_s = 0.0  # the last read, while busy
        self.sent = 0
        self.pending = 0  # given to `send` and not finished
        self._watch_period_s = min(0.5, max(0.01, min(request_timeout_s, idle_timeout_s) / 20))
        self._watchdog = loop.call_later(self._watch_period_s, self._watch)

    async def warm(self, connections: int) -> None:
        """Open idle connections. A server that is down is found out by the requests."""
        for start in range(0, connections, _CONNECT_AT_ONCE):
            opening = min(_CONNECT_AT_ONCE, connections - start)
            if any(await asyncio.gather(*(self._try_connect() for _ in range(opening)))):
                return

    def send(self, number: int, scheduled_s: float) -> None:
        """Send a request now, or as soon as a connection is open."""
        self.pending += 1
        self._dispatch(Call(number, scheduled_s, self._timeline()))
        if len(self._idle) < self._spare and len(self._connecting) < self._spare:
            self._connect()

    def resend(self, call: Call) -> None:
        self._waiting.append(call)
        self._connect()

    def tokens_in_flight(self) -> int:
        """Output tokens, as counted by the server, of the calls that have not ended."""
        return sum(c.call.timeline.tokens for c in self._open if c.call is not None)

    def cancel_all(self, why: str) -> None:
        """End every call as cancelled."""
        self.drain()
        t = perf_counter()
        for connection in [c for c in self._open if c.call is not None]:
            connection.end(t, "cancelled", why)
        while self._waiting:
            self.finished(self._waiting.popleft(), t, "cancelled", why, None)

    async def close(self) -> None:
        self._watchdog.cancel()
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for connection in list(self._open):
            connection.abort()

    # What the connections report.

    def arrived(self, connection: Connection, t: float, data: bytes) -> None:
        arrivals = self._arrivals
        arrivals.append((connection, t, data))
        if self._busy:
            if t - self._last_s > _WAITED_S:
                sleep(_GATHER_S)
                t = perf_counter()
            self._last_s = t
        if data.endswith(b"0\r\n\r\n") or len(arrivals) >= _PARSE_AT:
            self._parse_soon()
        elif len(arrivals) == 1:
            self._loop.call_later(_PARSE_WITHIN_S, self._parse_in_time)

    def drain(self) -> None:
        """Parse all that has arrived."""
        arrivals, self._arrivals = self._arrivals, []
        for connection, t, data in arrivals:
            connection.feed(t, data)

    def opened(self, connection: Connection) -> None:
        self._open.add(connection)
        self.release(connection)

    def _parse_soon(self) -> None:
        if not self._parsing_soon:
            self._parsing_soon = True
            self._loop.call_soon(self._parse_slice)

    def _parse_in_time(self) -> None:
        self._busy = len(self._arrivals) >= _BUSY_AT
        self._parse_slice()

    def _parse_slice(self) -> None:
        self._parsing_soon = False
        arrivals, self._arrivals = self._arrivals, []
        until, parsed = perf_counter() + _SLICE_S, 0
        for connection, t, data in arrivals:
            connection.feed(t, data)
            parsed += 1
            if perf_counter() > until:
                break
        if parsed < len(arrivals):
            self._arrivals = arrivals[parsed:]
            self._parse_soon()

    def release(self, connection: Connection) -> None:
        if self._waiting:
            self._start(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def finished(self, call: Call, t: float, outcome: Outcome, error: str | None, status: int | None) -> None:
        self.pending -= 1
        stream = call.timeline.stream()
        self._on_finished(
            Finished(call.number, call.scheduled_s, call.sent_s, t, outcome, error, status, stream)
        )

    def _dispatch(self, call: Call) -> None:
        now = perf_counter()
        while self._idle:
            connection = self._idle.pop()
            if connection.used and now - connection.idle_since_s > _IDLE_LIMIT_S:
                connection.abort()
                continue
            self._start(connection, call)
            return
        self._waiting.append(call)
        self._connect()

    def _start(self, connection: Connection, call: Call) -> None:
        connection.start(call, self._payloads[call.number])
        self.sent += not call.retried

    def _connect(self) -> None:
        task = self._loop.create_task(self._connect_for_waiting())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect_for_waiting(self) -> None:
        error = await self._try_connect()
        if error and self._waiting:
            self.finished(self._waiting.popleft(), perf_counter(), "error", error, None)

    async def _try_connect(self) -> str | None:
        """Open one connection; the reason when that fails."""
        host, port = self._address
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._loop.create_connection(lambda: Connection(self), host, port)
        except TimeoutError:
            return f"cannot connect to {host}:{port} within {CONNECT_TIMEOUT_S:g} s"
        except OSError as error:
            return f"cannot connect to {host}:{port} ({error.strerror or error})"
        return None

    def _watch(self) -> None:
        """Look for calls that ran out of time, the idle clock counting from the response's first byte."""
        self.drain()
        now = perf_counter()
        for connection in list(self._open):
            call = connection.call
            if call is None or call.sent_s is None:
                continue
            if now - call.sent_s > self._request_timeout_s:
                connection.end(now, "timeout", f"not finished after {self._request_timeout_s:g} s")
            elif call.last_s is not None and now - call.last_s > self._idle_timeout_s:
                connection.end(now, "timeout", f"no byte for {self._idle_timeout_s:g} s")
        self._watchdog = self._loop.call_later(self._watch_period_s, self._watch)

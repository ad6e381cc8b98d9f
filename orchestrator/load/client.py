"""One client process's connections: sends requests that are bytes already, and times what comes back.

Every read is stamped at once and parsed a little later, many together, in slices between which the sockets
are looked at again: what parsing and ended requests cost delays no stamp by more than a slice. A read that
ends a response has the parsing begin in that turn of the loop, as the next request may wait for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter, sleep

from orchestrator.load.connection import Call, Connection, Finished
from orchestrator.load.timeline import Timeline
from orchestrator.records import Outcome

CONNECT_TIMEOUT_S = 30.0
# uvicorn, the server of vLLM and SGLang, closes a connection 5 s after its last response.
_IDLE_LIMIT_S = 3.0
_PARSE_WITHIN_S, _PARSE_AT, _SLICE_S = 0.002, 256, 0.0003
# Above 8,000 reads/s, waking up for each read costs more than the read. The loop then lets reads gather for a
# moment whenever it had to wait for one; stamps are late by at most that.
_BUSY_AT, _GATHER_S, _WAITED_S = 16, 0.0002, 0.00002
_CONNECT_AT_ONCE = 64  # below any sensible listen backlog


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
        self._again: deque[Call] = deque()
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
        # On a fresh connection only: a server that closes one after each response is closing the others too.
        self._again.append(call)
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
        for queue in (self._again, self._waiting):
            while queue:
                self.finished(queue.popleft(), t, "cancelled", why, None)

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
        if self._again:
            self._start(connection, self._again.popleft())
        else:
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
        queue = self._again or self._waiting
        if error and queue:
            self.finished(queue.popleft(), perf_counter(), "error", error, None)

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

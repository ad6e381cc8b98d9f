"""One client process's connections: sends requests that are bytes already, and times what comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from time import perf_counter

from orchestrator.load.client.connection import Call, Connection, Finished
from orchestrator.load.client.dial import ConnectError, Dial
from orchestrator.load.client.loops import InnerLoops
from orchestrator.load.client.payloads import Payloads
from orchestrator.load.receive.sockets import Sockets
from orchestrator.load.stream.timeline import Timeline
from orchestrator.records import Outcome

# uvicorn, the server of vLLM and SGLang, closes a connection 5 s after its last response.
IDLE_LIMIT_S = 3.0
LAST_WORD_S = 1.0  # how long a server has at most to close what it has been told is over
_CONNECT_AT_ONCE = 64  # below any sensible listen backlog


class Client:
    """Sends on idle connections, opens what is missing, and hands each finished call to ``on_finished``."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        dial: Dial,
        payloads: Payloads,
        *,
        timeline: Callable[[], Timeline],
        request_timeout_s: float,
        idle_timeout_s: float,
        spare: int,
        slice_s: float,
        acknowledge_later: bool,
        on_finished: Callable[[Finished], None],
        loops: InnerLoops,
    ) -> None:
        """``spare``: idle connections kept open. ``slice_s``: how long it may read before the loop, and what
        is to be sent, has its turn. ``acknowledge_later`` as `receiver.NewReceiver` says."""
        self._loop = loop
        self._dial = dial
        self._payloads = payloads
        self._timeline = timeline
        self._request_timeout_s = request_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._spare = spare
        self._on_finished = on_finished
        self.sockets = Sockets(loop, slice_s, loops.new_receiver, acknowledge_later)
        self._split = loops.split
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._ending: set[Connection] = set()  # on which only the server's end is waited for
        self._ended = asyncio.Event()
        self._connecting: set[asyncio.Task[None]] = set()
        self._waiting: deque[Call] = deque()
        self._again: deque[Call] = deque()
        self.echoes = False
        self.unasked_connections = self.mixed_connections = 0
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
        """Output tokens, as counted by the server, of the calls that have not ended, as far as parsed."""
        return sum(c.call.timeline.tokens for c in self._open if c.call is not None)

    def cancel_all(self, why: str) -> None:
        """End every call as cancelled."""
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
        await self._hear_out()
        for connection in list(self._open):
            if connection.call is None and connection.used:
                connection.quiet()  # which counts what has come
            connection.close()
        self.sockets.close()

    async def _hear_out(self) -> None:
        """Wait for the server to close, or for what it still says on a connection where it owes nothing: a
        server that answered one request twice is by then one answer behind, with nothing else to show it."""
        self._ending = {c for c in self._open if c.call is None and c.hang_up()}
        if self._ending:
            self._ended.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), LAST_WORD_S)

    # What the connections report.

    def release(self, connection: Connection) -> None:
        if not self._waiting:
            self._idle.append(connection)
        elif connection.used and not connection.quiet():
            connection.close()
            self._connect()
        else:
            self._start(connection, self._waiting.popleft())

    def unasked(self, mixed: bool) -> None:
        self.unasked_connections += 1
        self.mixed_connections += mixed

    def forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._ending.discard(connection)
        if not self._ending:
            self._ended.set()
        if connection in self._idle:
            self._idle.remove(connection)

    def finished(self, call: Call, t: float, outcome: Outcome, error: str | None, status: int | None) -> None:
        self.pending -= 1
        stream = call.timeline.stream()
        self._on_finished(
            Finished(
                call.number, call.scheduled_s, call.sent_s, t, outcome, error, status, stream, call.retries
            )
        )

    def _dispatch(self, call: Call) -> None:
        now = perf_counter()
        while self._idle:
            connection = self._idle.pop()
            too_long = now - connection.idle_since_s > IDLE_LIMIT_S
            if connection.used and (not connection.quiet() or too_long):
                connection.close()
                continue
            self._start(connection, call)
            return
        self._waiting.append(call)
        self._connect()

    def _start(self, connection: Connection, call: Call) -> None:
        connection.start(call, self._payloads[call.number])
        self.sent += not call.retries

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
        try:
            sock, tls = await self._dial.open()
        except ConnectError as error:
            return str(error)
        try:
            connection = Connection(self, self.sockets, sock, self._split, tls)
        except OSError as error:
            sock.close()
            return f"cannot use the connection ({error})"
        self._open.add(connection)
        if self._again:
            self._start(connection, self._again.popleft())
        else:
            self.release(connection)
        return None

    def _watch(self) -> None:
        """Look for calls that ran out of time, the idle clock counting from the response's first byte."""
        now = perf_counter()
        for connection in list(self._open):
            call = connection.call
            if call is None or call.sent_s is None:
                continue
            if now - call.sent_s > self._request_timeout_s:
                connection.end(now, "timeout", f"not finished after {self._request_timeout_s:g} s")
            elif (last_s := connection.last_s) is not None and now - last_s > self._idle_timeout_s:
                connection.end(now, "timeout", f"no byte for {self._idle_timeout_s:g} s")
            elif last_s is not None and now - last_s > self._watch_period_s:
                connection.on_held_full(last_s)  # what is held may be all that will come
        self._watchdog = self._loop.call_later(self._watch_period_s, self._watch)

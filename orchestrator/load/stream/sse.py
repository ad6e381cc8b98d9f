"""Server-sent events from a byte stream cut anywhere."""

from __future__ import annotations

import codecs

_IDLE_EVENTS = frozenset({b"ping", b"heartbeat", b"keepalive", b"keep-alive"})


class EventStream:
    """Incremental parser of ``text/event-stream``, for the fields that matter here.

    Follows the WHATWG definition: lines end in LF, CR or CRLF; a blank line ends an event; several ``data``
    lines are joined by LF; a byte order mark at the very start, comments and other fields are ignored, and so
    is an event that the stream's end cuts off. Of the events' types only those that keep a connection open
    matter: such an event is dropped, whatever its data. Bytes are never decoded, so a cut inside a UTF-8
    character does no harm.
    """

    __slots__ = ("_data", "_idle", "_partial", "_skip_lf", "_started")

    def __init__(self) -> None:
        self._partial: list[bytes] = []  # the line that has not ended yet, in pieces
        self._data: list[bytes] = []  # the data lines of the event that has not ended yet
        self._idle = False  # that event only keeps the connection open
        self._started = False  # the first line has ended
        self._skip_lf = False  # the last byte was a CR: an LF would belong to it

    @property
    def between_events(self) -> bool:
        """True when nothing is held back: the next byte begins a new event."""
        return not (self._partial or self._data or self._idle or self._skip_lf)

    def feed(self, data: bytes) -> list[bytes]:
        """The data of every event that ``data`` completes."""
        if self._skip_lf and data:
            self._skip_lf = False
            if data[0] == 0x0A:
                data = data[1:]
        if b"\n" not in data and b"\r" not in data:
            if data:
                self._partial.append(data)
            return []
        lines = b"".join((*self._partial, data)).splitlines(keepends=True)
        self._partial.clear()
        if lines[-1][-1] == 0x0D:
            self._skip_lf = True
        elif lines[-1][-1] != 0x0A:
            self._partial.append(lines.pop())
        if lines and not self._started:
            self._started = True
            lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
        events = []
        for line in lines:
            line = line.rstrip(b"\r\n")
            if not line:
                if self._data and not self._idle:
                    events.append(b"\n".join(self._data))
                self._data.clear()
                self._idle = False
            elif line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line.startswith(b"event:"):
                self._idle = line[6:].strip().lower() in _IDLE_EVENTS
        return events

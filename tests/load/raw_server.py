"""A server of which a test writes every byte."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator

import orjson

EVENT = orjson.dumps(
    {
        "choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    }
)
_BODY = b"data: %b\n\ndata: [DONE]\n\n" % EVENT
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
OK = STREAM + b"Content-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
"""A whole answer of one token."""

Answer = Callable[[socket.socket, int], bool]
"""(connection, the request's number) → whether the connection stays."""


@contextlib.contextmanager
def answering(answer: Answer) -> Iterator[int]:
    """A server with a thread for each connection; yields its port."""

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            data = b""
            while True:
                part = connection.recv(65536)
                if not part:
                    return
                data += part
                while (number := _first_request(data)) is not None:
                    index, data = number
                    if not answer(connection, index):
                        return

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _first_request(data: bytes) -> tuple[int, bytes] | None:
    """The number of the first whole request, as `tests.load.scripted` gives them, and what follows it."""
    head, separator, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    number = re.search(rb"request-(\d+)", head)
    if not separator or length is None or number is None or len(body) < int(length[1]):
        return None
    return int(number[1]), body[int(length[1]) :]

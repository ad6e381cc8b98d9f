"""A server that streams known tokens at known times, for tests and benchmarks of what measures them.

``python -m tests.support.scripted_server`` prints ``listening PORT`` and serves until its standard input has
something or ends. It speaks the OpenAI chat protocol as vLLM does, with vLLM's counters. What a request gets
is said by its last message, a JSON object of `Script`'s fields (anything else: the server's default script).
``GET /truth`` tells when each request was received and when each of its chunks was handed to the socket, as
``perf_counter`` seconds: one clock for every process of the host, so a client's stamps can be held to them.
``GET /connections`` tells how many were made so far.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, time_ns
from typing import cast

import httptools
import orjson
import uvloop

from tests.support.scripted_reply import MODEL, Reply, Script, Server

ROOT = Path(__file__).parents[2]


class Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._reply: Reply | None = None
        server.connections += 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._fd: int = transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        self._received_s = perf_counter()
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reply is not None:
            self._reply.stop()

    def write(self, data: bytes) -> float:
        """Hand over at once, past uvloop's buffer. Returns the time just before."""
        now = perf_counter()
        try:
            sent = os.write(self._fd, data)
        except OSError:
            sent = 0
        if sent < len(data):
            self.transport.write(data[sent:])
        return now

    def respond(self, status: int, body: bytes, kind: str = "application/json", keep: bool = True) -> None:
        connection = "keep-alive" if keep else "close"
        head = (
            f"HTTP/1.1 {status} Scripted\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            f"Connection: {connection}\r\n\r\n"
        )
        self.write(head.encode() + body)
        if not keep:
            self.transport.close()

    def reset(self) -> None:
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._body = b""
        self._headers: dict[bytes, bytes] = {}

    def on_url(self, url: bytes) -> None:
        self._path = url.decode().partition("?")[0]

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        server = self._server
        path = self._path
        if path == "/v1/chat/completions":
            if server.api_key and self._headers.get(b"authorization") != f"Bearer {server.api_key}".encode():
                self.respond(401, b'{"error":{"message":"Unauthorized","type":"auth","code":401}}')
                return
            request_id = self._headers.get(b"x-request-id", b"").decode()
            self._reply = Reply(self, server, orjson.loads(self._body), request_id, self._received_s)
            self._reply.start()
        elif path == "/metrics":
            self.respond(200, server.counters.text().encode(), "text/plain; version=0.0.4")
        elif path == "/connections":
            self.respond(200, b"%d" % server.connections)
        elif path == "/truth":
            self.respond(200, orjson.dumps(server.truth))
        elif path == "/reset_prefix_cache":
            server.resets += 1
            self.respond(200, b'{"success":true}')
        elif path == "/v1/models":
            entry = {"id": MODEL, "object": "model", "created": time_ns(), "root": server.default.root}
            self.respond(200, orjson.dumps({"object": "list", "data": [entry]}))
        elif path == "/version":
            self.respond(200, b'{"version":"0.0.0"}')
        else:
            self.respond(200 if path in ("/health", "/ping") else 404, b"{}")


@contextlib.contextmanager
def serve(default: Script | None = None, *, port: int = 0, api_key: str | None = None) -> Iterator[int]:
    """The server in a process of its own; yields its port."""
    script = "{}" if default is None else orjson.dumps(default).decode()
    command = [sys.executable, "-m", "tests.support.scripted_server", "--port", str(port), "--script", script]
    if api_key:
        command += ["--api-key", api_key]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline().split()[1])
        finally:
            process.kill()


async def _serve(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    server = Server(Script(**orjson.loads(arguments.script)), api_key=arguments.api_key)
    listener = await loop.create_server(lambda: Connection(server), "127.0.0.1", arguments.port, backlog=2048)
    print("listening", listener.sockets[0].getsockname()[1], flush=True)
    closed = asyncio.Event()
    loop.add_reader(0, closed.set)
    await closed.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", default="{}", help="the default script, JSON")
    parser.add_argument("--api-key")
    uvloop.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()

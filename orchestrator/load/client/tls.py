"""TLS between the bytes of a socket and those of a connection, in memory: whoever has the socket reads and
writes it, so that what arrives is stamped before it is decrypted."""

from __future__ import annotations

import asyncio
import socket
import ssl

from orchestrator.load.receive.receiver import READ_SIZE


class Tls:
    """One connection's, from its handshake on."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        """``host``: what the server's certificate has to name."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    async def shake_hands(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        """On a connected, non-blocking socket that nobody else reads yet. Raises OSError (ssl.SSLError)."""
        agreed = False
        while not agreed:
            try:
                self._session.do_handshake()
                agreed = True
            except ssl.SSLWantReadError:
                pass
            if said := self._outgoing.read():
                await loop.sock_sendall(sock, said)
            if not agreed:
                data = await loop.sock_recv(sock, READ_SIZE)
                if not data:
                    raise ConnectionResetError("closed by the server in the TLS handshake")
                self._incoming.write(data)

    def encrypted(self, data: bytes | memoryview) -> bytes:
        view = memoryview(data)
        while view:
            view = view[self._session.write(view) :]
        return self._outgoing.read()

    def decrypted(self, data: bytes) -> bytes:
        """What can be read now; nothing while a record is not whole. Raises OSError (ssl.SSLError)."""
        self._incoming.write(data)
        parts = []
        try:
            while part := self._session.read(READ_SIZE):
                parts.append(part)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass  # after the latter the connection closes
        return b"".join(parts)

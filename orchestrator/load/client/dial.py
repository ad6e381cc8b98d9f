"""Opens connections to one endpoint: at whichever of its addresses answers, with TLS where it speaks it."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import Any

from orchestrator.load.client.tls import Tls
from orchestrator.records import Endpoint

CONNECT_TIMEOUT_S = 30.0  # over all addresses, an equal share to each

_Address = tuple[int, Any]  # family, what the socket connects to


class ConnectError(Exception):
    """In words for the request that it was for."""


class Dial:
    def __init__(self, loop: asyncio.AbstractEventLoop, endpoint: Endpoint) -> None:
        self._loop = loop
        self._endpoint = endpoint
        self._context = ssl.create_default_context() if endpoint.tls else None
        self._addresses: list[_Address] = []

    async def resolve(self) -> None:
        """Look the host's addresses up, so that nothing does during the run. An unknown name is left as it
        is: each request then fails with that reason."""
        try:
            self._addresses = await self._look_up()
        except OSError:
            self._addresses = []

    async def open(self) -> tuple[socket.socket, Tls | None]:
        """A connected, non-blocking socket. The addresses are tried in the system's order until one answers,
        which is then the first to be tried. Raises ConnectError."""
        where, why = f"cannot connect to {self._endpoint.host}:{self._endpoint.port}", ""
        try:
            addresses = self._addresses or await self._look_up()
        except OSError as error:
            raise ConnectError(f"{where} ({error.strerror or error})") from None
        for address in tuple(addresses):
            share_s = CONNECT_TIMEOUT_S / len(addresses)
            try:
                async with asyncio.timeout(share_s):
                    opened = await self._connected(address)
            except TimeoutError:
                why = f" within {share_s:g} s"
            except ssl.SSLCertVerificationError as error:
                why = f" (its certificate is not trusted: {error.verify_message})"
            except ssl.SSLError as error:
                why = f" (TLS: {error.reason or error})"
            except OSError as error:  # the loop has words of its own in the place of the system's
                why = f" ({os.strerror(error.errno) if error.errno else error})"
            else:
                if self._addresses and address != self._addresses[0]:
                    self._addresses.sort(key=lambda each: each != address)
                return opened
        raise ConnectError(where + why)

    async def _look_up(self) -> list[_Address]:
        endpoint = self._endpoint
        found = await self._loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
        return [(family, address) for family, _, _, _, address in found]

    async def _connected(self, address: _Address) -> tuple[socket.socket, Tls | None]:
        family, where = address
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await self._loop.sock_connect(sock, where)
            if self._context is None:
                return sock, None
            tls = Tls(self._context, self._endpoint.host)
            await tls.shake_hands(self._loop, sock)
            return sock, tls
        except BaseException:
            sock.close()
            raise

"""TLS before a server that does not speak it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

EC_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def certificate(folder: Path, name: str = "localhost", days: int = 2) -> tuple[Path, Path]:
    """A certificate for ``name`` that signed itself, and its key, valid for so many days from now on; expired
    with a negative number. Skips the test where there is no openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    made, key, asked, names = (folder / one for one in ("certificate.pem", "key.pem", "asked.pem", "names"))
    names.write_text(f"subjectAltName=DNS:{name}\nbasicConstraints=critical,CA:TRUE\n")
    for command in (
        ["req", "-new", *EC_KEY, "-subj", f"/CN={name}", "-keyout", key, "-out", asked],
        ["x509", "-req", "-in", asked, "-signkey", key, "-days", str(days), "-extfile", names, "-out", made],
    ):
        subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)
    return made, key


@contextlib.contextmanager
def tls_before(port: int, certificate: Path, key: Path) -> Iterator[int]:
    """A port of the loopback whose bytes go to ``port`` decrypted, and back encrypted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ssl.SSLError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    async def serve() -> None:
        server = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
        listening.set_result(server.sockets[0].getsockname()[1])
        await asyncio.to_thread(over.wait)
        server.close()

    listening: Future[int] = Future()
    over = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    yield listening.result(10)
    over.set()
    thread.join(10)

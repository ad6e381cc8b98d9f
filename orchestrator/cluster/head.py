"""The head of a cluster that is lost: Ray ends the driver after a minute, and says nothing of the sweep."""

from __future__ import annotations

import shlex
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY_S = 5.0
ANSWERS_S = 5.0
SILENT = 2  # times in a row: once may be a busy machine


@contextmanager
def watched_head(address: str, say: Callable[[str], None], every_s: float = EVERY_S) -> Iterator[None]:
    """Says it when nothing answers at ``address`` (HOST:PORT) any more, with the command to go on, and when
    it answers again."""
    over = threading.Event()
    # A thread, since Ray's calls block the others while they wait for the head.
    watch = threading.Thread(target=_watch, args=(address, say, every_s, over), daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join(timeout=ANSWERS_S)


def command() -> str:
    """This process's command line."""
    return shlex.join(["python", "-m", "orchestrator.sweep", *sys.argv[1:]])


def _watch(address: str, say: Callable[[str], None], every_s: float, over: threading.Event) -> None:
    silent = 0
    while not over.wait(every_s):
        if _answers(address):
            if silent >= SILENT:
                say(f"the cluster's head at {address} answers again")
            silent = 0
            continue
        silent += 1
        if silent == SILENT:
            say(
                f"the cluster's head at {address} does not answer: Ray ends this command about a minute "
                f"after it was lost; what was finished is kept. Once there is a cluster again: {command()}"
            )


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS_S).close()
    except OSError:
        return False
    return True

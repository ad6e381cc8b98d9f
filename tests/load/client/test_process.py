"""The end of a client process's run (`orchestrator.load.client.process`)."""

from __future__ import annotations

import asyncio
import time
from time import perf_counter
from types import SimpleNamespace
from typing import cast

from orchestrator.load.client.client import Client
from orchestrator.load.client.process import Worker
from orchestrator.load.client.senders import Sender
from orchestrator.load.receive.lag import ReceiveLag


def test_what_ending_every_call_takes_is_no_lag_of_the_client() -> None:
    async def body() -> ReceiveLag:
        lag = ReceiveLag(asyncio.get_running_loop())
        worker = object.__new__(Worker)
        client = SimpleNamespace(
            sockets=SimpleNamespace(lag=lag), cancel_all=lambda why: time.sleep(0.5), pending=0
        )
        worker.client = cast(Client, client)
        worker._sender = cast(Sender, SimpleNamespace(exhausted=False))
        worker._over = asyncio.Event()
        lag.start(perf_counter())
        await asyncio.sleep(0.05)
        worker._stop("the window ended")
        await worker._over.wait()
        lag.stop()
        return lag

    lag = asyncio.run(body())
    assert lag.p99_s() is not None
    assert lag.max_s < 0.4

"""Later acknowledgements are asked for only of servers that do not wait for them."""

from __future__ import annotations

import socket
from time import perf_counter, sleep

import numpy as np
import pytest
from numpy.typing import NDArray

from orchestrator.load.arrivals import Closed
from orchestrator.load.driver import run
from tests.load.client.test_connection import CHUNKED, END, TOKENS
from tests.load.raw_server import answering
from tests.load.scripted import job

GAP_S = 0.01
AT_FIRST = 6


def late_s(*, nodelay: bool, acknowledge_later: bool) -> NDArray[np.float64]:
    """How long after the server's sending each token of an answer arrived, seconds; without the first ones,
    as every client acknowledges late right after it has sent a request."""
    sent: dict[int, list[float]] = {}

    def answer(connection: socket.socket, number: int) -> bool:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(nodelay))
        connection.sendall(CHUNKED)
        for chunk in TOKENS:
            sleep(GAP_S)
            sent.setdefault(number, []).append(perf_counter())
            connection.sendall(chunk)
        connection.sendall(b"".join(END))
        return True

    with answering(answer) as port:
        load = job(port, [{}] * 12, Closed(4), acknowledge_later=acknowledge_later)
        records = run(load).records
    assert {record.outcome for record in records} == {"ok"}
    late = [record.chunk_s[:-1] + load.zero - np.array(sent[number]) for number, record in enumerate(records)]
    return np.concatenate([each[AT_FIRST:] for each in late])


@pytest.mark.parametrize("nodelay", [False, True])
def test_a_server_without_nodelay_is_not_stalled(nodelay: bool) -> None:
    """It holds a small segment back until the one before is acknowledged."""
    late = late_s(nodelay=nodelay, acknowledge_later=False)
    assert len(late) == 12 * (len(TOKENS) - AT_FIRST)
    assert np.mean(late > GAP_S) < 0.02

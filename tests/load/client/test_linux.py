from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from orchestrator.load.client.linux import Tickets, Timer


def test_tickets_are_handed_out_once_over_processes() -> None:
    tickets = Tickets.create(4000)
    code = "import sys\nfrom orchestrator.load.client.linux import Tickets\n"
    code += "t = Tickets(int(sys.argv[1]), 4000)\n"
    code += "while (n := t.take()) is not None: print(n)"
    command = [sys.executable, "-c", code, str(tickets.fd)]
    takers = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, pass_fds=[tickets.fd], cwd=Path(__file__).parents[3]
        )
        for _ in range(3)
    ]
    taken = [int(line) for taker in takers for line in taker.communicate()[0].split()]
    os.close(tickets.fd)
    assert sorted(taken) == list(range(4000))


def test_the_timer_is_on_the_clock_of_perf_counter() -> None:
    timer = Timer()
    late = []
    for _ in range(20):
        at = time.perf_counter() + 0.01
        timer.arm(at)
        os.set_blocking(timer.fd, True)
        os.read(timer.fd, 8)
        late.append(time.perf_counter() - at)
    timer.close()
    assert min(late) >= 0
    assert float(np.median(late)) < 0.005


def test_a_client_has_room_for_its_sockets_before_it_begins() -> None:
    """The kernel would enlarge the table of descriptors while requests are due."""
    code = (
        "from orchestrator.load.client.linux import allow_many_sockets\n"
        "allow_many_sockets()\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('FDSize')))"
    )
    room = int(subprocess.check_output([sys.executable, "-c", code], text=True))
    assert room >= min(16_384, resource.getrlimit(resource.RLIMIT_NOFILE)[1])

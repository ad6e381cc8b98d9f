"""The process that grades, run as ``python -m orchestrator.grading.worker LIMIT_S`` by `isolated`.

It reads one JSON document a line and answers each with two: what it read, and whether that is right. Before
each it asks the kernel for SIGALRM, whose default action ends the process even inside a long computation in
C, so that neither side has to watch the other and nothing outlives its caller.
"""

from __future__ import annotations

import json
import resource
import signal
import sys

import math_verify  # noqa: F401  # here, because its import must not count against an answer's time

from orchestrator.grading import is_right, read
from orchestrator.grading.equality import equal
from orchestrator.grading.isolated import SAME
from orchestrator.records import Item

_MEMORY_BYTES = 4 * 2**30


def main(limit_s: float) -> None:
    """Answer the documents on standard input until it ends."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("ready", flush=True)
    for line in sys.stdin:
        kind, reference, options, text = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        if kind == SAME:
            print(json.dumps(None), flush=True)
            right = equal(reference, text)
        else:
            item = Item("", (), reference, kind, tuple(options))
            answer = read(item, text)
            print(json.dumps(answer), flush=True)
            right = is_right(item, answer)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(right), flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))

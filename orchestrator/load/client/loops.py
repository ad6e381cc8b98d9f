"""Which implementation of the inner loops runs: the fast one in C where it can be compiled, else a plain one
in Python, which holds no reads and so has no runs of events to split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from orchestrator.load.client import native
from orchestrator.load.receive import c_receiver
from orchestrator.load.receive.c_receiver import CReceiver
from orchestrator.load.receive.python_receiver import PythonReceiver
from orchestrator.load.receive.receiver import NewReceiver
from orchestrator.load.stream import event_template
from orchestrator.load.stream.event_template import Split, split_none


@dataclass(frozen=True, slots=True)
class InnerLoops:
    """What runs for every read, and for every run of events."""

    new_receiver: NewReceiver
    split: Split
    compiled: bool


IN_PYTHON = InnerLoops(PythonReceiver, split_none, compiled=False)


def choose() -> InnerLoops:
    """Compiles before the first use on this machine, which takes a second."""
    library = native.compiled([c_receiver.SOURCE, event_template.SOURCE], c_receiver.DEFINES)
    if library is None:
        return IN_PYTHON
    c_receiver.declare(library)
    return InnerLoops(partial(CReceiver, library), event_template.split_in_c(library), compiled=True)

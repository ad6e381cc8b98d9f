"""Whether a process that wrote a file is gone (`orchestrator.store.process`)."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

from orchestrator.store import process
from orchestrator.store.process import parse, this_process


def test_a_pid_that_was_given_again_is_another_process(tmp_path: Path) -> None:
    me = this_process()
    assert not me.is_gone()
    assert replace(me, start=me.start - 1).is_gone()
    assert replace(me, pid=2**22 + 1).is_gone()
    assert not replace(me, pid=2**22 + 1, machine="another").is_gone()
    assert parse(str(me)) == me
    assert parse("1234@host") is None


def test_a_process_that_has_ended_and_was_not_asked_for_is_gone() -> None:
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    of_child = replace(this_process(), pid=child, start=process._start(child) or 0)
    assert not of_child.is_gone()
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert of_child.is_gone()
    os.waitpid(child, 0)

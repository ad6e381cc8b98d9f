"""The inner loops in Python and in C, whatever ``ORCHESTRATOR_NATIVE`` says."""

from __future__ import annotations

import pytest

from orchestrator.load.client import loops
from orchestrator.load.client.loops import InnerLoops


def _compiled() -> InnerLoops:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ORCHESTRATOR_NATIVE", raising=False)
        return loops.choose()


PYTHON, C = loops.IN_PYTHON, _compiled()
assert C.compiled, "these tests need a C compiler"
in_both = pytest.mark.parametrize("inner", [PYTHON, C], ids=["python", "c"])

"""Engines: servers of their own process and interpreter, described by pure functions, run by one lifecycle.

Another engine is one file with an `Adapter`, one YAML in ``conf/engine`` and one line here.
"""

from __future__ import annotations

from orchestrator.engines import sglang, simulated, vllm
from orchestrator.engines.adapter import Adapter

ADAPTERS: dict[str, Adapter] = {
    "vllm": vllm.ADAPTER,
    "sglang": sglang.ADAPTER,
    "simulated": simulated.ADAPTER,
}

"""Whether the tests would notice: faults are put into the metrics and the parsers, one at a time.

``python -m benchmarks.mutants [NAME…]`` runs mutmut over what ``[tool.mutmut]`` in pyproject.toml names, says
how many mutants of each module the tests killed, and ends with 1 where that is below `LEAST` of all. Of names
(``orchestrator.metrics.window*``) only those mutants are tried again. What is known from an earlier run stays
in ``mutants/``. ``mutmut results`` names the mutants that survived, ``mutmut show NAME`` prints one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter

LEAST = 0.85
KILLED = ("killed", "timeout", "segfault")
_LINE = re.compile(r"^ +(?P<module>[\w.]+)\.x\S+__mutmut_\d+: (?P<status>.+)$", re.MULTILINE)


def by_module(results: str) -> dict[str, Counter[str]]:
    """How many mutants of each module came to which end, from what ``mutmut results --all True`` prints."""
    found: dict[str, Counter[str]] = {}
    for line in _LINE.finditer(results):
        found.setdefault(line["module"], Counter())[line["status"]] += 1
    return found


def killed(ends: Counter[str]) -> int:
    return sum(ends[end] for end in KILLED)


def main() -> int:
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    subprocess.run(["mutmut", "run", *sys.argv[1:]], env=environment, check=True)
    told = subprocess.run(["mutmut", "results", "--all", "True"], check=True, capture_output=True, text=True)
    modules = by_module(told.stdout)
    every = sum(modules.values(), Counter[str]())
    for name, ends in [*sorted(modules.items()), ("all", every)]:
        print(f"{name:45} {killed(ends):5} of {ends.total():5}  {killed(ends) / ends.total():6.1%}")
    return 0 if killed(every) >= LEAST * every.total() else 1


if __name__ == "__main__":
    sys.exit(main())

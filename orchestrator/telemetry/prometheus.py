"""Reads a few metrics off a Prometheus text page without parsing the rest of it.

vLLM's page has 50 kB, of which about ten lines matter, several times a second.
"""

from __future__ import annotations

import math
import re

_NAME = re.compile(rb"^([a-zA-Z_:][\w:]*)(?=[{ ])", re.MULTILINE)


def values(page: bytes, name: str) -> list[float]:
    """The finite values of this metric's series, one per set of labels; empty when it has none."""
    text, needle = b"\n" + page, b"\n" + name.encode()
    found = []
    at = text.find(needle)
    while at >= 0:
        start = at + len(needle)
        end = text.find(b"\n", start)
        line = text[start:] if end < 0 else text[start:end]
        if line[:1] in (b"{", b" "):  # else a longer name that begins alike
            found.append(float(line[line.rfind(b"}") + 1 :].split()[0]))
        at = text.find(needle, at + 1)
    return [value for value in found if math.isfinite(value)]


def metric_names(page: bytes) -> frozenset[str]:
    """Names of all series on the page."""
    return frozenset(name.decode() for name in _NAME.findall(page))

"""p over a whole report: Holm over what decides, and the rest only where something was decided.

A pair's *deciding* measures are its goodput (without limits its throughput), its accuracy and the length of
its answers. Holm's (1979) correction over those of all pairs together keeps a report on equal cells from
claiming anything in 95 % of the cases. The other measures of a pair say how it comes about (TTFT, TPOT, E2E).
They are read only where a deciding one is significant: Holm's within the pair, times all pairs over such
pairs, which keeps the average share of false claims among them (Benjamini and Bogomolov 2014, "Selective
inference on multiple families of hypotheses"). One correction over all of them at once would ask for
more runs to say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.metrics.significance import LEVEL, holm
from orchestrator.report.comparisons import Line


def adjusted(lines: Sequence[Line]) -> list[Line]:
    """The same lines with ``adjusted_p``, and in ``tests`` by how many a p is multiplied at most. Lines of a
    pair follow one another."""
    of_pair: dict[int, list[Line]] = {}
    for line in lines:
        of_pair.setdefault(id(line.pair), []).append(line)
    deciding = {id(line) for found in of_pair.values() for line in _deciding(found)}
    first = [line for line in lines if id(line) in deciding]
    by_line = dict(zip((id(line) for line in first), holm([line.p for line in first]), strict=True))
    count = sum(line.comparison is not None for line in first)
    gates = {
        key: min((p for line in found if (p := by_line.get(id(line))) is not None), default=1.0)
        for key, found in of_pair.items()
    }
    opened = sum(gate < LEVEL for gate in gates.values())
    weight = len(of_pair) / max(1, opened)
    result = {id(line): replace(line, adjusted_p=by_line[id(line)], tests=count) for line in first}
    for key, found in of_pair.items():
        rest = [line for line in found if id(line) not in deciding]
        for line, p in zip(rest, holm([line.p for line in rest]), strict=True):
            shown = None if p is None else max(gates[key], min(1.0, p * weight))
            tests = max(1, round(len(rest) * weight)) if gates[key] < LEVEL else max(count, len(rest))
            result[id(line)] = replace(line, adjusted_p=shown, tests=tests)
    return [result[id(line)] for line in lines]


def _deciding(of_pair: Sequence[Line]) -> list[Line]:
    goal = [line for key in ("goodput", "throughput") for line in of_pair if line.measure.key == key]
    able = [line for line in goal if line.comparison is not None][:1]
    return [*able, *(line for line in of_pair if line.measure.key in ("accuracy", "tokens"))]

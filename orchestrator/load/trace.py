"""Recorded arrivals: the public traces of Azure, BurstGPT and Mooncake in their own layouts.

A time is refused rather than guessed: every line has to be in order, of the first one's kind, and plausible.
"""

from __future__ import annotations

import csv
import functools
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from orchestrator.errors import ConfigError

Counts: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Recorded arrivals: seconds after the first, and the token counts of each request. Shape (n,) each, read
    only. ``layout`` says whose they are, ``unit`` what their times were taken for; where it is not ``whole``
    the file may go on."""

    times_s: NDArray[np.float64]
    prompt_tokens: Counts
    output_tokens: Counts
    layout: str
    unit: str
    whole: bool

    @property
    def told(self) -> str:
        """For the eyes of whoever knows the trace: how it was read."""
        count, span = len(self.times_s), float(self.times_s[-1])
        first = "" if self.whole else "the first "
        return f"{self.layout}, times are {self.unit}: {first}{count:,} arrivals in {span:,.1f} s"


class _Layout(NamedTuple):
    """The columns of time, prompt and output tokens; the unit of numbers that do not count from 1970."""

    name: str
    columns: tuple[str, str, str]
    unit: str | None


_AZURE = _Layout("Azure's layout", ("TIMESTAMP", "ContextTokens", "GeneratedTokens"), None)
_BURST = _Layout("BurstGPT's layout", ("Timestamp", "Request tokens", "Response tokens"), "s")
_MOONCAKE = _Layout("Mooncake's layout", ("timestamp", "input_length", "output_length"), "ms")

_NS = {"s": 10**9, "ms": 10**6, "µs": 10**3, "ns": 1}
_SINCE_1970 = {"s": 10**9, "ms": 10**12, "µs": 10**15, "ns": 10**18}  # from 2001 to ten times as much: 2286
_LONGEST_S = 3 * 366 * 86400  # BurstGPT, the longest public one, has 335 days

_DATE = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d(?:\.\d{1,9})?) ?(Z|UTC|[+-]\d\d:?\d\d)?", re.ASCII)
_UTC = frozenset({None, "Z", "UTC", "+00:00", "+0000", "-00:00", "-0000"})
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:[eE]\+?\d{1,2})?", re.ASCII)
_COUNT = re.compile(r"\d{1,9}(?:\.0+)?", re.ASCII)

Row: TypeAlias = tuple[int, str, str, str]  # its line, the time, the two counts


def read_trace(path: str | Path, at_most: int | None = None) -> Trace:
    """Arrivals and token counts from a CSV with a header or, where the first line is an object, JSON lines;
    of the first ``at_most`` arrivals alone where it is given: a week of Azure's has 44 million.

    - Azure 2023 and 2024: ``TIMESTAMP,ContextTokens,GeneratedTokens``, dates with or without a zone, or
      numbers since 1970.
    - BurstGPT, of six or eight columns: ``Timestamp,…,Request tokens,Response tokens,…``, seconds.
    - Mooncake: ``{"timestamp": ms, "input_length": …, "output_length": …}``.

    Numbers that begin at 10^9 or above count from 1970, in s, ms, µs or ns by their size. Raises ConfigError
    in one line: for what is none of these, a line that is earlier than the one before, another kind of time
    than the first line has, and times that cannot be what they seem.
    """
    file = Path(path)
    try:
        stat = file.stat()
        return _read(file, stat.st_mtime_ns, stat.st_size, at_most)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"load.path={path}: cannot be read as a trace ({error})") from None


@functools.lru_cache(maxsize=4)
def _read(path: Path, _mtime_ns: int, _size: int, at_most: int | None) -> Trace:
    layout, rows = _json_rows(path) if _begins_with_object(path) else _csv_rows(path)
    times: list[int] = []
    counts: list[tuple[int, int]] = []
    clock: _Clock | None = None
    for line, when, *both in itertools.islice(rows, at_most):
        try:
            clock = clock or _clock(when, layout)
            nanoseconds = clock.ns(when)
            if times and nanoseconds < times[-1]:
                raise ValueError("is earlier than the line before: arrivals must be in order")
            if nanoseconds - (times[0] if times else nanoseconds) > _LONGEST_S * 10**9:
                raise ValueError(f"is years after the first line where times are {clock.unit}")
            prompt, output = (_count(one) for one in both)
        except ValueError as error:
            said = ",".join((when, *both))[:200]
            raise ConfigError(f"load.path={path}: line {line} is {said!r}, which {error}") from None
        times.append(nanoseconds)
        counts.append((prompt, output))
    if clock is None:
        raise ConfigError(f"load.path={path}: the trace has no rows")
    since_first = (np.array(times) - times[0]) / 1e9
    tokens = np.array(counts, np.int64).T
    for array in (since_first, tokens):
        array.flags.writeable = False
    whole = len(times) != at_most
    return Trace(since_first, tokens[0], tokens[1], layout.name, clock.unit, whole)


def _begins_with_object(path: Path) -> bool:
    with path.open(encoding="utf-8-sig") as file:
        return file.read(4096).lstrip()[:1] == "{"


def _csv_rows(path: Path) -> tuple[_Layout, Iterator[Row]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        names = [name.strip() for name in next(csv.reader(file), [])]
    for layout in (_AZURE, _BURST):
        if set(layout.columns) <= set(names):
            return layout, _csv_lines(path, names, layout)
    known = " or ".join(",".join(one.columns) for one in (_AZURE, _BURST))
    header = ",".join(names)[:200]
    raise ConfigError(
        f"load.path={path}: the header is {header!r}, must have {known}, or each line be Mooncake's "
        f"JSON object with {', '.join(_MOONCAKE.columns)}"
    )


def _csv_lines(path: Path, names: list[str], layout: _Layout) -> Iterator[Row]:
    when, prompt, output = (names.index(name) for name in layout.columns)
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        next(reader)
        for row in reader:
            if not row:
                continue
            if len(row) != len(names):
                many = f"{len(row)} columns, the header {len(names)}"
                raise ConfigError(f"load.path={path}: line {reader.line_num} has {many}")
            yield reader.line_num, row[when].strip(), row[prompt].strip(), row[output].strip()


def _json_rows(path: Path) -> tuple[_Layout, Iterator[Row]]:
    return _MOONCAKE, _json_lines(path)


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                # Numbers as they are written: a float does not hold nanoseconds since 1970.
                row = json.loads(line, parse_int=_Written, parse_float=_Written)
            except (ValueError, RecursionError) as error:
                said = " ".join(str(error).split())[:100]
                raise ConfigError(f"load.path={path}: line {number} is not JSON ({said})") from None
            values: list[Any] = [
                row.get(name) if isinstance(row, dict) else None for name in _MOONCAKE.columns
            ]
            if not all(isinstance(value, _Written) for value in values):
                raise ConfigError(
                    f"load.path={path}: line {number} must be a JSON object with numbers for "
                    f"{', '.join(_MOONCAKE.columns)} (timestamp in ms)"
                )
            when, prompt, output = map(str, values)
            yield number, when, prompt, output


class _Written(str):
    """A number of a JSON document, as it stands there."""


@dataclass(frozen=True, slots=True)
class _Clock:
    """How the times of one trace are read. ``scale`` is ns per unit of a number, None for dates; ``epoch`` is
    what a number since 1970 is at least. ``whole``: numbers have no fractions. ``zone`` is that of the first
    date: without one it is UTC's, as in the public traces, but not beside dates of other zones."""

    unit: str
    scale: int | None = None
    epoch: int | None = None
    zone: str | None = None
    whole: bool = False

    def ns(self, when: str) -> int:
        """Whole ns, since a float does not hold a date to the ns. Raises ValueError."""
        if self.scale is None:
            return self._of_date(when)
        if not _NUMBER.fullmatch(when):
            raise ValueError(f"has no number of {self.unit} for its time")
        number = Decimal(when)
        if self.epoch is not None and not self.epoch <= number < 10 * self.epoch:
            raise ValueError(f"is none of {self.unit}, which the first line has")
        if self.whole and number != int(number):
            raise ValueError("has a fraction of a millisecond: seconds have to be multiplied by 1000")
        return round(number * self.scale)

    def _of_date(self, when: str) -> int:
        found = _DATE.fullmatch(when)
        if found is None:
            raise ValueError("has no time such as 2024-05-10 00:00:00.009930+00:00")
        day, clock, zone = found.groups()
        if None in (zone, self.zone) and not {zone, self.zone} <= _UTC:
            raise ValueError(f"{'names no' if zone is None else 'names a'} time zone, unlike the first line")
        nanoseconds = int(np.datetime64(f"{day}T{clock}", "ns").astype(np.int64))
        if not 2001 <= int(day[:4]) < 2262:
            raise ValueError("is of an implausible year")
        if zone in _UTC:
            return nanoseconds
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        if hours > 14 or minutes > 59:
            raise ValueError("names no time zone that there is")
        ahead = (60 * hours + minutes) * 60 * 10**9
        return nanoseconds - ahead if zone[0] == "+" else nanoseconds + ahead


def _clock(first: str, layout: _Layout) -> _Clock:
    """By the first line. Raises ValueError."""
    if found := _DATE.fullmatch(first):
        return _Clock("dates, taken as UTC" if found[3] is None else "dates with their zone", zone=found[3])
    if not _NUMBER.fullmatch(first):
        raise ValueError("has no time")
    number = Decimal(first)
    if number < 10**9:
        if layout.unit is None:
            raise ValueError("has neither a date nor a time since 1970")
        # A fraction tells of seconds, which would be read a thousand times as dense.
        whole = layout.unit == "ms"
        return _Clock(f"{layout.unit} from the trace's own zero", scale=_NS[layout.unit], whole=whole)
    for unit, least in _SINCE_1970.items():
        if least <= number < 10 * least:
            return _Clock(f"{unit} since 1970", scale=_NS[unit], epoch=least)
    raise ValueError("has a time that is none since 1970 in s, ms, µs or ns")


def _count(text: str) -> int:
    if not _COUNT.fullmatch(text):
        raise ValueError(f"has {text!r} where a number of tokens is due")
    return int(text.partition(".")[0])

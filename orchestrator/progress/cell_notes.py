"""What is said below the final table: why cells failed or do not count, and what to know of their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from orchestrator.metrics.stats import present
from orchestrator.metrics.validity import NOTES
from orchestrator.progress.line import Line, Row

NAMED = 3  # of the cells that something is said of


def print_notes(lines: Sequence[Line], console: Console, beside: Mapping[str, str] | None = None) -> None:
    """Why cells failed or do not count, then what has to be told of all whose numbers stand in the table;
    what is equal for several is said once. ``beside``: why a cell was not measured again, whose earlier
    measurement stands."""
    reasons: dict[tuple[str, str], list[Line]] = {}
    notes: dict[str, list[Line]] = {}
    for line in lines:
        for said in _reasons(line, beside or {}):
            reasons.setdefault(said, []).append(line)
        for note in _notes(line.row):
            notes.setdefault(note, []).append(line)
    for (head, why), concerned in reasons.items():
        console.print(Text(f"{head}  {_named(concerned, len(lines))}{why and f': {why}'}"))
    together: dict[tuple[str, ...], list[str]] = {}
    for note, concerned in notes.items():
        together.setdefault(tuple(line.cell_id for line in concerned), []).append(_told(note, concerned))
    by_id = {line.cell_id: line for line in lines}
    for cells, told in together.items():
        console.print(Text(f"note  {_named([by_id[one] for one in cells], len(lines))}: {'; '.join(told)}"))


def _reasons(line: Line, beside: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What happened, and why."""
    if why_not := beside.get(line.cell_id):
        first = next(iter(why_not.strip().splitlines()), why_not)
        yield "not measured again", f"{first}; the earlier measurement stands"
    if line.row is None:
        yield "not run", ""
    elif line.row["status"] != "done":
        yield line.row["status"], line.row["reason"] or ", ".join(line.row["flags"] or ())


def _notes(row: Row | None) -> Iterator[str]:
    """Flags of `NOTES`, and in words what makes a row look odd though its numbers hold."""
    if row is None or row["status"] == "failed":
        return
    yield from (flag for flag in row["flags"] or () if flag in NOTES)
    if row.get("truncated_rate") == 1.0:
        yield _all_cut(row)
    if (row.get("repeats") or 1) > 1 and row.get("temperature") == 0:
        yield f"repeats={row['repeats']} at temperature 0 asks for the same answers again"


def _all_cut(row: Row) -> str:
    """By which limit: an answer that max_tokens cuts has as many tokens."""
    limit = row["max_tokens"]
    least, most = row.get("output_length_min"), row.get("output_length_max")
    if least is None or most is None:
        return f"every answer was cut off (max_tokens={limit})"
    if least >= limit:
        return f"every answer was cut off at max_tokens={limit}"
    if most >= limit:
        return f"every answer was cut off, at max_tokens={limit} or earlier by a limit of the server's own"
    after = f"{least:.0f}" if least == most else f"{least:.0f} to {most:.0f}"
    return (
        f"every answer was cut off by a limit of the server's own, after {after} tokens (max_tokens={limit})"
    )


def _told(note: str, concerned: Sequence[Line]) -> str:
    """In words, with what was measured."""
    words = NOTES.get(note, note)
    rows = [line.row for line in concerned if line.row is not None]
    hits = present(row.get("prefix_hit_rate") for row in rows) if note == "cache_unknown" else []
    if not hits:
        return words
    least, most = f"{100 * min(hits):.0f}", f"{100 * max(hits):.0f}"
    share = least if least == most else f"{least} to {most}"
    return f"{words} ({share} % of the prompt tokens were in it)"


def _named(concerned: Sequence[Line], total: int) -> str:
    """The cell; of several how many, and the first ones where it is not all of them."""
    if len(concerned) == 1:
        return concerned[0].label
    if len(concerned) == total:
        return f"{total} cells"
    named = [line.label for line in concerned[:NAMED]] + ["…"] * (len(concerned) > NAMED)
    return f"{len(concerned)} of {total} cells ({'; '.join(named)})"

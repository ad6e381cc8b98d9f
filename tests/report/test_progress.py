"""What a report says of itself while it is made."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from orchestrator.errors import ConfigError
from orchestrator.report import progress
from orchestrator.report.progress import shown


def text_of(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_without_a_terminal_each_stage_is_one_plain_line() -> None:
    console = Console(file=StringIO(), width=20)
    with shown(console) as say:
        for done in range(3):
            say("reading the requests of cells", done, 2000)
        say("writing the page")
    assert text_of(console) == "report: reading the requests of cells (2,000)\nreport: writing the page\n"


def refused(console: Console) -> None:
    with shown(console) as say:
        say("reading cells")
        raise ConfigError("model=x: no cell has it")


def test_what_cannot_be_reported_is_one_line_unless_it_took_long(monkeypatch: pytest.MonkeyPatch) -> None:
    for held_s, expected in ((5.0, ""), (0.0, "report: reading cells\n")):
        monkeypatch.setattr(progress, "HELD_S", held_s)
        console = Console(file=StringIO())
        with pytest.raises(ConfigError):
            refused(console)
        assert text_of(console) == expected


def test_a_terminal_shows_how_far_it_is() -> None:
    console = Console(file=StringIO(), force_terminal=True, width=100)
    with shown(console) as say:
        say("reading cells", 1200, 2000)
    assert "report: reading cells" in text_of(console)
    assert "1200/2000" in text_of(console)

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.metrics.validity import INVALIDATING_FLAGS, NOTES
from orchestrator.store.schema import METRIC_COLUMNS

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
NAMES = [name.replace("*", r"\w+") for name in re.findall(r"`([a-z_*0-9]+)`", PAGE)]


def test_every_metric_of_a_cell_is_explained() -> None:
    assert [
        column for column in METRIC_COLUMNS if not any(re.fullmatch(name, column) for name in NAMES)
    ] == []


def test_every_flag_is_explained() -> None:
    assert {*INVALIDATING_FLAGS, *NOTES} <= set(NAMES)

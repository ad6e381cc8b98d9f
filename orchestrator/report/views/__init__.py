"""The paper's views, of a user's own cells: each is there where the data has it, and says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.report.options import Options
from orchestrator.report.theme import Figure
from orchestrator.report.views.difficulty import difficulty
from orchestrator.report.views.panels import over_time
from orchestrator.report.views.stragglers import completion

if TYPE_CHECKING:
    from orchestrator.report.build import Findings


def figures(findings: Findings, options: Options) -> list[Figure]:
    """Those that have data, in the order of the page."""
    variants, names = findings.variants, findings.names
    found = [
        difficulty(variants, names),
        completion(variants, names),
        *over_time(variants, names, options.results_dir),
    ]
    return [figure for figure in found if figure is not None]

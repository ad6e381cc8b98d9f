"""The paper's views, of a user's own cells: each is there where the data has it, and says what to do."""

from __future__ import annotations

from orchestrator.report.findings import Findings
from orchestrator.report.options import Options
from orchestrator.report.tables import Table
from orchestrator.report.theme import Figure
from orchestrator.report.views.asu import asu_table
from orchestrator.report.views.budget import budget
from orchestrator.report.views.by_size import by_size
from orchestrator.report.views.difficulty import difficulty
from orchestrator.report.views.domains import domains
from orchestrator.report.views.frontiers import frontiers
from orchestrator.report.views.loads import arrivals, in_flight
from orchestrator.report.views.panels import over_time
from orchestrator.report.views.stragglers import completion
from orchestrator.report.views.told_to_stop import told_to_stop
from orchestrator.report.views.waterfalls import waterfalls


def figures(findings: Findings, options: Options) -> list[Figure]:
    """Those that have data, in the order of the page."""
    variants, names = findings.variants, findings.names
    found = [
        waterfalls(findings.lines, names),
        *frontiers(variants, findings.accuracies, names, options),
        difficulty(variants, names),
        completion(variants, names),
        budget(variants, findings.accuracies, names),
        told_to_stop(variants, findings.accuracies, names),
        domains(variants, names),
        by_size(findings.lines, names),
        in_flight(variants, names),
        *arrivals(variants, names, options),
        *over_time(variants, names, options.results_dir),
    ]
    return [figure for figure in found if figure is not None]


def tables(findings: Findings) -> list[Table]:
    """The paper's table, where accuracy was measured."""
    table = asu_table(findings.variants, findings.accuracies, findings.names)
    return [] if table is None else [table]

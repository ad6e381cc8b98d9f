"""From stored cells to a decision: ``python -m orchestrator.report``, docs/report.md."""

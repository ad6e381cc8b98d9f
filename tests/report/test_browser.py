"""The page in a browser: where Playwright and Chromium are installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.page import look
from orchestrator.report.build import make_report
from orchestrator.report.options import Options
from tests.report.studies import Planted, store

pytestmark = pytest.mark.slow

BASE = Planted(runs=2, items=12)


def test_nothing_is_cut_off_covered_too_small_or_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if not (shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("no Chromium is on the PATH")
    named = BASE.but(model="a-model-with-a-rather-long-name-14b", opt=("an-optimization-with-a-long-name",))
    planted = [BASE, BASE.but(opt=("fp8",), tpot_s=0.015), BASE.but(max_tokens=128), named]
    results = store(tmp_path / "results", planted)
    made = make_report(Options(results, ("planted",), out=tmp_path / "out"), "command")
    assert look(made.page, tmp_path / "shots") == []
    assert len(list((tmp_path / "shots").glob("*.png"))) == 4
    spoiled = tmp_path / "out" / "spoiled.html"
    wide = '<svg viewBox="0 0 40 9" width="40"><text>longer than its figure</text></svg>'
    bad = f'<section id="s"><div class="figure">{wide}</div></section><script>console.log("said")</script>'
    spoiled.write_text(made.page.read_text().replace("</main>", f"{bad}</main>"))
    said = "\n".join(look(spoiled, tmp_path / "shots"))
    assert '"longer than its figure" is cut off' in said
    assert "the console says said" in said

"""The page in a real browser, where Playwright and Chromium are installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orchestrator.report.__main__ import main
from tests.report.studies import Planted, store

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_page_needs_nothing_and_fits_a_phone(tmp_path: Path) -> None:
    store(tmp_path / "results", [Planted(runs=3), Planted(runs=3, opt=("fp8",), tpot_s=0.015)])
    assert main([f"results_dir={tmp_path / 'results'}", "study=planted", f"out={tmp_path / 'out'}"]) == 0
    address = (tmp_path / "out" / "index.html").as_uri()
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in (1280, 390):
            for scheme, paper in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 23, 26)")):
                page = browser.new_context(
                    viewport={"width": width, "height": 800}, color_scheme=scheme
                ).new_page()
                asked: list[str] = []
                said: list[str] = []
                page.on("request", lambda request, asked=asked: asked.append(request.url))
                page.on("console", lambda message, said=said: said.append(message.text))
                page.goto(address)
                assert [url for url in asked if not url.startswith((address, "data:"))] == []
                assert said == []
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                assert page.evaluate("getComputedStyle(document.body).backgroundColor") == paper
        browser.close()

"""Looks at a report in Chromium, as wide as a desk's screen and a phone's, in light and in dark:

    python -m benchmarks.page report/index.html SCREENSHOTS

Needs Playwright (``pip install playwright``) and a Chromium on the PATH. Ends with 1 where the page asked for
anything but itself, said something on the console, is wider than the screen, or has the same paper in light
and in dark.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from typing import Any

WIDTHS = {"desk": 1280, "phone": 390}
SCHEMES = ("light", "dark")


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    page, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        playwright = importlib.import_module("playwright.sync_api")
    except ModuleNotFoundError:
        raise SystemExit("Playwright is not installed: pip install playwright") from None
    if chromium is None or not page.is_file():
        raise SystemExit("no Chromium is on the PATH" if chromium is None else f"there is no {page}")
    out.mkdir(parents=True, exist_ok=True)
    faults: list[str] = []
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, width in WIDTHS.items():
            papers = set()
            for scheme in SCHEMES:
                view = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
                papers.add(_look(view, page.as_uri(), f"{name}, {scheme}", width, faults))
                view.screenshot(path=out / f"{name}-{scheme}.png", full_page=True)
            if len(papers) < len(SCHEMES):
                faults.append(f"{name}: the same paper in light and in dark")
        browser.close()
    print("\n".join(faults) or f"nothing is wrong with it; look at {out}/*.png")
    raise SystemExit(bool(faults))


def _look(view: Any, address: str, where: str, width: int, faults: list[str]) -> str:
    """The colour of the paper; what is wrong is added to ``faults``."""
    view.on("request", lambda one: _unless_own(one.url, address, where, faults))
    view.on("console", lambda said: faults.append(f"{where}: the console says {said.text}"))
    view.on("pageerror", lambda error: faults.append(f"{where}: {error}"))
    view.goto(address)
    if (wide := int(view.evaluate("document.documentElement.scrollWidth"))) > width:
        faults.append(f"{where}: {wide} pixels wide on a screen of {width}")
    return str(view.evaluate("getComputedStyle(document.body).backgroundColor"))


def _unless_own(url: str, address: str, where: str, faults: list[str]) -> None:
    if not url.startswith((address, "data:")):
        faults.append(f"{where}: asks for {url}")


if __name__ == "__main__":
    main()

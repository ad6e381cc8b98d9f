"""Looks at a report in Chromium, as wide as a desk's screen and a phone's, in light and in dark:

    python -m benchmarks.page report/index.html SCREENSHOTS [node_modules/axe-core/axe.min.js]

Needs Playwright (``pip install playwright``) and a Chromium on the PATH. Ends with 1 where the page asked for
anything but itself, said something on the console, is wider than the screen, or has the same paper in light
and in dark; where a figure's text is cut off, too small to read, or lies on other text (but for the short
marks of points that lie together); and where axe-core
(``npm install axe-core``), if it is given, finds what keeps somebody from reading it.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from typing import Any

WIDTHS = {"desk": 1280, "phone": 390}
SCHEMES = ("light", "dark")
SMALLEST = 9  # pixels of a letter in a figure, as it is on the screen
FIGURES = """(smallest) => [...document.querySelectorAll('.figure svg')].flatMap((svg) => {
    // 12: the frame around it
    const found = [], whole = svg.getBoundingClientRect(), name = svg.closest('section').id;
    const scale = whole.width / svg.viewBox.baseVal.width;
    const texts = [...svg.querySelectorAll('text')].filter(
        (one) => one.textContent.trim() && getComputedStyle(one).opacity !== "0");
    const boxes = texts.map((one) => one.getBoundingClientRect());
    texts.forEach((text, i) => {
        const own = boxes[i], said = `${name}: "${text.textContent}"`;
        const size = scale * parseFloat(getComputedStyle(text).fontSize);
        if (size < smallest) found.push(`${said} is ${size.toFixed(1)} pixels small`);
        const out = Math.max(whole.left - own.left, own.right - whole.right,
            whole.top - own.top, own.bottom - whole.bottom);
        if (out > 12) found.push(`${said} is cut off`);
        boxes.slice(0, i).forEach((other, j) => {
            const wide = Math.min(own.right, other.right) - Math.max(own.left, other.left);
            const high = Math.min(own.bottom, other.bottom) - Math.max(own.top, other.top);
            if (wide > 2 && high > 4 && text.textContent.length > 3)
                found.push(`${said} lies on "${texts[j].textContent}"`);
        });
    });
    return found;
})"""
AXE = (
    "async () => (await axe.run()).violations.map((one) => `${one.id}: ${one.nodes[0].target}: ${one.help}`)"
)


def main() -> None:
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    page, out, *axe = map(Path, sys.argv[1:])
    missing = [path for path in (page, *axe) if not path.is_file()]
    if missing:
        raise SystemExit(f"there is no {missing[0]}")
    try:
        faults = look(page, out, *axe)
    except ModuleNotFoundError:
        raise SystemExit("Playwright is not installed: pip install playwright") from None
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from None
    print("\n".join(faults) or f"nothing is wrong with it; look at {out}/*.png")
    raise SystemExit(bool(faults))


def look(page: Path, out: Path, axe: Path | None = None) -> list[str]:
    """What is wrong with the page, and screenshots of it in the folder ``out``. Raises ModuleNotFoundError
    without Playwright, FileNotFoundError without Chromium."""
    playwright = importlib.import_module("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise FileNotFoundError("no Chromium is on the PATH")
    out.mkdir(parents=True, exist_ok=True)
    faults: list[str] = []
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, width in WIDTHS.items():
            papers = set()
            for scheme in SCHEMES:
                view = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
                where = f"{name}, {scheme}"
                papers.add(_look(view, page.resolve().as_uri(), where, width, faults))
                view.screenshot(path=out / f"{name}-{scheme}.png", full_page=True)
                if axe is not None:
                    view.add_script_tag(path=axe)
                    faults += [f"{where}: {one}" for one in view.evaluate(AXE)]
            if len(papers) < len(SCHEMES):
                faults.append(f"{name}: the same paper in light and in dark")
        browser.close()
    return faults


def _look(view: Any, address: str, where: str, width: int, faults: list[str]) -> str:
    """The colour of the paper; what is wrong is added to ``faults``."""
    view.on("request", lambda one: _unless_own(one.url, address, where, faults))
    view.on("console", lambda said: faults.append(f"{where}: the console says {said.text}"))
    view.on("pageerror", lambda error: faults.append(f"{where}: {error}"))
    view.goto(address)
    if (wide := int(view.evaluate("document.documentElement.scrollWidth"))) > width:
        faults.append(f"{where}: {wide} pixels wide on a screen of {width}")
    faults += [f"{where}: {one}" for one in view.evaluate(FIGURES, SMALLEST)]
    return str(view.evaluate("getComputedStyle(document.body).backgroundColor"))


def _unless_own(url: str, address: str, where: str, faults: list[str]) -> None:
    if not url.startswith((address, "data:")):
        faults.append(f"{where}: asks for {url}")


if __name__ == "__main__":
    main()

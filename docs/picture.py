"""Takes README's picture of the report: the demo's page in Chromium, as a reader first sees it.

    make demo && .venv/bin/python docs/picture.py

Needs Chromium (CROSSWARD_CHROMIUM names another binary).
"""

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
REPORT = ROOT / "runs" / "demo" / "run" / "report.html"
TARGET = ROOT / "docs" / "figures" / "report.png"
HEIGHT = 1130  # of the picture, in pixels: the first responses of a group are enough
PARTS = ("#headline", "#pairs")  # of the page, one below the other


def main() -> int:
    chromium = os.environ.get("CROSSWARD_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("no Chromium found: install it, or set CROSSWARD_CHROMIUM", file=sys.stderr)
        return 2
    if not REPORT.exists():
        print(f"{REPORT} is not there: make demo writes it", file=sys.stderr)
        return 2
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1180, "height": 900}, color_scheme="light")
        page.goto(REPORT.as_uri())
        keep = ", ".join(PARTS)
        page.evaluate(  # the other sections away: what is left stands on the page as it does in the report
            f"document.querySelectorAll('main > section:not({keep}), nav, footer').forEach(e => e.remove())"
        )
        page.select_option("#language", "sw")
        page.fill("#search", "animals")
        page.wait_for_timeout(200)
        page.locator("#rows button").first.click()
        page.screenshot(path=TARGET, full_page=True, clip={"x": 0, "y": 0, "width": 1180, "height": HEIGHT})
        browser.close()
    print(f"{TARGET.relative_to(ROOT)}: {TARGET.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Pictures of a report for the docs, taken in headless Chromium: its top, and its first cases.

    python -m experiments.report_pictures REPORT.html [--output docs/figures]

Writes ``report.png`` and ``report-cases.png``. It takes Playwright (the extra ``test``) and Chromium.
"""

import argparse
import shutil
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, ROWS = 1100, 1000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PARTS = {"report": ("header", "#curves"), "report-cases": ("#cases", None)}
"""Name of a picture -> its first and its last element; None: as many rows of pixels as ``ROWS``."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/figures"))
    arguments = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": WIDTH, "height": ROWS})
        page.goto(arguments.report.resolve().as_uri())
        for name, (first, last) in PARTS.items():
            top = page.locator(first).first.bounding_box()["y"]
            box = page.locator(last or first).first.bounding_box()
            bottom = box["y"] + box["height"] if last else top + ROWS
            clip = {"x": 0, "y": top, "width": WIDTH, "height": bottom - top}
            picture = Image.open(BytesIO(page.screenshot(full_page=True, clip=clip))).convert("RGB")
            path = arguments.output / f"{name}.png"
            picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
            print(path)
        chromium.close()


if __name__ == "__main__":
    main()

"""The README's picture, by chromium: python scripts/screenshot.py runs/digits/report.html docs/images/digits.png."""

from __future__ import annotations

import shutil
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

SIZE = {"width": 1180, "height": 2480}


def main(report: Path, picture: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        sys.exit("There is no chromium to take the picture with.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(report.resolve().as_uri())
        end = page.locator("#idea svg").last.bounding_box()
        assert end
        shot = page.screenshot(clip={"x": 0, "y": 0, "width": SIZE["width"], "height": end["y"] + end["height"] + 20})
        browser.close()
    Image.open(BytesIO(shot)).quantize(128).save(picture, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

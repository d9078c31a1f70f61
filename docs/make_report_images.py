"""Takes pictures of a report in Chromium: `python docs/make_report_images.py PAGE [FOLDER]`.

Without a folder the upper part of the page becomes docs/images/report.png; with one, four pictures
to look at are put there: of a desktop's and of a phone's width, light and dark.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

IMAGE = Path(__file__).parent / "images" / "report.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
DESKTOP, PHONE = 1280, 390
"""Widths in pixels."""


def main(page: str, folder: str = "") -> None:
    """Take the picture of the documentation, or the four to look at."""
    source = Path(page).resolve(strict=True)
    if not folder:
        shoot(source, IMAGE, DESKTOP, 1480, dark=False)
        with Image.open(IMAGE) as picture:
            # 256 colours are all that such a page has, and a third of the bytes. The default method
            # joins rare colours, which two lines of a legend may be.
            few = picture.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)
            few.save(IMAGE, optimize=True)
        print(IMAGE)
        return
    Path(folder).mkdir(exist_ok=True)
    for device, width, height in (("desktop", DESKTOP, 6000), ("phone", PHONE, 12000)):
        for dark in (False, True):
            out = Path(folder) / f"{device}-{'dark' if dark else 'light'}.png"
            shoot(source, out, width, height, dark=dark)
            print(out)


def shoot(page: Path, out: Path, width: int, height: int, *, dark: bool) -> None:
    """Write a picture of the page's first `height` pixels."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"no browser found: install one of {', '.join(BROWSERS)}")
    with tempfile.TemporaryDirectory() as profile:
        words = [
            browser,
            "--headless",
            "--disable-gpu",
            "--hide-scrollbars",
            "--no-first-run",
            "--disable-background-networking",
            f"--user-data-dir={profile}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            f"--window-size={width},{height}",
            f"--screenshot={out.resolve()}",
        ]
        if os.geteuid() == 0:
            # Chromium's sandbox refuses the superuser, whom containers run as.
            words.append("--no-sandbox")
        subprocess.run([*words, page.as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

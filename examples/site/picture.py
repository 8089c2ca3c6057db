"""The picture of README.md: parts of the report of `magic demo`, as Chromium shows them.

magic demo
python examples/site/picture.py magic-demo/report/report.html examples/report.webp
"""

import argparse
import base64
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "builders"))

import browser  # the driver of the tests

WIDTH = 1120  # of the window, in CSS pixels

PARTS = {"h1": "h1 + *", "#verdict": "section:has(#verdict)", "#photos": ".shots > :first-child"}
"""Selectors: from the top of the key's element to the bottom of the value's."""


def clips(page: browser.Browser) -> list[dict[str, float]]:
    """Return the areas of PARTS as wide as the page, with a margin."""
    areas = []
    for first, last in PARTS.items():
        places = [f"document.querySelector({name!r}).getBoundingClientRect()" for name in (first, last)]
        top, bottom = page.run(f"{places[0]}.top + scrollY") - 20, page.run(f"{places[1]}.bottom + scrollY") + 12
        areas.append({"x": 0, "y": top, "width": WIDTH, "height": bottom - top, "scale": 1})
    return areas


def main() -> None:
    """Read the command line, take the parts one below the other, and write them as WebP."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, browser.opened(Path(folder)) as page:
        page.look(WIDTH)
        page.open(options.report)
        page.look(WIDTH, page.run("document.documentElement.scrollHeight"))  # photos out of the window are not drawn
        answers = [page.call("Page.captureScreenshot", clip=clip) for clip in clips(page)]
    parts = [Image.open(io.BytesIO(base64.b64decode(answer["data"]))).convert("RGB") for answer in answers]
    whole = Image.new("RGB", (WIDTH, sum(part.height for part in parts)))
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    whole.save(options.out, quality=70, method=6)


if __name__ == "__main__":
    main()

"""A sheet of the worst and the best photos of a scored system: contours of annotators (dashed) and of the system.

    python tests/benchmarks/extremes.py REPORT/per_item.csv PREDICTIONS PREPARED/ [--count 10] [--out extremes.png]

REPORT is what `magic score PREDICTIONS PREPARED/ --out REPORT` wrote; its first system is shown, by the best Dice.
Photos of patients stay local: look at the sheet, do not publish it.
"""

import argparse
from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw

from magic_cli.commands.score_files import masks_of
from magic_cli.data.gold import open_gold
from magic_cli.report.overlays import overlay
from magic_cli.submission.reader import open_predictions

SIDE, TITLE, COLUMNS = 300, 14, 5


def extremes(items: Path, count: int) -> pd.DataFrame:
    """Return the photos with the lowest and then those with the highest Dice of the first system, in order."""
    table = pd.read_csv(items)
    table = table[(table["system"] == table["system"].iloc[0]) & (table["task"] == "seg")].sort_values("dice_max")
    return pd.concat([table.head(count), table.tail(count)]).drop_duplicates("image")


def sheet(items: Path, preds: Path, prepared: Path, count: int) -> Image.Image:
    """Return the photos side by side, each with its id and Dice."""
    known = open_gold(prepared, "valid")
    gold = known.masks
    rows = list(extremes(items, count).itertuples())
    page = Image.new("RGB", (SIDE * COLUMNS, (SIDE + TITLE) * -(-len(rows) // COLUMNS)), "white")
    draw = ImageDraw.Draw(page)
    with open_predictions(preds) as submission:
        masks = masks_of(submission, known)
        for number, row in enumerate(rows):
            name = str(row.image)
            annotators = list(gold.images[name].masks())
            image = overlay(gold.photos[name], annotators, masks[name](), SIDE, gold.upright.get(name))
            corner = number % COLUMNS * SIDE, number // COLUMNS * (SIDE + TITLE)
            page.paste(image, (corner[0], corner[1] + TITLE))
            draw.text((corner[0] + 2, corner[1]), f"{name} {row.dice_max:.2f}", fill="black")
    return page


def main(words: list[str] | None = None) -> None:
    """Parse, draw, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("items", "preds", "prepared"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("extremes.png"))
    given = parser.parse_args(words)
    sheet(given.items, given.preds, given.prepared, given.count).save(given.out)
    print(given.out)


if __name__ == "__main__":
    main()

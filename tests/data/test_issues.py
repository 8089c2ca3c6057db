"""data/issues.py: equal problems share a line; what counts already, or is said of a whole split, does not."""

import pytest

from magic_cli.data.issues import by_kind
from magic_cli.errors import problem


@pytest.mark.parametrize("name", ["IMG_{}.jpg", "2025 photos/a: b/IMG_{}.jpg", "s.zip:masks_preds/IMG_{}"])
def test_314_equal_problems_are_a_line(name: str) -> None:
    lines = [problem(name.format(n), f"no photo for ENC{n}", "a JPEG", "copy it") for n in range(314)]
    [line] = by_kind(lines)
    named = ", ".join(name.format(n) for n in range(3))
    assert line == f"314 items: {named}, ...: got no photo for ENC0, expected a JPEG; copy it (words of the first one)"


@pytest.mark.parametrize(
    "lines",
    [
        [
            problem(split, f"a median lesion of {n} % of the photo", "less", "look")
            for n, split in ((78, "train"), (91, "valid"))
        ],
        [problem(split, "no lesion in any of 3 masks", "one", "look") for split in ("train", "valid")],
        [f"{split}: {n} of 9 photos have a mask" for n, split in ((3, "train"), (4, "valid"))],
        ["1 photo is JPEG in CMYK: converted to 8-bit RGB", "1,204 photos are PNG of 16 bits: converted to 8-bit RGB"],
    ],
)
def test_numbers_that_are_the_message_stay(lines: list[str]) -> None:
    assert by_kind(lines) == lines

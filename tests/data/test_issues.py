"""data/issues.py: equal problems share a line; what counts already, or is said of a whole split, does not."""

import pytest

from magic_cli.data.issues import MOST, MOST_LINES, IssueLog, by_kind
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


def test_of_a_million_equal_problems_some_are_listed_and_all_are_counted() -> None:
    issues = IssueLog()
    for number in range(MOST + 500):
        issues.add_loss(problem(f"a.csv:{number}", f"no photo {number}", "its file", "download it"), "images")
    issues.add_loss(problem("a.csv", "another thing", "this", "fix it"))
    others, *listed = issues.lines()
    assert others.startswith("500 problems are not listed, as thousands are, the first: a.csv:2000: got no photo 2000")
    assert (len(listed), issues.number, issues.left_out["images"]) == (MOST + 1, MOST + 501, MOST + 500)
    assert by_kind(issues.lines())[0] == others


def test_problems_of_a_million_kinds_are_counted_too() -> None:
    issues = IssueLog()
    words = ["".join(chr(97 + int(digit)) for digit in str(number)) for number in range(MOST_LINES + 7)]
    for word in words:
        issues.add_loss(problem("a", f"no {word}", "it", "fix it"))
    assert issues.number == MOST_LINES + 7
    assert len(issues.lines()) < 5_000

"""Plots: inline SVG that speaks, fits any page, takes its colours and is the same each time."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from magic_cli.report import plots
from magic_cli.report.plots import distributions
from magic_cli.report.plots.frame import SERIES, Axis, count_axis, fitted, round_axis, units, width_of

HOSTILE = "</svg><script>alert(1)</script>\"' $\\frac{ 训 \x1b[31m\u202e"
ROWS = [
    {"epoch": n + 1, "loss": 1 / (n + 1), "dice": 0.5 + n / 20, "jaccard": None if n == 1 else 0.4} for n in range(6)
]


def drawn(word: str = "word", others: str = "others") -> dict[str, str]:
    """Return a plot of each kind, all their texts `word` or `others`."""
    values = np.linspace(0.02, 1, 40).tolist()
    words = {"title": word, "axis": word}
    counts = plots.Counts([3, 0, 1], [word] * 3, [(0, word), (3, "3")], [(0.5, word), (2, "b")])
    rows = [{**row, word: row["dice"], others: row["loss"]} for row in ROWS]
    return {
        "histogram": plots.histogram(values, **words, things=word),
        "counts": plots.count_bars(counts, **words, things=word),
        "scatter": plots.scatter(values, values, title=word, x_axis=word, y_axis=word, names=[word] * 40),
        "curves": plots.curves(rows, [word, others], title=word, axis=word, best=word),
        "lines": plots.lines(
            [plots.Line(f"{word} {k}", [(1, k), (2, 0.5)], 1) for k in range(8)], title=word, x_axis=word, y_axis=word
        ),
    }


SVGS = drawn()


def root(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - our own


def texts(svg: str) -> set[str]:
    return {"".join(element.itertext()) for element in root(svg).iter() if element.tag.endswith("text")}


def numbers(svg: str, tag: str, name: str) -> list[float]:
    return [float(element.get(name, "0")) for element in root(svg).iter() if element.tag == tag]


def test_the_same_numbers_give_the_same_bytes() -> None:
    assert drawn() == SVGS


@pytest.mark.parametrize("name", SVGS)
def test_it_speaks_clashes_with_nothing_and_takes_the_colours_of_the_page(name: str) -> None:
    svg = SVGS[name]
    assert root(svg).get("role") == "img"
    assert root(svg).get("aria-label", "").startswith("word")
    assert not {"width", "height", "style", "class"} & set(root(svg).attrib)
    assert not re.search(r" id=|href|https?:|<style|<!|<\?|@import|url\(|font-family|nan|inf", svg)
    colours = set(re.findall(r'(?:fill|stroke)="([^"]+)"', svg))
    assert colours <= {"none", "currentColor", "var(--sheet, #fff)", *SERIES}


@pytest.mark.parametrize("name", SVGS)
def test_everything_lies_within_the_view(name: str) -> None:
    _, _, width, height = (float(number) for number in root(SVGS[name]).get("viewBox", "").split())
    for element in root(SVGS[name]).iter("text"):
        x, y = float(element.get("x", "0")), float(element.get("y", "0"))
        size = width_of("".join(element.itertext()))
        left = x - size * {"end": 1, "middle": 0.5}.get(element.get("text-anchor", ""), 0)
        assert -1 <= left <= left + size <= width + 1
        assert 0 <= y <= height
    for name_x, name_y, tag in (("cx", "cy", "circle"), ("x", "y", "rect")):
        assert all(0 <= x <= width for x in numbers(SVGS[name], tag, name_x))
        assert all(-6 <= y <= height for y in numbers(SVGS[name], tag, name_y))


@pytest.mark.parametrize("name", SVGS)
def test_hostile_words_stay_words(name: str) -> None:
    svg = drawn(HOSTILE, f"other {HOSTILE}")[name]
    assert "<script" not in svg
    assert "\x1b" not in svg
    assert "\u202e" not in svg
    assert svg.count("<svg") == svg.count("</svg>") == 1
    assert root(svg).get("aria-label", "").startswith("</svg><script>alert(1)")


def test_a_histogram_counts_in_bins_and_marks_the_median() -> None:
    values = [0.0, 0.01, 0.31, 0.32, 0.33, 0.98, 1.0]
    svg = plots.histogram(values, title="Jaccard", axis="Jaccard of an image")
    assert {"Jaccard", "Jaccard of an image", "number of images", "median 0.32", "0.25"} <= texts(svg)
    assert root(svg).get("aria-label") == "Jaccard: histogram of 7 images over Jaccard of an image; median 0.32."
    said = [element.text for element in root(svg).iter("title")]
    assert said == ["0.00 to 0.05: 2 images", "0.30 to 0.35: 3 images", "0.95 to 1.00: 2 images"]
    heights = numbers(svg, "rect", "height")
    assert heights[1] == pytest.approx(1.5 * heights[0], abs=0.02)


def test_curves_mark_the_best_epoch_and_leave_room_for_the_rest() -> None:
    svg = plots.curves(ROWS, ["dice", "jaccard"], title="Score", axis="score", best="dice", epochs=12)
    assert {"epoch", "score", "Dice, pooled", "Jaccard, pooled", "best: epoch 6", "12"} <= texts(svg)
    assert "from 0.500 to 0.750, best 0.750 at 6; Jaccard, pooled from 0.400" in root(svg).get("aria-label", "")
    assert "Dice, pooled, epoch 3: 0.6000" in {element.text for element in root(svg).iter("title")}
    assert len([text for text in texts(svg) if "jaccard" in text.lower()]) == 1
    ties = [{"epoch": k, "dice": 0.5} for k in (1, 2)]
    assert "best: epoch 1" in texts(plots.curves(ties, ["dice"], title="t", axis="a", best="dice"))  # as training does
    assert "nothing yet" in root(plots.curves([], ["loss"], title="t", axis="a")).get("aria-label", "")


def test_no_two_of_many_lines_look_the_same() -> None:
    many = [plots.Line(str(k), [(1, k), (2, k)]) for k in range(18)]
    svg = plots.lines(many, title="t", x_axis="epoch", y_axis="score")
    looks = re.findall(r'fill="none" (stroke="var[^/]*)/>', svg)
    assert len(looks) == 36  # each as a curve and in the legend
    assert len(set(looks)) == 18


def test_a_strip_shows_a_score_its_interval_and_others() -> None:
    svg = plots.strip(0.642, (0.5821, 1.2), (0.2, None, float("nan"), 0.639))
    assert root(svg).get("aria-hidden") == "true"
    places = [line.get("x1") for line in root(svg).iter("line") if (line.get("stroke") or "").startswith("var")]
    assert places == ["20%", "63.9%", "64.2%"]
    [band] = root(svg).iter("rect")
    assert (band.get("x"), band.get("width")) == ("58.21%", "41.79%")
    assert texts(plots.strip_axis()) == {"0", "0.5", "1"}
    assert "<line" in plots.strip(float("nan"))


@pytest.mark.parametrize("values", [[0.0], [1.0], [0.5] * 3, [0.0, 1.0]])
def test_few_values(values: list[float]) -> None:
    shares = [max(v, 1e-7) for v in values]
    rows = [{"epoch": 1, "loss": v} for v in values]
    for svg in (
        plots.histogram(values, title="t", axis="a"),
        plots.scatter(shares, values, title="t", x_axis="x", y_axis="y"),
        plots.curves(rows, ["loss"], title="t", axis="a", best="loss"),
        plots.curves([], ["loss"], title="t", axis="a", best="loss"),
    ):
        assert root(svg).get("viewBox")
        assert "nan" not in svg


def test_of_many_points_some_are_drawn_and_all_are_counted() -> None:
    number = 3 * plots.POINTS
    shares = [(7 * k % number + 1) / number for k in range(number)]  # in no order
    dices = [share**0.5 for share in shares]
    svg = plots.scatter(shares, dices, title="t", x_axis="x", y_axis="y", names=["name"] * number)
    few = plots.scatter(shares[: plots.POINTS], dices[: plots.POINTS], title="t", x_axis="x", y_axis="y")
    assert svg.count("<circle ") == few.count("<circle ") == plots.POINTS
    assert "name" not in svg  # of so many, which would weigh megabytes
    assert "t: 6000 points; median y by rising x: 0.35, 0.61, 0.79, 0.94." in svg
    drawn = sorted(shares[k] for k in distributions._drawn(shares))
    assert (drawn[0], drawn[-1]) == (min(shares), 1.0)
    assert max(b - a for a, b in pairwise(drawn)) < 5 / number


def test_bins_and_groups() -> None:
    counts = distributions.bins([0, 0.049, 0.05, 0.5, 0.999, 1.0])
    assert counts.sum() == 6
    assert (counts[0], counts[1], counts[10], counts[19]) == (2, 1, 1, 2)
    found = plots.groups([5, 1, 2, 3, 4], [0.5, 0.1, 0.2, 0.3, 0.4], 2)
    assert [(g.low, g.high, g.size) for g in found] == [(1, 3, 3), (4, 5, 2)]
    assert found[0].quartiles == pytest.approx((0.15, 0.2, 0.25))
    assert [g.size for g in plots.groups([1, 2, 3], [0, 0, 1])] == [3]
    assert [g.size for g in plots.groups([1], [0])] == [1]
    assert plots.groups([], []) == ()


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (lambda: round_axis("", 0.11, 0.52), ["0.2", "0.3", "0.4", "0.5"]),
        (lambda: round_axis("", 0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (lambda: round_axis("", 0.55, 1.8), ["0.75", "1.00", "1.25", "1.50", "1.75"]),
        (lambda: round_axis("", -3.0, 12_000.0, 4), ["0", "5,000", "10,000"]),
        (lambda: round_axis("", 0.7, 0.7), ["0.650", "0.675", "0.700", "0.725", "0.750"]),
        (lambda: count_axis("", 51), ["0", "10", "20", "30", "40", "50"]),
        (lambda: count_axis("", 0), ["0", "1"]),
        (lambda: count_axis("", 13_571), ["0", "5,000", "10,000"]),
    ],
)
def test_ticks_are_round_and_few(axis: Callable[[], Axis], expected: list[str]) -> None:
    assert [text for _, text in axis().ticks] == expected


def test_lengths_and_long_texts() -> None:
    assert [units(value) for value in (12.0, 0.126, -0.001, -0.5)] == ["12", "0.13", "0", "-0.5"]
    assert fitted("Location", 100) == "Location"
    assert fitted("Location", 30) == "Loc…"
    assert width_of("皮肤") > 1.5 * width_of("ab")

"""Plots: inline SVG that speaks, fits any page, clashes with nothing and is the same each time; or a remedy."""

import re
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest

from magic_cli.errors import ExtraError
from magic_cli.report import plots

HOSTILE = "</svg><script>alert(1)</script>\"' $\\frac{ 训 \x1b[31m\u202e"
ROWS = [
    {"epoch": n + 1, "loss": 1 / (n + 1), "dice": 0.5 + n / 20, "jaccard": None if n == 1 else 0.4} for n in range(6)
]


def drawn() -> dict[str, str]:
    pytest.importorskip("matplotlib", reason="the extra `report` is not installed")
    values = np.linspace(0.02, 1, 40)
    return {
        "h": plots.histogram(values, name="h", title="Jaccard", axis="Jaccard of an image"),
        "s": plots.scatter(values, values, name="s", title="Dice", x_axis="share of the photo", y_axis="Dice"),
        "c": plots.curves(ROWS, ["dice", "jaccard"], name="c", title="Score", axis="score", best="dice"),
    }


@pytest.fixture(scope="module")
def svgs() -> dict[str, str]:
    return drawn()


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter() if element.tag.endswith("text")]  # noqa: S314


def test_the_same_numbers_give_the_same_bytes(svgs: dict[str, str]) -> None:
    assert drawn() == svgs


def test_they_speak_and_text_is_text(svgs: dict[str, str]) -> None:
    for svg in svgs.values():
        root = ET.fromstring(svg)  # noqa: S314
        assert root.get("role") == "img"
        assert root.get("aria-label")
        assert not {"width", "height"} & set(root.attrib)
    assert "median 0.51" in ET.fromstring(svgs["h"]).get("aria-label", "")  # noqa: S314
    assert {"Jaccard", "Jaccard of an image", "number of images", "median 0.51"} <= set(texts(svgs["h"]))
    assert {"1 %", "10 %", "100 %", "share of the photo", "median of a quarter of the images"} <= set(texts(svgs["s"]))
    assert {"epoch", "score", "dice", "jaccard", "best: epoch 6"} <= set(texts(svgs["c"]))


def test_ids_do_not_clash_and_all_are_used(svgs: dict[str, str]) -> None:
    page = "".join(svgs.values())
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids)) > 0
    assert set(ids) == set(re.findall(r'(?:href="|url\()#([^")]+)', page))


def test_nothing_is_fetched_dated_or_styled_beyond_itself(svgs: dict[str, str]) -> None:
    for svg in svgs.values():
        assert not re.search(r"https?:|<style|<metadata|<!|<\?|@import|\bDate\b|DejaVu", svg)
        assert "#00000" not in svg


def test_colours_are_the_pages(svgs: dict[str, str]) -> None:
    for svg in svgs.values():
        assert set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg)) <= {"none", *plots._COLOURS.values()}


def test_hostile_words_stay_words() -> None:
    pytest.importorskip("matplotlib", reason="the extra `report` is not installed")
    svg = plots.histogram([0.5], name=HOSTILE, title=HOSTILE, axis=HOSTILE, things=HOSTILE)
    svg += plots.curves([{"epoch": 1, HOSTILE: 0.5}], [HOSTILE, "b"], name="c", title=HOSTILE, axis=HOSTILE)
    assert "<script" not in svg
    assert "\x1b" not in svg
    assert "\u202e" not in svg
    assert svg.count("<svg") == svg.count("</svg>") == 2
    assert "$\\frac{" in svg


@pytest.mark.parametrize("values", [[0.0], [1.0], [0.5] * 3, [0.0, 1.0]])
def test_few_values(values: list[float]) -> None:
    pytest.importorskip("matplotlib", reason="the extra `report` is not installed")
    assert plots.histogram(values, name="h", title="t", axis="a")
    shares = [max(v, 1e-7) for v in values]
    assert plots.scatter(shares, values, name="s", title="t", x_axis="x", y_axis="y")
    rows = [{"epoch": 1, "loss": v} for v in values]
    assert plots.curves(rows, ["loss"], name="c", title="t", axis="a", best="loss")
    assert plots.curves([], ["loss"], name="c", title="t", axis="a", best="loss")


def test_of_many_points_some_are_drawn_and_all_are_counted() -> None:
    pytest.importorskip("matplotlib", reason="the extra `report` is not installed")
    number = 3 * plots.POINTS
    shares = [(7 * k % number + 1) / number for k in range(number)]  # in no order
    dices = [share**0.5 for share in shares]
    svg = plots.scatter(shares, dices, name="s", title="t", x_axis="x", y_axis="y")
    few = plots.scatter(shares[: plots.POINTS], dices[: plots.POINTS], name="s", title="t", x_axis="x", y_axis="y")
    assert plots.POINTS <= few.count("<use ") == svg.count("<use ") < plots.POINTS + 60  # some are ticks
    assert "t: 6000 points; median y by rising x: 0.35, 0.61, 0.79, 0.94." in svg
    drawn = sorted(shares[k] for k in plots._drawn(shares))
    assert (drawn[0], drawn[-1]) == (min(shares), 1.0)
    assert max(b - a for a, b in pairwise(drawn)) < 5 / number


def test_bins_and_groups() -> None:
    counts = plots.bins([0, 0.049, 0.05, 0.5, 0.999, 1.0])
    assert counts.sum() == 6
    assert (counts[0], counts[1], counts[10], counts[19]) == (2, 1, 1, 2)
    found = plots.groups([5, 1, 2, 3, 4], [0.5, 0.1, 0.2, 0.3, 0.4], 2)
    assert [(g.low, g.high, g.size) for g in found] == [(1, 3, 3), (4, 5, 2)]
    assert found[0].quartiles == pytest.approx((0.15, 0.2, 0.25))
    assert [g.size for g in plots.groups([1, 2, 3], [0, 0, 1])] == [3]
    assert [g.size for g in plots.groups([1], [0])] == [1]
    assert plots.groups([], []) == ()


def test_without_matplotlib_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ExtraError, match=re.escape("pip install matplotlib")):
        plots.histogram([0.5], name="h", title="t", axis="a")

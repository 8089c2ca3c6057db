"""report.html: everything of a report is on it, nothing of it runs or is fetched, whatever is missing or hostile."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from page_outline import check
from score_reports import HISTORY, HOSTILE, SEG, make_report

from magic_cli.data.gold import MaskGold
from magic_cli.errors import DataError
from magic_cli.report import page, score_images, score_page


@pytest.mark.parametrize(
    ("tasks", "hostile", "defined"),
    [
        (("seg",), False, True),
        (("seg",), True, False),
        (("cvqa",), False, True),
        (("cvqa",), True, False),
        (("seg", "cvqa"), True, True),
        (("seg", "cvqa"), False, False),
    ],
)
def test_any_report_makes_a_page(tmp_path: Path, tasks: tuple[str, ...], hostile: bool, defined: bool) -> None:
    made = make_report(tmp_path, tasks, systems=2, images=6, hostile=hostile, defined=defined)
    found = check(score_page.html(made.report, made.gold, made.masks, HISTORY))
    assert ("Segmentation" in found.text) == ("seg" in tasks)
    assert ("Closed questions" in found.text) == ("cvqa" in tasks)
    assert found.shots == (6 if "seg" in tasks else 0)
    assert found.images == []  # the gold has no photos
    if hostile:
        assert "<script>document.title" in found.text  # as text
        assert "{{ 7*7 }}" in found.text
        assert "\\x1b[31m\\x202e" in found.text


def test_its_plots_name_what_they_show(tmp_path: Path) -> None:
    made = make_report(tmp_path, images=6)
    html = score_page.html(made.report, made.gold, made.masks, HISTORY)
    assert html.count('<figure class="plot">') == 4
    found = check(html)
    titles = ("Jaccard of each image", "Dice against lesion size", "Training loss", "Score on the valid split")
    for words in (*titles, "median 0.", "median and middle half", "best: epoch"):
        assert words in found.text
    assert all(f"{name}: " in found.text for masks in made.masks.values() for name in masks)  # of a point


def test_the_headline_holds_all_tracks(tmp_path: Path) -> None:
    made = make_report(tmp_path)
    html = score_page.html(made.report, made.gold, made.masks)
    text = " ".join(check(html).text.split())
    scores = made.report.systems[0].tasks[0]
    for key in SEG:
        assert f"{scores.scores[key]:.4f}" in text
        assert f"≠ {scores.official[key]:.4f}" in text
        assert f"{scores.intervals[key].low:.3f} to {scores.intervals[key].high:.3f}" in text
        assert f"{scores.baselines['other'][key]:.4f}" in text
    for words in ("official counts 1 mask as empty", "Annotators themselves", "0.8500", "magic score 'a b'", "0" * 64):
        assert words in text
    assert "−0.1320 to −0.0710" in text  # of the difference to the annotators
    assert "“option 0” taken for “option 1” (3)" in text
    assert "“option 2” missed (1.5)" in text
    assert "“option 1” added (2)" in text
    assert "system1 against old" in text
    assert "0.010no clear difference" in text  # the interval holds 0
    assert "< 0.001lower" in text
    assert "Training" not in text


def test_several_systems_mark_the_best_of_each_score(tmp_path: Path) -> None:
    made = make_report(tmp_path, ("seg",), systems=3)
    first, *others = made.report.systems
    others = [replace(s, tasks=(replace(s.tasks[0], scores={**s.tasks[0].scores, "dice": 0.9}),)) for s in others]
    html = score_page.html(replace(made.report, systems=(first, *others)), made.gold, made.masks)
    assert html.count(" (best)</span>") == 5 + 2  # a tie marks both
    assert html.count(">★ </span>0.9000") == 2
    assert "Details below are those of <b>system1</b>" in html


def test_official_that_stops_and_official_nan(tmp_path: Path) -> None:
    made = make_report(tmp_path, ("seg",))

    def html(**fields: Any) -> str:
        [system] = made.report.systems
        changed = replace(system, tasks=(replace(system.tasks[0], differences=(), **fields),))
        return score_page.html(replace(made.report, systems=(changed,)), made.gold, made.masks)

    scores = made.report.systems[0].tasks[0].scores
    stopped = html(official=None, official_errors=("IMG_1: KeyError",))
    assert "The official scorer would stop" in stopped
    assert ">stops</td>" in stopped
    assert "≠ NaN" in html(official=dict.fromkeys(scores, math.nan))
    agreeing = html(official=scores)
    assert '<p class="quiet">Official and strict scores agree: every item was read' in agreeing
    assert "box good" not in agreeing


def test_many_rejected_items_are_cut_and_counted(tmp_path: Path) -> None:
    made = make_report(tmp_path, ("cvqa",), hostile=True)
    html = score_page.html(made.report, made.gold, {})
    assert "25 items counted as zero" in html
    assert "And 5 more" in html


def test_masks_that_cannot_be_read_cost_outlines_not_the_page(tmp_path: Path) -> None:
    made = make_report(tmp_path, ("seg",), images=6)

    def broken() -> None:
        raise DataError("broken")

    [masks] = made.masks.values()
    first, second, third, *_ = masks
    whole = check(score_page.html(made.report, made.gold, made.masks))
    masks[first] = broken  # type: ignore[assignment]
    del masks[second]
    (tmp_path / "2_0.tiff").unlink()
    html = score_page.html(made.report, made.gold, made.masks)
    found = check(html)
    assert (whole.shots, found.shots) == (6, 5)  # a photo without gold has none
    assert f"<b>{third}</b>" not in html
    assert len(whole.outlines) - len(found.outlines) == 2 + (1 + 3)
    nothing = replace(made.gold, masks=MaskGold("gold"))
    assert check(score_page.html(made.report, nothing, {})).shots == 0


@pytest.mark.parametrize(
    "history",
    [
        [],
        [{"nothing": 1}],
        [{"epoch": 1, "loss": 0.5}],
        [{"epoch": 1, "loss": None, "dice": None}, {"epoch": 2, HOSTILE: 0.25}],
        [{"epoch": 1, "loss": 0.5, "accuracy_all": 0.3, "f1_macro": 0.2}],
    ],
)
def test_any_history(tmp_path: Path, history: list[dict[str, object]]) -> None:
    made = make_report(tmp_path, ("cvqa",))
    check(score_page.html(made.report, made.gold, {}, history))


def test_the_page_is_the_same_each_time(tmp_path: Path) -> None:
    first, second = (make_report(tmp_path, images=4) for _ in range(2))
    assert score_page.html(first.report, first.gold, first.masks, HISTORY) == score_page.html(
        second.report, second.gold, second.masks, HISTORY
    )


def test_templates_speak_no_javascript() -> None:
    for path in page.TEMPLATES.iterdir():
        assert not re.search(r"<script|javascript:|\son\w+=|\|\s*safe\b|autoescape", path.read_text(), re.IGNORECASE), (
            path
        )


def test_what_a_plot_leaves_out_is_said() -> None:
    assert score_images._points(2_000) == "A point is an image; its lesion is the mean over annotators."
    assert score_images._points(24_740).endswith("2,000 of 24,740 images are drawn; the medians are those of all.")

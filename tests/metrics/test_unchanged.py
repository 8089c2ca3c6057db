"""metrics/unchanged.py: the share of equal answers by hand, of what both have predicted."""

import math

import pytest

from magic_cli.metrics.unchanged import unchanged
from magic_cli.records import TaskScores


def answered(rows: dict[tuple[str, str], str]) -> TaskScores:
    items = [{"encounter": e, "parent": p, "predicted": value} for (e, p), value in rows.items()]
    return TaskScores("cvqa", {}, per_item=tuple(items))


def test_by_hand() -> None:
    first = {(f"E{e}", q): "0" for e in range(10) for q in ("A", "B")}
    second = {**first, ("E0", "A"): "1", ("E1", "B"): "1 2", ("E2", "A"): "", ("E99", "A"): "0"}
    found = unchanged(answered(first), answered(second), 500)
    assert found is not None
    assert (found.answers, found.share) == (20, pytest.approx(17 / 20))
    assert found.interval.low < 17 / 20 < found.interval.high <= 1
    assert unchanged(answered(second), answered(first), 500) == found


def test_all_alike_has_no_interval_and_masks_have_no_answers() -> None:
    rows = {(f"E{e}", "A"): "0" for e in range(10)}
    same = unchanged(answered(rows), answered(rows), 100)
    assert same is not None
    assert same.share == 1
    assert math.isnan(same.interval.low)
    photos = TaskScores("seg", {}, per_item=({"image": "I1", "dice": 0.5, "predicted": 0.1},))
    assert unchanged(photos, photos) is None


def test_classes_of_photos() -> None:
    rows = [{"image": f"I{i}", "group": f"G{i // 2}", "class": "x", "predicted": str(i % 3)} for i in range(12)]
    ours = TaskScores("pretrain", {}, per_item=tuple(rows))
    theirs = TaskScores("pretrain", {}, per_item=tuple(row | {"predicted": "0"} for row in rows))
    found = unchanged(ours, theirs, 200)
    assert found is not None
    assert (found.answers, found.share) == (12, pytest.approx(4 / 12))

"""Confusions and wrong answers on report.html: questions and options in words, and the photos that they are about."""

from pathlib import Path
from typing import Any

import numpy as np
from challenge_folders import draw_photo, save_photo
from page_outline import check
from score_reports import HOSTILE, SIZE, make_report, with_photos

from magic_cli.data.gold import MaskGold
from magic_cli.report import score_page
from magic_cli.report.answers.confusions import confusions
from magic_cli.report.answers.wrong_answers import wrong_cases
from magic_cli.report.gallery.photos import PhotoStore

NO_PHOTOS = PhotoStore(MaskGold("gold"), None, are_shown=False)


def row(table: list[list[float]], **fields: Any) -> dict[str, Any]:
    head = {"parent": "CQID011", "question": "Where?", "accuracy": 0.5, "n": 4, "options": ["head", "neck", "back"]}
    return head | {"confusion": table} | fields


def item(encounter: str, gold: str, predicted: str, **fields: Any) -> dict[str, Any]:
    credit = 1.0 if gold == predicted else 0.0
    return {
        "encounter": encounter,
        "parent": "CQID011",
        "gold": gold,
        "predicted": predicted,
        "credit": credit,
    } | fields


def test_the_encounters_behind_a_cell() -> None:
    table = np.zeros((4, 4))
    table[0, 1], table[2, 3], table[3, 2], table[0, 0] = 1, 1, 1, 1
    items = [
        item("E1", "0", "1"),
        item("E2", "0 2", "0"),
        item("E3", "0", "0 2"),
        item("E4", "0", "0"),
        item("E5", "1", "?", credit=0.0),
        item("E6", "0", "1", parent="CQID012"),
    ]
    [found] = confusions([row(table.tolist())], items, NO_PHOTOS)
    cells = {cell.words: [encounter.name for encounter in cell.encounters] for cell in found.cells.values()}
    assert cells == {
        "“head” taken for “neck”": ["E1"],
        "“back” missed": ["E2"],
        "“back” added": ["E3"],
        "“neck” missed": ["E5"],
    }
    [first] = found.cells[0, 1].encounters
    assert (first.gold, first.answer, first.photos) == ("head", "neck", ())
    assert found.cells[1, 3].encounters[0].answer == "nothing"
    assert found.has_errors
    assert len({cell.key for cell in found.cells.values()}) == 4


def test_many_encounters_behind_a_cell_are_counted() -> None:
    items = [item(f"E{n}", "0", "1") for n in range(11)]
    [found] = confusions([row([[0, 11, 0, 0], [0] * 4, [0] * 4, [0] * 4])], items, NO_PHOTOS)
    cell = found.cells[0, 1]
    assert (len(cell.encounters), cell.more) == (8, 3)


def test_questions_without_errors_are_folded(tmp_path: Path) -> None:
    made = make_report(tmp_path, ("cvqa",))
    [system] = made.report.systems
    right = row([[4, 0, 0, 0], [0] * 4, [0] * 4, [0] * 4], parent="CQID099", question="All right?")
    rows = (*system.tasks[0].summary_rows, right)
    object.__setattr__(system.tasks[0], "summary_rows", rows)
    page = score_page.html(made.report, made.gold, {})
    before, _, folded = page.partition("<details><summary>1 question without errors</summary>")
    assert "All right?" in folded
    assert "Confusion of CQID099" not in before
    assert before.count('<div class="question">') == 3
    assert not confusions([right], (), NO_PHOTOS)[0].has_errors
    assert confusions([{"parent": "a class"}], (), NO_PHOTOS) == []


def test_columns_and_cells_are_in_words(tmp_path: Path) -> None:
    made = make_report(tmp_path, ("cvqa",))
    page = score_page.html(made.report, made.gold, {})
    assert '<th scope="col"><span>option 0</span></th>' in page
    assert "<h4>How many?</h4>" in page
    found = check(page)
    assert "answered “option 1”, gold “option 0”" in found.text
    assert "How many?CQID011" in " ".join(found.text.split()).replace("? CQID011", "?CQID011")


def test_wrong_answers_of_an_encounter_stand_together() -> None:
    errors = [
        {"encounter": encounter, "parent": parent, "option": 0, "answer": "a", "probability": p, "gold": "b"}
        for encounter, parent, p in (("E1", "Q1", 0.9), ("E2", "Q1", 0.8), ("E1", "Q2", 0.7))
    ]
    found = wrong_cases(errors, {"Q1": "Where?"}, NO_PHOTOS)
    assert [(case.encounter, [answer.row["parent"] for answer in case.answers]) for case in found] == [
        ("E1", ["Q1", "Q2"]),
        ("E2", ["Q1"]),
    ]
    assert [answer.question for answer in found[0].answers] == ["Where?", ""]


def test_photos_of_the_gallery_are_those_beside_answers(tmp_path: Path) -> None:
    made = make_report(tmp_path, images=6)
    save_photo(tmp_path / "photo.jpg", draw_photo(SIZE, 1))
    gold = with_photos(made.gold, tmp_path / "photo.jpg")
    page = score_page.html(made.report, gold, made.masks)
    wrongs = page.partition('<ol class="wrongs">')[2].partition("</ol>")[0]
    assert wrongs.count('class="thumb" popovertarget="z') == 4  # two photos each of two encounters
    assert page.count("data:image/jpeg") == 6  # each once, though some are shown twice
    alone = score_page.html(make_report(tmp_path, ("cvqa",)).report, gold, {})
    assert alone.count("data:image/jpeg") == 4
    assert 'popovertarget="z' not in alone  # there is nothing larger to open
    hostile = make_report(tmp_path, ("cvqa",), hostile=True)
    assert HOSTILE not in score_page.html(hostile.report, gold, {})

"""tasks/cvqa/data_checks.py: what training says of data that does not line up, once, with ids."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from challenge_folders import make_challenge
from tiny_dataset import make_prepared

from magic_cli.commands.prepare import PrepareOptions, prepare
from magic_cli.data.prepared import Prepared, open_prepared
from magic_cli.data.questions import parse_questions
from magic_cli.tasks import get
from magic_cli.tasks.cvqa.config import CvqaConfig

cvqa = get("cvqa")

TEXT = CvqaConfig(modality="text")
BOTH = CvqaConfig()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return open_prepared(make_prepared(tmp_path_factory.mktemp("checks")))


def said(prepared: Prepared, config: CvqaConfig = BOTH) -> list[str]:
    return list(cvqa.data_warnings(prepared, cvqa.training_samples(prepared, "train", config), config))


def altered(prepared: Prepared, encounter: str, **change: Any) -> Prepared:
    one = dataclasses.replace(prepared.cases[encounter], **change)
    return dataclasses.replace(prepared, cases={**prepared.cases, encounter: one})


def test_nothing_is_said_where_all_lines_up(small: Prepared) -> None:
    assert said(small) == said(small, TEXT) == []


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["dermavqa-text", "pad-magic"])
def test_real_data_lines_up(name: str, tmp_path: Path) -> None:
    data = Path(__file__).resolve().parents[4] / "shared" / "data" / name
    if not data.is_dir():
        pytest.skip(f"{data} is not there")
    prepare(data, tmp_path / "prepared", PrepareOptions(responses=False))
    assert said(open_prepared(tmp_path / "prepared"), TEXT) == []


def test_encounters_without_photos_are_named_where_photos_are_read(tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path, photos=False))
    assert said(prepared) == ["2 of 2 encounters with answers have no photo (ENC00001, ENC00002)"]
    assert said(prepared, TEXT) == []


def test_photos_that_are_listed_and_lacking(small: Prepared) -> None:
    some = {key: image for key, image in small.images.items() if key != "IMG_ENC00002_00001"}
    lines = said(dataclasses.replace(small, images=some))
    assert lines == ["1 of 2 encounters with answers lack some of their photos (ENC00002)"]


def test_encounters_without_text(small: Prepared) -> None:
    bare = altered(small, "ENC00001", question=" ", answer="")
    line = "1 of 2 encounters with answers have no text (ENC00001)"
    assert said(bare) == said(bare, TEXT) == [line]
    assert said(bare, CvqaConfig(modality="image")) == []
    assert said(bare, CvqaConfig(head="options", encounter_text=False)) == []


def test_a_value_after_padding_means_other_options(small: Prepared) -> None:
    row = dict(small.cases["ENC00002"].answers or {}) | {"CQID011-001": 7, "CQID011-002": 3}
    [line] = said(altered(small, "ENC00002", answers=row))
    assert line.startswith(
        "CQID011: 1 of 2 answers have a value after 7, Not mentioned (ENC00002); do they index options"
    )


def test_languages_in_another_order(small: Prepared) -> None:
    rows = small.questions.as_json()
    for row in rows:
        if row["qid"].startswith("CQID020"):
            row["options_zh"] = ["无法得知", *(f"选项{n}" for n in range(9))]
    turned = dataclasses.replace(small, questions=parse_questions(rows, "x"))
    [line] = said(turned)
    assert line == "CQID020: Not mentioned is option 9 in en, 0 in zh; the languages of the definitions differ in order"


def test_what_prepare_left_out_of_the_answers_is_repeated_and_nothing_else(tmp_path: Path) -> None:
    root = make_challenge(tmp_path / "raw", splits={"train": 319, "valid": 1, "test": 1}, definitions=False)
    file = next(root.rglob("train_cvqa.json"))
    rows = json.loads(file.read_text())
    for row in rows[:314]:
        row["CQID010-001"] = "single spot"
    rows.append(rows[314] | {"encounter_id": "ENC09999"})
    file.write_text(json.dumps(rows))
    next(root.rglob("IMG_ENC00321*.jpg")).unlink()  # a test photo is none of training's business
    prepare(root, tmp_path / "prepared")
    prepared = open_prepared(tmp_path / "prepared")
    assert len(prepared.manifest.problems) > 315
    lines = said(prepared)
    assert lines[0].startswith("no closedquestions_definitions*.json found: the 27 questions of the 2025 challenge")
    assert lines[1].startswith("314 items: train_cvqa.json:ENC00001:CQID010-001, ")
    assert "got text of 11 characters, expected an integer in 0..3" in lines[1]
    assert len(lines) == 3


def test_rules_of_a_language_that_no_text_is_in(small: Prepared) -> None:
    (line,) = said(small, dataclasses.replace(TEXT, lang="zh"))
    assert line.startswith("2 of 2 encounters with answers have no text in lang=zh (ENC00001, ENC00002); their rules")
    for reads_it in ({"lang": "zh,en"}, {"lang": "zh", "rules": False}, {"lang": "zh", "modality": "image"}):
        assert said(small, dataclasses.replace(BOTH, **reads_it)) == []


def test_leaving_out_the_text_is_of_the_other_head(small: Prepared) -> None:
    (line,) = said(small, dataclasses.replace(BOTH, encounter_text=False))
    assert line.startswith("encounter_text=false applies to head=options only; this model reads")
    assert said(small, dataclasses.replace(BOTH, encounter_text=False, head="options")) == []

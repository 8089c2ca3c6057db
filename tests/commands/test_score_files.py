"""commands/score_files.py and the score command: the files of --out, and what the command says."""

import csv
import json
from pathlib import Path

import pytest
from tiny_dataset import files_of, make_prepared, write_folder, write_zip

from magic_cli.cli.app import main
from magic_cli.commands import score_files
from magic_cli.errors import DataError
from magic_cli.io import schema
from magic_cli.io.files import sha256
from magic_cli.records import TaskScores
from magic_cli.report.score_report import SystemScores
from magic_cli.submission.reader import open_predictions


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_prepared(tmp_path / "prepared")
    write_zip(tmp_path / "s.zip", files_of("valid"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["magic", "score", *words])
    with pytest.raises(SystemExit) as leaving:
        main()
    out, err = capsys.readouterr()
    return int(leaving.value.code or 0), out, err


def test_the_four_files(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(monkeypatch, capsys, "s.zip", "prepared", "--out", "report")
    assert code == 0, err
    assert out.splitlines()[-1].startswith("report/report.html: written")
    scores = json.loads((here / "report" / "scores.json").read_text())
    assert schema.problems("scores", scores, "scores") == []
    assert scores["dice_meanofmax"] == scores["accuracy_all"] == 1.0
    report = json.loads((here / "report" / "report.json").read_text())
    assert schema.problems("report", report, "report") == []
    assert report["provenance"]["sha256"]["s.zip"] == sha256(here / "s.zip")
    assert report["provenance"]["sha256"]["prepared"] == sha256(here / "prepared" / "prepare.json")
    with (here / "report" / "per_item.csv").open() as file:
        rows = list(csv.DictReader(file))
    images = [row for row in rows if row["task"] == "seg"]
    parents = [row for row in rows if row["task"] == "cvqa"]
    assert len(images) == 3
    assert all(float(row[f"dice_ann{k}"]) >= 0 for row in images for k in range(3))
    assert len(parents) == 2 * 9
    assert {row["credit"] for row in parents} == {"1.0"}
    assert all(row["gold"] == row["predicted"] for row in parents)
    page = (here / "report" / "report.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert "IMG_ENC00011_00001" in page


def test_nothing_is_overwritten(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(here / "report", {"thesis.tex": b"x"})
    code, _, err = run(monkeypatch, capsys, "s.zip", "prepared", "--out", "report")
    assert code == 3
    assert "--overwrite" in err
    assert [p.name for p in (here / "report").iterdir()] == ["thesis.tex"]
    code, _, err = run(monkeypatch, capsys, "s.zip", "prepared", "--out", "report", "--overwrite")
    assert code == 0, err
    assert (here / "report" / "thesis.tex").read_bytes() == b"x"


def test_several_systems(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_zip(here / "t.zip", files_of("valid"))
    code, out, err = run(monkeypatch, capsys, "s.zip", "t.zip", "prepared", "--out", "report")
    assert code == 0, err
    assert "* is best" in out
    assert (here / "report" / "scores.json").read_text() == (here / "report" / "scores_2_t.zip.json").read_text()


def test_a_run_folder_must_be_one(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(monkeypatch, capsys, "s.zip", "prepared", "--out", "report", "--run", "prepared")
    assert code == 3
    assert "metrics.jsonl" in err
    assert not (here / "report").exists()


def test_exit_codes_and_json(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(monkeypatch, capsys, "s.zip", "prepared", "--json", "--strict")
    assert code == 0
    report = json.loads(out)
    assert schema.problems("report", report, "report") == []
    assert report["settings"]["track"] == "strict"
    (here / "partial.json").write_text(json.dumps([json.loads(files_of("valid")["data_cvqa_sys.json"])[0]]))
    for track in ("--strict", "--official"):
        code, out, _ = run(monkeypatch, capsys, "partial.json", "prepared", track)
        assert code == 4
        assert "ENC00012" in out
    assert run(monkeypatch, capsys, "partial.json", "prepared")[0] == 0
    for words in (("s.zip",), ("s.zip", "prepared", "--strict", "--official")):
        code, _, _ = run(monkeypatch, capsys, *words)
        assert code == 2


def test_cells_that_a_spreadsheet_would_run() -> None:
    item = {"image": "=HYPERLINK(1)", "dice": -0.5}
    lines = score_files.items_csv([SystemScores("s", (), (TaskScores("seg", {}, per_item=(item,)),))])
    assert "".join(lines) == "system,task,image,dice\ns,seg,'=HYPERLINK(1),-0.5\n"


def test_masks_are_read_when_asked_for(here: Path) -> None:
    from magic_cli.data.gold import open_gold

    gold = open_gold(here / "prepared", "valid")
    files = files_of("valid") | {"masks_preds/IMG_ENC00011_00002_mask_sys.tiff": b"torn"}
    with open_predictions(write_zip(here / "torn.zip", files)) as submission:
        readers = score_files.masks_of(submission, gold)
        assert list(readers) == list(gold.masks.images)
        mask = readers["IMG_ENC00011_00001"]()
        with pytest.raises(DataError, match="IMG_ENC00011_00002: is no mask"):
            readers["IMG_ENC00011_00002"]()
    assert mask.shape == (24, 32)
    assert set(mask.ravel().tolist()) == {0, 1}


def test_rows_of_items(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = {"image": 'a,"b"', "annotators": 3, "fault": "", "lesion": 1e-5, "dice_max": None, "dice_ann0": 0.1 + 0.2}
    other = {"image": "c", "annotators": 2, "fault": "two\nlines", "lesion": 0.5, "dice_max": 1.0, "dice_ann1": 1 / 3}
    answer = {"encounter": "E", "parent": "CQID010", "gold": "0 1", "predicted": "", "credit": 0.5, "fault": ""}
    tasks = (TaskScores("seg", {}, per_item=(photo, other)), TaskScores("cvqa", {}, per_item=(answer,)))
    expected = (
        "system,task,image,annotators,fault,lesion,dice_max,dice_ann0,dice_ann1,encounter,parent,gold,predicted,credit\n"
        's,seg,"a,""b""",3,,1e-05,,0.30000000000000004,,,,,,\n'
        "s,seg,c,2,two\\x0alines,0.5,1.0,,0.3333333333333333,,,,,\n"
        "s,cvqa,,,,,,,,E,CQID010,0 1,,0.5\n"
    )
    for at_a_time in (1, 2, 3, 4096):
        monkeypatch.setattr(score_files, "_ROWS_AT_A_TIME", at_a_time)
        assert "".join(score_files.items_csv([SystemScores("s", (), tasks)])) == expected
    assert "".join(score_files.items_csv([SystemScores("s", (), ())])) == "\n"

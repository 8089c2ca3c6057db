"""commands/package.py: checked, written atomically, read back, the same bytes each time; or nothing."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tiny_dataset import ANSWERS, MASKS, blob, files_of, make_prepared, tiff, write_folder, write_zip

from magic_cli.cli.app import main
from magic_cli.commands import package as module
from magic_cli.commands.package import check_submission, package, summary
from magic_cli.errors import DataError, SubmissionError, UsageError

NAMES = sorted(files_of("test"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_prepared(tmp_path / "prepared")
    files = files_of("test")
    write_folder(tmp_path / "cvqa", {ANSWERS: files.pop(ANSWERS)})
    write_folder(tmp_path / "seg", files)
    return tmp_path


def build(root: Path, seg: str | None = "seg", cvqa: str | None = "cvqa", **options: bool) -> dict[str, object]:
    paths = [root / name if name else None for name in (seg, cvqa)]
    return package(paths[0], paths[1], root / "prepared", "test", root / "out.zip", **options)


def test_the_zip_has_the_official_layout_and_is_reproducible(root: Path) -> None:
    found = build(root)
    first = (root / "out.zip").read_bytes()
    with zipfile.ZipFile(root / "out.zip") as archive:
        assert archive.namelist() == NAMES
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert [r["encounter_id"] for r in json.loads(archive.read(ANSWERS))] == ["ENC00021", "ENC00022", "ENC00023"]
    assert (found["masks"], found["encounters"], found["notes"], found["bytes"]) == (4, 3, [], len(first))
    for path in (root / "seg" / MASKS).iterdir():
        path.touch()
    build(root, overwrite=True)
    assert (root / "out.zip").read_bytes() == first
    assert check_submission(root / "out.zip", root / "prepared", "test")["masks"] == 4
    assert sorted(p.name for p in root.iterdir()) == ["cvqa", "out.zip", "prepared", "seg"]


@pytest.mark.parametrize(("seg", "cvqa"), [(f"seg/{MASKS}", f"cvqa/{ANSWERS}"), ("all", "all"), ("all.zip", "all.zip")])
def test_predictions_from_other_places_give_the_same_zip(root: Path, seg: str, cvqa: str) -> None:
    build(root)
    first = (root / "out.zip").read_bytes()
    write_folder(root / "all", files_of("test"))
    write_zip(root / "all.zip", files_of("test"))
    build(root, seg, cvqa, overwrite=True)
    assert (root / "out.zip").read_bytes() == first


def test_rows_in_another_order_give_the_same_zip(root: Path) -> None:
    build(root)
    first = (root / "out.zip").read_bytes()
    path = root / "cvqa" / ANSWERS
    path.write_text(json.dumps(json.loads(path.read_bytes())[::-1]))
    build(root, overwrite=True)
    assert (root / "out.zip").read_bytes() == first


def test_answers_alone(root: Path) -> None:
    found = build(root, seg=None)
    with zipfile.ZipFile(root / "out.zip") as archive:
        assert archive.namelist() == [ANSWERS, f"{MASKS}/"]
    assert "Segmentation is left out" in str(found["notes"])
    assert check_submission(root / "out.zip", root / "prepared", "test")["masks"] == 0


def test_masks_alone(root: Path) -> None:
    found = build(root, cvqa=None)
    with zipfile.ZipFile(root / "out.zip") as archive:
        assert json.loads(archive.read(ANSWERS)) == []
        assert archive.namelist() == NAMES
    assert "closed questions are left out" in str(found["notes"])


def test_all_problems_of_both_tasks_and_nothing_written(root: Path) -> None:
    names = sorted((root / "seg" / MASKS).iterdir())
    names[0].write_bytes(tiff(blob((24, 32)) * 255))
    names[1].unlink()
    path = root / "cvqa" / ANSWERS
    path.write_text(json.dumps(json.loads(path.read_bytes())[1:]))
    with pytest.raises(SubmissionError) as error:
        build(root)
    assert error.value.exit_code == 4
    assert len(error.value.problems) == 3
    for name in (names[0].name, names[1].name, "ENC00021"):
        assert any(name in line for line in error.value.problems)
    assert sorted(p.name for p in root.iterdir()) == ["cvqa", "prepared", "seg"]


def test_an_old_zip_survives_a_refusal(root: Path) -> None:
    (root / "out.zip").write_bytes(b"old")
    next((root / "seg" / MASKS).iterdir()).unlink()
    with pytest.raises(SubmissionError):
        build(root, overwrite=True)
    assert (root / "out.zip").read_bytes() == b"old"


def test_a_zip_that_does_not_read_back_is_not_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = iter([[], [], ["out.zip: damaged"]])
    monkeypatch.setattr(module, "lint", lambda *_: next(checks))
    with pytest.raises(SubmissionError, match="damaged"):
        build(root)
    assert sorted(p.name for p in root.iterdir()) == ["cvqa", "prepared", "seg"]


def test_dry_run_checks_and_writes_nothing(root: Path) -> None:
    found = build(root, dry_run=True)
    assert (found["written"], found["bytes"], found["masks"]) == (False, None, 4)
    assert not (root / "out.zip").exists()
    next((root / "seg" / MASKS).iterdir()).unlink()
    with pytest.raises(SubmissionError):
        build(root, dry_run=True)


def test_nothing_is_overwritten_unasked(root: Path) -> None:
    (root / "out.zip").write_bytes(b"old")
    with pytest.raises(DataError, match="--overwrite"):
        build(root)


def test_usage(root: Path) -> None:
    with pytest.raises(UsageError, match="--seg DIR or --cvqa"):
        build(root, None, None)
    with pytest.raises(SubmissionError, match=r"no masks.*magic predict"):
        build(root, "cvqa", None)
    with pytest.raises(SubmissionError, match=r"no answers.*magic predict"):
        build(root, None, "seg")
    with pytest.raises(DataError, match="no such file"):
        build(root, "nowhere", None)
    shutil.rmtree(root / "seg" / MASKS)
    (root / "seg" / MASKS).mkdir()
    with pytest.raises(SubmissionError):
        build(root)


def test_check_without_prepared_says_what_it_could_not_check(root: Path) -> None:
    build(root)
    for data in (None, root / "elsewhere"):
        found = check_submission(root / "out.zip", data, "test")
        assert "were not checked" in found["notes"][-1]


def test_check_refuses_another_split(root: Path) -> None:
    build(root)
    with pytest.raises(SubmissionError, match="is --split right"):
        check_submission(root / "out.zip", root / "prepared", "valid")


def command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run the real command line in this process; return its exit code."""
    monkeypatch.setattr("sys.argv", ["magic", *map(str, words)])
    with pytest.raises(SystemExit) as leaving:
        main()
    return int(leaving.value.code or 0)


def test_the_command(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(root)
    assert command(monkeypatch, "package", "--seg", "seg", "--cvqa", "cvqa") == 0
    assert capsys.readouterr().out.endswith("next: upload submission.zip to the challenge platform\n")
    assert command(monkeypatch, "package", "--check-only", "submission.zip", "--json") == 0
    assert json.loads(capsys.readouterr().out)["encounters"] == 3
    next((root / "seg" / MASKS).iterdir()).unlink()
    assert command(monkeypatch, "package", "--seg", "seg", "--cvqa", "cvqa", "--out", "new.zip") == 4
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith("error: seg/masks_preds/")
    assert "Traceback" not in streams.err
    assert not (root / "new.zip").exists()


def test_summaries(root: Path) -> None:
    assert summary(build(root, dry_run=True))[-1].endswith("nothing written (--dry-run)")
    assert "4 masks, answers for 3 encounters" in summary(build(root))[-2]
    assert summary(build(root, overwrite=True))[-1].startswith("next: ")
    assert "no problem found" in summary(check_submission(root / "out.zip", root / "prepared", "test"))[-1]


def test_big_masks_stay_small_and_readable(root: Path) -> None:
    """Uncompressed masks are compressed in the zip."""
    name = sorted((root / "seg" / MASKS).iterdir())[0]
    name.write_bytes(tiff(np.ones((24, 32), np.uint8)) + b"\0" * 100_000)
    assert int(str(build(root)["bytes"])) < 20_000

"""commands/package.py: checked, written atomically, read back, the same bytes each time; or nothing."""

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_dataset import ANSWERS, MASKS, blob, files_of, make_prepared, tiff, write_folder, write_zip

from magic_cli.cli.app import main
from magic_cli.commands import package as module
from magic_cli.commands.package import CheckResult, PackageOptions, PackageResult, check_submission, package
from magic_cli.errors import DataError, SubmissionError, UsageError
from magic_cli.io import schema

NAMES = sorted(files_of("test"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_prepared(tmp_path / "prepared")
    files = files_of("test")
    write_folder(tmp_path / "cvqa", {ANSWERS: files.pop(ANSWERS)})
    write_folder(tmp_path / "seg", files)
    return tmp_path


def build(
    root: Path, seg: str | None = "seg", cvqa: str | None = "cvqa", overwrite: bool = False, dry_run: bool = False
) -> PackageResult:
    paths = [root / name if name else None for name in (seg, cvqa)]
    options = PackageOptions(overwrite, dry_run)
    return package(paths[0], paths[1], root / "prepared", "test", root / "out.zip", options)


def check(root: Path) -> CheckResult:
    return check_submission(root / "out.zip", root / "prepared", "test")


def test_the_zip_has_the_official_layout_and_is_reproducible(root: Path) -> None:
    result = build(root)
    first = (root / "out.zip").read_bytes()
    with zipfile.ZipFile(root / "out.zip") as archive:
        assert archive.namelist() == NAMES
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert [r["encounter_id"] for r in json.loads(archive.read(ANSWERS))] == ["ENC00021", "ENC00022", "ENC00023"]
    assert (result.n_masks, result.n_encounters, result.notes, result.size) == (4, 3, [], len(first))
    assert (result.predictions, result.data) == ((root / "seg", root / "cvqa"), root / "prepared")
    for path in (root / "seg" / MASKS).iterdir():
        path.touch()
    build(root, overwrite=True)
    assert (root / "out.zip").read_bytes() == first
    assert check(root).n_masks == 4
    assert sorted(p.name for p in root.iterdir()) == ["cvqa", "out.zip", "out.zip.run.json", "prepared", "seg"]


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
    result = build(root, seg=None)
    with zipfile.ZipFile(root / "out.zip") as archive:
        assert archive.namelist() == [ANSWERS, f"{MASKS}/"]
    assert "Segmentation is left out" in str(result.notes)
    assert check(root).n_masks == 0


def test_masks_alone(root: Path) -> None:
    result = build(root, cvqa=None)
    with zipfile.ZipFile(root / "out.zip") as archive:
        assert json.loads(archive.read(ANSWERS)) == []
        assert archive.namelist() == NAMES
    assert "closed questions are left out" in str(result.notes)


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
    build(root)
    before = (root / "out.zip").read_bytes()
    next((root / "seg" / MASKS).iterdir()).unlink()
    with pytest.raises(SubmissionError):
        build(root, overwrite=True)
    assert (root / "out.zip").read_bytes() == before


@pytest.mark.parametrize("what", ["zip", "link", "dangling link", "mask", "answers", "table", "record"])
def test_a_file_of_somebody_is_not_replaced(root: Path, what: str) -> None:
    """Also one that the command itself reads."""
    mask = next((root / "seg" / MASKS).iterdir())
    inputs = {"mask": mask, "answers": root / "cvqa" / ANSWERS, "table": root / "prepared" / "images.jsonl"}
    out = inputs.get(what, root / "thesis.zip")
    if "link" in what:
        out.symlink_to(mask if what == "link" else root / "nothing")
    elif what == "record":
        out.with_name("thesis.zip.run.json").write_text("mine")
    elif what == "zip":
        out.write_text("mine")
    before = {path: path.lstat().st_ino if path.is_symlink() else path.read_bytes() for path in files_in(root)}
    for overwrite in (True, False):
        with pytest.raises(DataError) as error:
            package(root / "seg", root / "cvqa", root / "prepared", "test", out, PackageOptions(overwrite=overwrite))
        assert len(error.value.problems) == 1
        assert str(out) in error.value.problems[0]
        assert "--overwrite" not in error.value.problems[0]
    assert {path: path.lstat().st_ino if path.is_symlink() else path.read_bytes() for path in files_in(root)} == before


def test_a_zip_that_is_a_link_to_another_disk_stays_one(root: Path) -> None:
    build(root)
    (root / "disk").mkdir()
    (root / "out.zip").rename(root / "disk" / "submission.zip")
    (root / "out.zip").symlink_to(root / "disk" / "submission.zip")
    build(root, seg=None, overwrite=True)
    assert (root / "out.zip").is_symlink()
    assert check(root).n_masks == 0


def files_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file()]


def test_modes_of_a_zip_and_its_record_stay(root: Path) -> None:
    build(root)
    files = (root / "out.zip", root / "out.zip.run.json")
    for file in files:
        file.chmod(0o600)
    build(root, overwrite=True)
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600, 0o600]


@pytest.mark.parametrize("again", [True, False])
def test_an_interruption_right_after_the_zip_took_its_place_leaves_its_record(
    root: Path, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if again:
        build(root, seg=None)
    replace = Path.replace

    def interrupted(path: Path, target: Path) -> None:
        replace(path, target)
        if target.name == "out.zip":
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(root, overwrite=True)
    monkeypatch.undo()
    assert check(root).n_masks == 4
    build(root, overwrite=True)


def test_a_zip_that_does_not_read_back_is_not_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = iter([[], [], ["out.zip: damaged"]])
    monkeypatch.setattr(module, "lint", lambda *_: next(checks))
    with pytest.raises(SubmissionError, match="damaged"):
        build(root)
    assert sorted(p.name for p in root.iterdir()) == ["cvqa", "prepared", "seg"]


def test_dry_run_checks_and_writes_nothing(root: Path) -> None:
    result = build(root, dry_run=True)
    assert (result.is_written, result.size, result.n_masks) == (False, None, 4)
    assert not (root / "out.zip").exists()
    next((root / "seg" / MASKS).iterdir()).unlink()
    with pytest.raises(SubmissionError):
        build(root, dry_run=True)


def test_nothing_is_overwritten_unasked(root: Path) -> None:
    build(root)
    with pytest.raises(DataError, match=r"out\.zip: already there; use --overwrite, or another --out"):
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
        assert "were not checked" in check_submission(root / "out.zip", data, "test").notes[-1]


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


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--seg", "seg"), "--seg"),
        (("--out", "submission.zip"), "--out"),  # also as it is by default
        (("--overwrite", "--cvqa", "cvqa", "--seg", "seg"), "--seg, --cvqa, --overwrite"),
    ],
)
def test_a_check_refuses_what_it_would_ignore(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    named: str,
) -> None:
    monkeypatch.chdir(root)
    assert command(monkeypatch, "package", "--check-only", "submission.zip", *words) == 2
    assert capsys.readouterr().err == f"error: --check-only writes nothing; leave out {named}\n"


def test_a_split_that_the_platform_does_not_take_is_scored(root: Path) -> None:
    build(root)
    packed = replace(package(cvqa=root / "cvqa", data=root / "prepared", out=root / "v.zip"), split="valid")
    assert "upload" not in "".join(packed.lines())
    assert packed.lines()[-1].startswith(f"next: magic score {root / 'v.zip'} {root / 'prepared'} --split valid")


def test_314_equal_problems_are_a_line(root: Path, tmp_path: Path) -> None:
    masks = {f"{MASKS}/IMG_E{n}_1_mask_sys.tiff": tiff(blob((24, 32))) for n in range(314)}
    folder = write_folder(tmp_path / "many", files_of("test") | masks)
    for call in (
        lambda: package(seg=folder, data=root / "prepared", out=tmp_path / "s.zip"),
        lambda: check_submission(folder, root / "prepared"),
    ):
        with pytest.raises(SubmissionError, match=r": 314 items: .*, \.\.\.: got no photo of split 'test'") as error:
            call()
        assert len(error.value.problems) == 1


def test_lines_for_the_terminal(root: Path) -> None:
    assert build(root, dry_run=True).lines()[-1].endswith("nothing written (--dry-run)")
    assert "4 masks, answers for 3 encounters" in build(root).lines()[-2]
    assert build(root, overwrite=True).lines()[-1].startswith("next: ")
    assert "no problem found" in check(root).lines()[-1]


def test_text_paths_and_defaults(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From Python as from the command line: `package(seg, cvqa)` uses prepared/ and writes submission.zip."""
    monkeypatch.chdir(root)
    result = package("seg", "cvqa")
    assert (result.out, result.split, result.data) == (Path("submission.zip"), "test", Path("prepared"))
    assert (root / "submission.zip").is_file()
    assert check_submission("submission.zip", "prepared").n_encounters == 3


def test_json_fits_its_schema(root: Path) -> None:
    for result in (build(root, dry_run=True), build(root), check(root)):
        printed = {"schema": 1, "command": "package"} | result.to_json()
        assert schema.problems("packaged", printed, "package") == []


def test_big_masks_stay_small_and_readable(root: Path) -> None:
    """Uncompressed masks are compressed in the zip."""
    name = sorted((root / "seg" / MASKS).iterdir())[0]
    name.write_bytes(tiff(np.ones((24, 32), np.uint8)) + b"\0" * 100_000)
    assert (build(root).size or 0) in range(1, 20_000)

"""training/run_folder.py: an older run stays until the new one is whole; one process per folder."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from launchers import launch

from magic_cli.errors import DataError, Interrupted
from magic_cli.io.locks import folder_lock
from magic_cli.training.run_folder import Draft, complete_folder

NAMES = ("best.pt", "folds.json", "fold-1/best.pt", "fold-2/best.pt")


def ours(folder: Path) -> Iterator[Path]:
    return (folder / name for name in NAMES if (folder / name).is_file())


def write(folder: Path, text: str, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def record(folder: Path, *names: str, verb: str = "train", task: str = "seg") -> None:
    """Write the record of a run that has not ended, or that has these results."""
    row = {"format": "magic-run", "verb": verb, "arguments": {"task": task}, "exit": 0 if names else None}
    write(folder, json.dumps(row | {"outputs": dict.fromkeys(names, "0" * 64)}), "run.json")


def found(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    return Draft(tmp_path / "out", "folds", "folds.json", "run.json", ours, "train seg")


def test_without_an_older_run_there_is_no_draft(draft: Draft) -> None:
    assert draft.folder(resume=False, overwrite=False) == draft.out
    assert draft.folder(resume=False, overwrite=True) == draft.out
    assert draft.folder(resume=True, overwrite=False) == draft.out
    draft.settle()
    draft.publish(draft.out)
    assert not draft.out.exists()


def test_an_older_run_is_refused_or_kept(draft: Draft) -> None:
    write(draft.out, "old", "best.pt", "notes.txt")
    for overwrite in (False, True):
        with pytest.raises(DataError, match=r"got 1 file of such a result \(best\.pt\), and no run\.json that lists"):
            draft.folder(False, overwrite)
    record(draft.out, "folds.json")  # of another result
    with pytest.raises(DataError, match=r"best\.pt: in the way"):
        draft.folder(resume=False, overwrite=True)
    record(draft.out)  # of a run that was broken off
    assert draft.folder(resume=False, overwrite=True) == draft.out / "draft" / "folds"
    record(draft.out, "best.pt")
    work = draft.folder(resume=False, overwrite=True)
    assert work == draft.out / "draft" / "folds"
    assert complete_folder(work) == complete_folder(draft.out) == draft.out
    assert draft.folder(resume=True, overwrite=False) == draft.out  # nothing was begun: the older run goes on
    with draft.alone(work, resume=False):
        pass
    assert draft.folder(resume=True, overwrite=False) == work


def test_a_folder_of_that_name_which_no_training_made_stays(draft: Draft) -> None:
    work = write(draft.out / "draft" / "folds", "mine", "best.pt")
    for resume in (True, False):
        with pytest.raises(DataError, match=r"draft/folds/best\.pt: in the way"):
            draft.folder(resume, overwrite=True)
    record(work, verb="score", task="")
    with pytest.raises(DataError, match="a result of `magic score"):
        draft.folder(resume=False, overwrite=True)
    assert (work / "best.pt").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize(("verb", "task", "kind"), [("prepare", "seg", "prepare"), ("train", "cvqa", "train cvqa")])
def test_results_of_another_kind_are_never_replaced(
    draft: Draft, verb: str, task: str, kind: str, overwrite: bool
) -> None:
    record(draft.out, "best.pt", verb=verb, task=task if verb == "train" else "")
    for resume in (True, False):
        with pytest.raises(DataError, match=f"got a result of `magic {kind}"):
            draft.folder(resume=resume, overwrite=overwrite)
    write(draft.out, "{}", "run.json")
    with pytest.raises(DataError, match=r"run\.json: got no record of this program"):
        draft.folder(resume=False, overwrite=overwrite)


def test_a_draft_alone_is_not_overwritten_either(draft: Draft) -> None:
    """Where somebody removed the older run by hand."""
    record(write(draft.out / "draft" / "folds", "new", "best.pt"))
    with pytest.raises(
        DataError,
        match="draft/folds: already there; use --overwrite, --resume to go on with",
    ):
        draft.folder(resume=False, overwrite=False)


def prepared(draft: Draft) -> None:
    write(draft.out, "old", "folds.json", "best.pt", "fold-1/best.pt", "fold-2/best.pt", "fold-2/mine.txt", "mine.txt")
    write(draft.out / "draft" / "folds", "new", "folds.json", "fold-1/best.pt", "run.json")


AFTER = {"folds.json": "new", "fold-1/best.pt": "new", "run.json": "new", "fold-2/mine.txt": "old", "mine.txt": "old"}


def test_a_whole_run_takes_the_place_of_the_older_one(draft: Draft) -> None:
    prepared(draft)
    draft.publish(draft.out / "draft" / "folds")
    assert found(draft.out) == AFTER
    assert not (draft.out / "draft").exists()


def test_a_file_of_somebody_in_the_place_of_a_new_one_leaves_both(draft: Draft) -> None:
    prepared(draft)
    write(draft.out / "draft" / "folds", "new", "fold-3/best.pt")
    write(draft.out, "mine", "fold-3/best.pt")
    with pytest.raises(DataError, match=r"fold-3/best\.pt: in the way"):
        draft.publish(draft.out / "draft" / "folds")
    assert (draft.out / "fold-3" / "best.pt").read_text() == "mine"
    (draft.out / "fold-3" / "best.pt").unlink()
    draft.publish(draft.out / "draft" / "folds")
    assert found(draft.out) == AFTER | {"fold-3/best.pt": "new"}


def test_a_link_in_the_place_of_the_folder_is_not_followed(draft: Draft, tmp_path: Path) -> None:
    prepared(draft)
    (tmp_path / "other").mkdir()
    work = draft.out / "draft" / "folds"

    def swapped() -> None:
        with draft.alone(work, resume=False):
            draft.out.rename(tmp_path / "moved")
            draft.out.symlink_to(tmp_path / "other")
            draft.publish(work)

    with pytest.raises(DataError, match="is no longer the folder that this command began in"):
        swapped()
    assert list((tmp_path / "other").iterdir()) == []


@pytest.mark.parametrize("call", ["unlink", "replace", "rmdir"])
@pytest.mark.parametrize("number", range(4))
def test_broken_off_anywhere_it_is_ended_by_the_next(
    draft: Draft, call: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file is there all the while, old or new, until nothing of the new run needs the old one's place."""
    prepared(draft)
    original, calls = getattr(os, call), []

    def broken(*words: object, **options: object) -> object:
        if str(words[0]).startswith("/") and str(draft.out) not in str(words[0]):
            return original(*words, **options)  # somebody else's: a mark that the garbage collector removes
        calls.append(words)
        if len(calls) > number:
            raise KeyboardInterrupt
        return original(*words, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, broken)
        try:
            draft.publish(draft.out / "draft" / "folds")
        except KeyboardInterrupt:
            assert set(found(draft.out).values()) == {"old", "new"}
            new = {name.split("whole/")[-1] for name, text in found(draft.out).items() if text == "new"}
            assert new == {"folds.json", "fold-1/best.pt", "run.json"}
    draft.settle()
    assert found(draft.out) == AFTER
    assert not (draft.out / "draft").exists()


def test_one_process_at_a_time(draft: Draft) -> None:
    draft.out.mkdir()
    with (
        folder_lock(draft.out),
        pytest.raises(DataError, match="another process trains here; let it end first"),
        draft.alone(draft.out, resume=True),
    ):
        pass
    with draft.alone(draft.out, resume=True), folder_lock(draft.out) as other:
        assert other is False


def test_what_another_process_finished_meanwhile_is_not_overwritten(draft: Draft) -> None:
    work = draft.folder(resume=False, overwrite=False)
    write(draft.out, "another's", "best.pt")
    with pytest.raises(DataError, match=r"best\.pt: already there"), draft.alone(work, resume=False):
        pass
    assert found(draft.out) == {"best.pt": "another's"}


def test_a_folder_that_cannot_be_written_is_said_before_the_first_step(draft: Draft, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    line = r"out: cannot be written \(.*\); choose another --out"
    with pytest.raises(DataError, match=line), draft.alone(draft.out, resume=False):
        pytest.fail("it started")


def test_an_interruption_says_how_to_go_on_where_one_can(draft: Draft) -> None:
    def interrupted() -> None:
        with draft.alone(draft.out, resume=True):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        interrupted()
    write(draft.out, "new", "folds.json")
    with pytest.raises(Interrupted, match="out: interrupted; the same command with --resume goes on"):
        interrupted()
    assert not isinstance(caught.value, Interrupted)


def test_of_several_processes_the_first_one_holds_and_publishes(draft: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(draft)
    launch(monkeypatch, 1)
    work = draft.out / "draft" / "folds"
    with folder_lock(draft.out), draft.alone(work, resume=False):
        draft.publish(work)
    assert work.is_dir()

"""From a command to its formula: the files of the package that are on the stack when the formula is first reached.

A reader who follows `magic score` to Dice, or `magic prepare` to a merged mask, opens these files and no more.
"""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import CodeType, FrameType

import numpy as np
import pytest

import magic_cli
from magic_cli.cli import app
from magic_cli.data.imaging.fast_tiff import read_simple_tiff
from magic_cli.data.imaging.masks import merge_masks, read_stored, write_mask
from magic_cli.metrics.answer_sets import iom
from magic_cli.metrics.mask_scores import dice

PACKAGE = Path(magic_cli.__file__).parent
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
# They note how a verb was called and pass the call on as it is; all other wrappers count.
RECORDERS = {"io/run_record.py", "commands/recording.py"}
ENTRY = {"cli/app.py", "cli/command_line.py"}  # list and parse all verbs; what one does begins in a module of its own


def files_above(frame: FrameType | None) -> list[str]:
    """Return the distinct files of the package on the stack of a frame, the outermost first."""
    files = []
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        files += [path.relative_to(PACKAGE).as_posix()] if path.is_relative_to(PACKAGE) else []
        frame = frame.f_back
    return [file for file in dict.fromkeys(reversed(files)) if file not in ENTRY | RECORDERS]


def first_path(run: Callable[[], object], formula: CodeType) -> list[str]:
    """Return the files on the way to the first call of `formula`; a pool's thread goes on where work was submitted."""
    submitted: list[str] = []
    paths: list[list[str]] = []

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is ThreadPoolExecutor.submit.__code__:
            submitted[:] = files_above(frame)
        elif event == "call" and frame.f_code is formula and not paths:
            before = [] if threading.current_thread() is threading.main_thread() else submitted
            paths.append(list(dict.fromkeys([*before, *files_above(frame)])))

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    assert paths, "the formula was never reached"
    return paths[0]


@pytest.fixture
def magic(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def run(*words: object) -> None:
        monkeypatch.setattr(sys, "argv", ["magic", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            app.main()
        assert left.value.code in (0, None)

    return run


def test_from_score_to_dice_are_at_most_five_files(magic: Callable[..., None]) -> None:
    files = first_path(lambda: magic("score", EXAMPLES / "masks_preds", EXAMPLES / "masks_refs"), dice.__code__)
    assert {files[0], files[-1]} == {"cli/process.py", "metrics/mask_scores.py"}
    assert "cli/score.py" in files
    assert len(files) <= 5, files


def test_from_score_to_the_accuracy_of_an_answer_are_at_most_five_files(magic: Callable[..., None]) -> None:
    files = first_path(lambda: magic("score", EXAMPLES / "preds.json", EXAMPLES / "gold.json"), iom.__code__)
    assert {files[0], files[-1]} == {"cli/process.py", "metrics/answer_sets.py"}
    assert "cli/score.py" in files
    assert len(files) <= 5, files


def test_from_prepare_to_the_merged_mask_are_at_most_five_files(
    drawn: Path, tmp_path: Path, magic: Callable[..., None]
) -> None:
    files = first_path(lambda: magic("prepare", "--data", drawn, "--out", tmp_path / "p"), merge_masks.__code__)
    assert {files[0], files[-1]} == {"cli/process.py", "data/imaging/masks.py"}
    assert "cli/prepare.py" in files
    assert len(files) <= 5, files


@pytest.mark.parametrize("threaded", [False, True])
def test_all_files_of_a_path_are_seen(tmp_path: Path, threaded: bool) -> None:
    path = tmp_path / "m.tiff"
    write_mask(path, np.eye(4, dtype=np.uint8))

    def read() -> object:
        if not threaded:
            return read_stored(path, "m")
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(read_stored, path, "m").result()

    assert first_path(read, read_simple_tiff.__code__) == ["data/imaging/masks.py", "data/imaging/fast_tiff.py"]
    with pytest.raises(AssertionError, match="never reached"):
        first_path(read, merge_masks.__code__)

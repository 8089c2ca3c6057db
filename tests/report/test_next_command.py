"""report/next_command.py: every `next:` that a verb prints is typed as it stands, from the same folder."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from recorded_run import Ended, magic

from magic_cli.report.next_command import command_line, data_words, out_words, path_word

TINY = ("--preset", "tiny", "--set", "epochs=1", "--device", "cpu")
DATA = "it's my data"


def following(ended: Ended) -> list[list[str]]:
    """Return the words after "magic" of each command that a result suggests."""
    assert ended.code == 0, ended.err
    return [shlex.split(line)[1:] for line in re.findall(r"next: (magic .*)", ended.out)]


@pytest.fixture(scope="module")
def folder(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `magic prepare` wrote into a folder with blanks and a quote in its name."""
    folder = tmp_path_factory.mktemp("next")
    (folder / "DermaVQA").symlink_to(drawn)
    ended = magic(folder, "prepare", "--data", "DermaVQA", "--out", DATA)
    assert following(ended) == [["train", "seg", "--data", DATA], ["train", "cvqa", "--data", DATA]]
    return folder


@pytest.mark.parametrize("task", ["seg", "cvqa"])
def test_each_command_leads_to_the_next(folder: Path, task: str) -> None:
    """From a run in a folder that looks like an option, with its cache and its data elsewhere, to the submission."""
    run = f"-run of {task}"
    trained = magic(folder, "train", task, *TINY, "--data", DATA, f"--out={run}", "--cache-dir", "my cache")
    [predict] = following(trained)
    for number in (1, 2):  # the second time, what the first one wrote stays
        [package] = following(magic(folder, *predict))
        assert magic(folder, *package).code == 0
        [predict] = following(magic(folder, "train", task, *TINY, "--data", DATA, f"--out=again {number} {task}"))
    assert {"submission.zip", "submission-2.zip"} <= {path.name for path in folder.iterdir()}
    gold = ("predict", task, "--ckpt", f"./{run}", "--data", DATA, "--split", "valid", "--out", f"valid {task}")
    [score] = following(magic(folder, *gold))
    assert score == ["score", f"valid {task}", DATA, "--split", "valid"]
    assert magic(folder, *score).code == 0
    incomplete = magic(folder, *gold[:-1], f"some {task}", "--limit", "1")
    assert following(incomplete) == []  # `package` would refuse it, and `score` count the others as zero


def test_folds_and_votes(folder: Path) -> None:
    words = ("train", "cvqa", *TINY, "--modality", "text", "--data", DATA, "--folds", "2", "--out", "my folds")
    for again in ((), ("--resume",)):  # a report that is there stays
        [score] = following(magic(folder, *words, *again))
        assert magic(folder, *score).code == 0
    files = [f"part {number}" for number in (1, 2)]
    for number, out in enumerate(files, 1):
        predict = ("predict", "cvqa", "--ckpt", f"my folds/fold-{number}", "--data", DATA, "--out", out)
        assert magic(folder, *predict).code == 0
    [package] = following(magic(folder, "predict", "cvqa", "--vote", *files, "--data", DATA, "--out", "-voted"))
    assert magic(folder, *package).code == 0


def test_only_what_can_be_done_is_suggested(drawn: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn, tmp_path / "raw")
    for path in [*tmp_path.rglob("*_mask_*"), *tmp_path.rglob("test.json")]:
        path.unlink()
    assert following(magic(tmp_path, "prepare", "--data", "raw")) == [["train", "cvqa"]]
    [predict] = following(magic(tmp_path, "train", "cvqa", *TINY))
    assert predict[-4:] == ["--split", "valid", "--device", "cpu"]
    assert following(magic(tmp_path, *predict)) == [["score", "predictions/cvqa", "prepared", "--split", "valid"]]
    for path in tmp_path.rglob("*_cvqa.json"):
        path.unlink()
    [pretrain] = following(magic(tmp_path, "prepare", "--data", "raw", "--out", "texts"))
    assert pretrain == ["train", "pretrain", "--data", "texts"]
    assert magic(tmp_path, *pretrain, "--preset", "tiny", "--dry-run", "--device", "cpu").code == 0
    for path in [*(tmp_path / "raw").rglob("IMG_*")]:
        path.unlink()
    bare = magic(tmp_path, "prepare", "--data", "raw", "--out", "bare")
    assert following(bare) == []
    assert "nothing to learn from" in bare.out


def test_words(tmp_path: Path) -> None:
    assert command_line("score", path_word("-a b"), "c") == "magic score './-a b' c"
    assert command_line("score", "a\nb") == command_line("score", "\udcff") == ""
    assert (data_words("prepared"), data_words("./prepared"), data_words("p")) == ((), (), ("--data", "p"))
    taken = tmp_path / "a.zip"
    assert (out_words(taken), out_words(taken, usual=False)) == ((), ("--out", str(taken)))
    taken.touch()
    assert out_words(taken) == ("--out", str(tmp_path / "a-2.zip"))

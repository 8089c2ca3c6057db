"""Help in groups that fits 80 columns, and what users of other tools type first."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from magic_cli.cli.app import app
from magic_cli.cli.command_line import SYNONYMS, MagicCommand, MagicGroup
from magic_cli.cli.process import _exit_code_and_lines
from magic_cli.errors import DataError, SubmissionError


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, MagicGroup):
            yield from commands(command, (*path, name))


ALL = dict(commands(get_command(app)))


@pytest.mark.parametrize("path", [(), *ALL], ids=" ".join)
def test_help_fits_80_columns_and_names_no_python_type(path: tuple[str, ...]) -> None:
    shown = CliRunner(env={"COLUMNS": "80"}).invoke(app, [*path, "--help"]).output
    assert max(map(len, shown.splitlines())) <= 80
    assert not [word for word in ("<str>", "<path>", "<int", "list[") if word in shown]


def test_every_command_shares_the_layout_of_help() -> None:
    assert all(isinstance(command, MagicCommand | MagicGroup) for command in ALL.values())


@pytest.mark.parametrize(("word", "meant"), SYNONYMS.items())
def test_words_of_other_tools_lead_to_a_command_that_is_there(word: str, meant: str) -> None:
    assert (word,) not in ALL
    assert (meant.split()[0],) in ALL
    found = CliRunner().invoke(app, [word, "x"])
    assert found.exit_code == 2
    assert f"did you mean `magic {meant}`" in found.output


@pytest.mark.parametrize(("word", "start"), [("help", "Usage:"), ("version", "magic "), ("-V", "magic ")])
def test_help_and_version_may_be_asked_for_as_elsewhere(word: str, start: str) -> None:
    found = CliRunner().invoke(app, [word])
    assert (found.exit_code, found.output.startswith(start)) == (0, True)


def test_help_of_a_verb_may_be_asked_for_as_elsewhere() -> None:
    for words in (["predict"], ["index", "build"]):
        found = CliRunner().invoke(app, ["help", *words])
        assert (found.exit_code, found.output) == (0, CliRunner().invoke(app, [*words, "--help"]).output)
    assert CliRunner().invoke(app, ["help", "predikt"]).exit_code == 2


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["prepare", "--data", "nowhere"], "nowhere: got no such folder"),
        (["score", "no-preds", "no-gold", "--out", "prepared"], "no-gold: no such file or folder"),
        (["train", "segmentation"], "did you mean seg?"),
        (["train", "seg", "--batch-size", "8"], "No such option: --batch-size"),
        (["predict", "seg", "--ckpt", "x", "--split", "val"], "'val' is not one of 'train', 'valid', 'test'"),
    ],
)
def test_a_mistake_in_the_input_is_told_before_one_in_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    taken = tmp_path / "prepared" / "mine.txt"
    taken.parent.mkdir()
    taken.touch()
    found = CliRunner().invoke(app, words)
    assert found.exit_code in (2, 3) or isinstance(found.exception, DataError)
    assert named in (found.output + str(found.exception or ""))
    assert taken.exists()


@pytest.mark.parametrize(
    ("typed", "word", "remedy"),
    [
        ("prepare folder", "folder", "write --data before it"),
        ("prepare --data folder folder", "folder", "--data takes one; put a path with blanks in quotation marks"),
        ("search --index folder age=4", "age=4", "write --attr before each NAME=VALUE"),
        ("prepare no-such/folder", "no-such/folder", "write --data before it"),
        ("doctor now", "now", ""),
        ("train seg tiny", "tiny", "write --preset before it"),
        ("train seg epochs=5", "epochs=5", "write --set before each NAME=VALUE, without blanks"),
        ("train seg --set epochs 5", "5", "write --set before each NAME=VALUE, without blanks"),
        ("train seg --resume run", "run", "write --out before the folder of a run"),
        ("predict seg a.jpg b.jpg", "a.jpg", "write --images before each photo, or before their folder"),
        ("predict seg best.pt", "best.pt", "write --ckpt before it"),
        ("predict seg --ckpt=a.pt b.pt", "b.pt", "write --ckpt before it"),
        ("predict seg --ckpt=a.pt --text a flat mole", "flat", "write --text before words, in quotation marks"),
        (
            "predict cvqa folder",
            "folder",
            "write --images before a folder of photos, --data before a dataset, --vote before answers to merge",
        ),
        ("package folder", "folder", "write --seg or --cvqa before the folder of predictions"),
        ("package sent.zip", "sent.zip", "write --check-only before it"),
        ("export best.pt model.onnx", "model.onnx", "write --onnx before it"),
        ("search a.JPG", "a.JPG", "write --image before it"),
        ("search folder --image a.jpg", "folder", "write --index before it"),
        (f"search {'mole' * 999}", "mole" * 999, "write --text before words, in quotation marks"),
        ("search mole", "mole", "write --text before words, in quotation marks"),
    ],
)
def test_a_word_that_belongs_to_no_option_is_told_which_one_takes_it(
    typed: str, word: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("run").mkdir()
    Path("run/best.pt").touch()
    assert f"got {word!r}, which belongs to no option; {remedy}".rstrip("; ") in told(typed)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("train --batch-size 4", "no option --batch-size: it is a setting, --set batch_size=VALUE"),
        ("train --batch_size 4", "no option --batch-size: it is a setting, --set batch_size=VALUE"),
        ("train --bath-size 4", "No such option: --bath-size"),
        ("predict seg --batch-size 4", "No such option: --batch-size"),
        ("prepare --data", "--data: got nothing, expected a value after it"),
        ("train seg --overwrite=yes", "--overwrite: got a value, expected none; write --overwrite alone"),
        ("predict seg --threshold 0,5", "--threshold: got '0,5', expected a number, such as 0.5"),
        ("predict seg --limit four", "--limit: got 'four', expected a whole number"),
        ("predict seg --limit 0", "--limit: got 0, expected at least 1"),
        ("prepare --data x --valid 20", "--valid: got 20, expected at most 1"),
        ("predict seg --decode slut", "--decode: got 'slut', expected one of 'slot', 'set'"),
        ("prepare -data x", "got -data, expected --data, with two dashes"),
        ("prepare --data x --data y", "--data: given 2 times, expected once"),
        ("search --index a --index b", "--index: given 2 times, expected once"),
        ("package --seg --cvqa x", "--seg: got --cvqa, the name of an option, expected a path"),
    ],
)
def test_an_invalid_command_line_is_one_line_with_its_remedy(typed: str, expected: str) -> None:
    assert told(typed).startswith(expected)


def told(typed: str) -> str:
    """Return the line about an invalid command line; it ends with the help that belongs to it."""
    with pytest.raises(Exception, match=r"\S") as caught:
        get_command(app).main(typed.split(), standalone_mode=False, prog_name="magic")
    code, [line] = _exit_code_and_lines(caught.value)
    assert code == 2
    assert line.endswith(f"; see magic {typed.split()[0]} --help")
    return line


@pytest.mark.parametrize(
    "typed",
    [
        "score -- -out prepared",
        "score -- --by prepared",
        "search --text -image --index no-such",
        "search --text --image",
    ],
)
def test_a_value_that_looks_like_an_option_is_a_value(typed: str) -> None:
    """Words after `--`, and texts."""
    with pytest.raises((DataError, SubmissionError)):
        get_command(app).main(typed.split(), standalone_mode=False, prog_name="magic")


def test_what_may_be_repeated_is_not_refused() -> None:
    typed = "train seg --set epochs=1 --set lr=1 --data no-such --data other --dry-run --dry-run"
    with pytest.raises(DataError, match="no-such"):
        get_command(app).main(typed.split(), standalone_mode=False, prog_name="magic")


@pytest.mark.parametrize(("typed", "value"), [("magic predict seg --split v", "valid"), ("magic train cv", "cvqa")])
def test_a_shell_completes_values(typed: str, value: str) -> None:
    asked = {"_MAGIC_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    code = "import sys; sys.argv = ['magic']; from magic_cli.__main__ import start; start()"
    found = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True, check=False
    )
    assert found.stdout.split() == [value]

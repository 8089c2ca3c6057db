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
from magic_cli.cli.process import _as_setting, _exit_code_and_lines
from magic_cli.errors import DataError


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


def test_a_setting_that_is_typed_as_an_option_is_told_how_to_be_set() -> None:
    line = "No such option: --batch-size Did you mean one of: --data, --device?"
    assert _as_setting(line, "magic train") == "no option --batch-size: it is a setting, --set batch_size=VALUE"
    assert _as_setting("No such option: --bath-size", "magic train") == "No such option: --bath-size"
    assert _as_setting(line, "magic predict") == line


@pytest.mark.parametrize(
    ("verb", "word", "remedy"),
    [
        ("prepare", "DermaVQA/", "write --data before it"),
        ("train", "other", "write --data before it"),
        ("predict", "best.pt", "write --ckpt before each checkpoint"),
        ("predict", "--ckpt=a.pt b.pt", "write --ckpt before each checkpoint"),
        ("predict", "mine.json", "write --vote to merge predictions"),
        ("search", "a.JPG", "write --image before it"),
        ("doctor", "now", "leave it out"),
    ],
)
def test_a_word_without_its_option_is_told_which_one_takes_it(verb: str, word: str, remedy: str) -> None:
    task = ["seg"] if verb in ("train", "predict") else []
    with pytest.raises(Exception, match=r"extra argument|without the name") as caught:
        get_command(app).main([verb, *task, *word.split()], standalone_mode=False, prog_name="magic")
    told = f"got {word.split()[-1]!r} without the name of an option; {remedy}; see magic {verb} --help"
    assert _exit_code_and_lines(caught.value) == (2, [told])


@pytest.mark.parametrize(("typed", "value"), [("magic predict seg --split v", "valid"), ("magic train cv", "cvqa")])
def test_a_shell_completes_values(typed: str, value: str) -> None:
    asked = {"_MAGIC_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    code = "import sys; sys.argv = ['magic']; from magic_cli.__main__ import start; start()"
    found = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True, check=False
    )
    assert found.stdout.split() == [value]

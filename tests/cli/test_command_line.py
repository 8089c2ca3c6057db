"""Help in groups that fits 80 columns, and what users of other tools type first."""

from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from magic_cli.cli.app import app
from magic_cli.cli.command_line import SYNONYMS, MagicCommand, MagicGroup


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

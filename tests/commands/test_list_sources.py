"""`magic prepare --list-sources`, `--source`, `--map` and `--join` on the command line."""

import json
import re
from pathlib import Path

import pytest
from raw_tables import write_csv, write_photo
from typer.testing import CliRunner

from magic_cli.cli.app import app
from magic_cli.data.prepared import open_prepared
from magic_cli.data.sources import ADAPTERS, adapter, sources
from magic_cli.errors import MagicError
from magic_cli.io import schema


def call(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["prepare", *map(str, words)])
    if isinstance(result.exception, MagicError):
        return result.exception.exit_code, str(result.exception)
    return result.exit_code, result.output


def test_all_sources_are_listed_without_data() -> None:
    code, text = call("--list-sources")
    assert code == 0
    code, listed = call("--list-sources", "--json")
    assert schema.problems("sources", json.loads(listed), "x") == []
    rows = json.loads(listed)["sources"]
    assert [row["name"] for row in rows] == list(ADAPTERS)
    for row in rows:
        assert row["name"] in text
        assert row["origin"].split()[0] in text


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_says_what_it_is(name: str) -> None:
    source = adapter(name)
    assert source.name == name
    assert all(text and "\n" not in text for text in (source.title, source.origin, source.licence, source.expected))
    assert source in sources()


def test_data_is_needed_for_all_else() -> None:
    code, text = call("--out", "x")
    assert code == 2
    assert "--data" in text


def test_an_unknown_source_is_refused_with_the_closest_name(tmp_path: Path) -> None:
    code, text = call("--data", tmp_path, "--source", "cvs")
    assert code == 3
    assert "--source: got cvs, expected dermavqa, " in text
    assert "did you mean csv?" in text


def test_a_folder_of_unknown_tables_names_both_ways(tmp_path: Path) -> None:
    write_csv(tmp_path / "data/table.csv", [{"image_path": "a.png", "dx": "nevus"}])
    code, text = call("--data", tmp_path / "data", "--out", tmp_path / "out")
    assert code == 3
    assert "--list-sources" in text
    assert "--map image=image_path,label=dx" in text
    (tmp_path / "none").mkdir()
    code, text = call("--data", tmp_path / "none", "--out", tmp_path / "out")
    assert code == 3
    assert "--list-sources" in text
    assert "--map" in text


def test_map_and_join(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    write_csv(data / "table.csv", [{"file": f"{name}.png", "dx": "nevus"} for name in "ab"])
    write_csv(data / "more.csv", [{"file name": "a", "itch": "yes"}])
    for number, name in enumerate("ab"):
        write_photo(data / f"{name}.png", number)
    words = ("--map", "image=file", "--map", "label=dx", "--join", "more.csv")
    code, text = call("--data", data, "--out", out, *words)
    assert code == 0, text
    cases = open_prepared(out).cases
    assert [case.label for case in cases.values()] == ["nevus", "nevus"]
    assert cases["a"].attributes["itch"] == "yes"
    record = json.loads((out / "run.json").read_text())
    assert "more.csv" in json.dumps(record)


def test_every_source_has_a_row_in_the_document_and_the_other_way_round() -> None:
    text = (Path(__file__).parents[2] / "examples/datasets.md").read_text(encoding="utf-8")
    table = text.partition("| `--source` |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.M)) == sorted(ADAPTERS)

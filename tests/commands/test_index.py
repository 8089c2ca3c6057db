"""`magic index`: what is added, replaced and skipped; resuming; another model; removal; the command line."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from magic_cli.cli.app import app
from magic_cli.commands.index import (
    Batch,
    IndexAdded,
    add_batches,
    building,
    content_hash,
    index_info,
    index_remove,
    unchanged,
)
from magic_cli.data.index import open_index
from magic_cli.data.index.base import IndexedCase, IndexInfo, Part
from magic_cli.errors import DataError
from magic_cli.io import schema

MODEL = "ab" * 32
INFO = IndexInfo(MODEL, (Part("image", 4),), fields=("age",), licences=("CC0",), dataset="drawn", created="2026-01-01")


def batches(*contents: str, size: int = 2, kill_after: int = 99) -> Iterator[Batch]:
    """Yield batches of cases c0, c1, … with these contents."""
    cases = [IndexedCase(f"c{i}", {"age": str(i), "notes": "Alice"}, text) for i, text in enumerate(contents)]
    for number, start in enumerate(range(0, len(cases), size)):
        if number == kill_after:
            raise KeyboardInterrupt
        part = cases[start : start + size]
        yield part, np.eye(4, dtype=np.float32)[[int(case.id[1:]) % 4 for case in part]]


def build_index(place: Path, info: IndexInfo, made: Iterator[Batch], rebuild: bool = False) -> IndexAdded:
    with building(place, info, rebuild) as index:
        return add_batches(str(place), index, made)


def add_cases(place: Path, model: str, made: Iterator[Batch]) -> IndexAdded:
    with open_index(place) as index:
        index.check_model(model)
        return add_batches(str(place), index, made)


def counts(place: Path, *contents: str) -> tuple[int, int, int, int]:
    result = add_cases(place, MODEL, batches(*contents))
    return result.added, result.replaced, result.skipped, result.cases


def test_what_is_there_is_skipped_and_what_changed_replaced(tmp_path: Path) -> None:
    place = tmp_path / "index"
    result = build_index(place, INFO, batches("a", "b", "c"))
    assert (result.added, result.replaced, result.skipped, result.cases) == (3, 0, 0, 3)
    assert result.not_kept == {"notes": 3}
    assert counts(place, "a", "b", "c") == (0, 0, 3, 3)
    assert counts(place, "a", "new", "c", "d") == (1, 1, 2, 4)
    with open_index(place) as index:
        there = [case for cases, _ in batches("a", "b", "c", "d", "e") for case in cases]
        assert unchanged(index, there) == {"c0", "c2", "c3"}
    assert "Alice" not in " ".join(result.lines())


def test_a_killed_build_goes_on_where_it_ended(tmp_path: Path) -> None:
    place = tmp_path / "index"
    with pytest.raises(KeyboardInterrupt):
        build_index(place, INFO, batches("a", "b", "c", "d", "e", kill_after=2))
    result = build_index(place, replace(INFO, created="later"), batches(*"abcde"))
    assert (result.added, result.skipped, result.cases) == (1, 4, 5)


def test_another_model_is_refused_and_a_rebuild_replaces_the_index_at_its_end(tmp_path: Path) -> None:
    place = tmp_path / "index"
    build_index(place, INFO, batches(*"abc"))
    with pytest.raises(DataError, match="a model of checksum cdcdcdcdcdcd, expected abababababab"):
        add_cases(place, "cd" * 32, batches("a"))
    other = IndexInfo("cd" * 32, INFO.parts, fields=("age", "sex"))
    said = (
        "got another model and another dataset and other photos and other fields, expected the same as for its 3 cases"
    )
    with pytest.raises(DataError, match=f"{said}, to go on with it; --rebuild replaces its 3 cases; or use another"):
        build_index(place, other, batches("a"))
    with pytest.raises(KeyboardInterrupt):
        build_index(place, other, batches(*"vwxyz", kill_after=2), rebuild=True)
    assert index_info(place).info == INFO
    result = build_index(place, other, batches(*"vwxyz"), rebuild=True)
    assert (result.added, result.skipped, index_info(place).info.fields) == (1, 4, ("age", "sex"))


@pytest.mark.parametrize(
    ("change", "got", "remedy"),
    [
        ({"low_score": 0.5}, "other photos", "to add them: magic index add"),
        ({"licences": ()}, "other photos", "to add them: magic index add"),
        ({"dataset": "more"}, "another dataset", "to add them: magic index add"),
        (
            {"low_score": 0.5, "fields": ("sex",)},
            "other photos and other fields",
            "to add them, with the fields that it has: magic index add",
        ),
        ({"fields": ("sex",)}, "other fields", "--rebuild replaces its 1 case; or use another place"),
        (
            {"dtype": "float16", "low_score": 0.5},
            "other photos and another --dtype",
            "--rebuild replaces its 1 case; or",
        ),
        (
            {"model_sha256": "cd" * 32, "beta": 0.1, "low_score": 0.5},
            "another model",
            "--rebuild replaces its 1 case; or use another place",
        ),
    ],
)
def test_what_differs_from_an_index_is_said_in_words(
    tmp_path: Path, change: dict[str, Any], got: str, remedy: str
) -> None:
    place, info = tmp_path / "index", replace(INFO, low_score=0.25)
    build_index(place, info, batches("a"))
    with pytest.raises(DataError) as told, building(place, replace(info, **change), add_line="magic index add"):
        pass
    line = f"{place}: got {got}, expected the same as for its 1 case, to go on with it; {remedy}"
    assert str(told.value).startswith(line)


def test_content_changes_with_the_photo_and_the_kept_fields_alone() -> None:
    base = content_hash("ab", {"age": "40", "sex": "", "notes": "x"}, ("age", "sex"))
    assert base == content_hash("ab", {"age": "40", "notes": "y"}, ("sex", "age"))
    assert len({base, content_hash("cd", {"age": "40"}, ("age",)), content_hash("ab", {"age": "41"}, ("age",))}) == 3


def test_command_line(tmp_path: Path) -> None:
    place = tmp_path / "index"
    added = build_index(place, INFO, batches(*"abcde"))
    (tmp_path / "ids.txt").write_text("c1\n\nc9\n")

    def run(*words: object) -> dict[str, object]:
        done = CliRunner().invoke(app, ["index", *map(str, words), "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        row: dict[str, object] = json.loads(done.stdout)
        assert schema.problems("indexed", row, "stdout") == []
        return row

    assert schema.problems("indexed", {"schema": 1, "command": "index", **added.to_json()}, "add") == []
    removed = run("remove", place, "c0", "c0", "--ids", tmp_path / "ids.txt", "--purge")
    assert (removed["removed"], removed["unknown"], removed["cases"], removed["purged"]) == (2, 1, 3, True)
    shown = run("info", place)
    assert (shown["cases"], shown["index"]) == (3, INFO.to_json())
    text = CliRunner().invoke(app, ["index", "info", str(place)]).stdout
    assert "3 cases of drawn" in text
    assert text.splitlines()[-1] == f"next: magic search --index {place} --image PHOTO"
    assert "--purge" in "\n".join(index_remove(place, ["c3"]).lines())


def test_cases_without_class_and_the_licence_of_the_dataset_are_told(tmp_path: Path) -> None:
    info = replace(INFO, fields=("diagnosis",), licences=(), dataset="dermavqa")
    cases = [IndexedCase("a", {"diagnosis": "eczema"}), IndexedCase("b"), IndexedCase("c")]
    build_index(tmp_path / "index", info, iter([(cases, np.eye(3, 4, dtype=np.float32))]))
    lines = index_info(tmp_path / "index").lines()
    assert lines[:3] == [f"{tmp_path / 'index'}: 3 cases of dermavqa", "  eczema: 1", "  class not stated: 2"]
    assert "licences: CC BY 4.0" in lines
    own = replace(index_info(tmp_path / "index"), info=INFO, classes={}).lines()
    assert "licences: CC0" in own
    assert not any("class not stated" in line for line in own)  # the index does not keep classes


def test_what_cannot_be_removed_is_said(tmp_path: Path) -> None:
    build_index(tmp_path / "index", INFO, batches("a"))
    with pytest.raises(DataError, match="no id of a case"):
        index_remove(tmp_path / "index", [])
    with pytest.raises(DataError, match="magic index build"):
        index_remove(tmp_path / "none", ["a"])
    (tmp_path / "ids").write_bytes(b"\xff\xfe")
    for name, message in (("ids", "not UTF-8"), ("none", "No such file")):
        done = CliRunner().invoke(app, ["index", "remove", str(tmp_path / "index"), "--ids", str(tmp_path / name)])
        assert isinstance(done.exception, DataError)
        assert message in str(done.exception)

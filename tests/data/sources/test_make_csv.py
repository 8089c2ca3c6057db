"""MAKE's release CSV from `magic prepare` to pairs: missing columns, and cells of any content, which are never run."""

import csv
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pair_shards import MAKE_ROW
from raw_tables import write_csv, write_photo

from magic_cli.commands.prepare import prepare
from magic_cli.data.pairs import pair_samples
from magic_cli.data.prepared import open_prepared
from magic_cli.data.sources import open_source
from magic_cli.data.sources.source import ReadOptions
from magic_cli.errors import DataError

ROW = {"filename": "edu/1.png", **{name: str(value) for name, value in MAKE_ROW.items()}} | {
    f"subcaption_{number}": "" for number in range(3, 9)
}

MASKS = ("knowledge_masks", "sub_caption_mask")


def test_the_csv_becomes_pairs_with_subcaptions(tmp_path: Path) -> None:
    rows = [ROW | {"filename": f"edu/{number}.png"} for number in range(3)]
    rows[1]["sub_caption_mask"] = "[0, 1, 0, 0, 0, 0, 0, 0]"
    rows[2]["knowledge_masks"] = "__import__('os').system('true')"
    write_csv(tmp_path / "raw" / "MAKE_train.csv", rows)
    for number in range(3):
        write_photo(tmp_path / "raw" / "edu" / f"{number}.png", number)
    prepare(tmp_path / "raw", tmp_path / "prepared")
    prepared = open_prepared(tmp_path / "prepared")
    first, second = pair_samples(prepared, "train")
    assert {"raw", "disease", "concept", "truncated", "subtext-1", "subtext-2"} == set(first.case.texts)
    assert set(first.case.texts) - set(second.case.texts) == {"subtext-1"}
    (line,) = prepared.manifest.problems
    assert line.startswith("MAKE_train.csv:4:knowledge_masks: got something else")


@pytest.mark.parametrize(
    ("columns", "roles"),
    [
        (("filename", "truncated_caption", "ontology_caption"), {"raw", "disease"}),
        (("filename", "caption", "visual_concept_caption", "subcaption_1"), {"raw", "concept", "subtext-1"}),
        (("filename", "caption", "knowledge_masks"), {"raw"}),
        (("filename", "ontology_caption"), None),
        (("caption", "ontology_caption", "knowledge_masks"), None),
    ],
)
def test_missing_columns_are_missing_texts(columns: tuple[str, ...], roles: set[str] | None, tmp_path: Path) -> None:
    """Without captions or file names, it is no table of MAKE."""
    write_csv(tmp_path / "train.csv", [{name: ROW[name] for name in columns}])
    write_photo(tmp_path / "edu/1.png", 1)
    if roles is None:
        with pytest.raises(DataError):
            open_source(tmp_path, ReadOptions())
        return
    (case,) = open_source(tmp_path, ReadOptions()).cases
    assert set(case.case.texts) == roles


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fuzz")
    write_photo(root / "edu/1.png", 1)
    return root


def read(folder: Path, column: str, cell: str) -> tuple[int, list[str]]:
    """Return the number of pairs, and the problems, of a table of one row."""
    with (folder / "train.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ROW)
        writer.writeheader()
        writer.writerow(ROW | {column: cell})
    raw = open_source(folder, ReadOptions())
    return len(list(raw.cases)), raw.issues.problems


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(MASKS),
    st.one_of(st.text("[]()01, '\"nae_.{}:-", max_size=30), st.lists(st.integers(0, 2)).map(str)),
)
def test_any_cell_gives_a_pair_or_a_line_with_its_row(folder: Path, column: str, cell: str) -> None:
    pairs, problems = read(folder, column, cell)
    assert pairs + len(problems) == 1
    assert all(line.startswith(f"train.csv:2:{column}: got ") for line in problems)


@pytest.mark.parametrize("column", MASKS)
@given(st.data())
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mask_has_a_zero_or_one_for_each_text(folder: Path, column: str, data: st.DataObject) -> None:
    size = 3 if column == "knowledge_masks" else 8
    fitting = st.lists(st.integers(0, 1), min_size=size, max_size=size)
    mask = data.draw(st.one_of(st.lists(st.integers(-1, 2), max_size=9), fitting))
    assert bool(read(folder, column, str(mask))[0]) == (len(mask) == size and set(mask) <= {0, 1})

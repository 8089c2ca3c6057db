"""`--join FILE`: a second table by the name of a photo or the id of a case, for any dataset."""

from pathlib import Path

import pytest
from raw_tables import write_csv, write_photo

from magic_cli.data.sources import open_source
from magic_cli.data.sources.generic.mapping import parse_mapping
from magic_cli.data.sources.source import RawCase, RawDataset, ReadOptions
from magic_cli.errors import ConfigError, DataError


def make(root: Path) -> Path:
    rows = [{"image": f"{name}.png", "dx": "nevus", "case": f"case {name}"} for name in "abc"]
    write_csv(root / "table.csv", rows)
    for number, name in enumerate("abc"):
        write_photo(root / f"{name}.png", number)
    return root


def read(root: Path, table: Path, *words: str) -> tuple[RawDataset, dict[str, RawCase]]:
    dataset = open_source(root, ReadOptions(parse_mapping(words), str(table)))
    return dataset, {raw.case.case_id: raw for raw in dataset.cases}


@pytest.mark.parametrize("keys", [("A", "c.png", "x"), ("case a", "case c", "case x")])
def test_rows_are_matched_by_photo_or_case(tmp_path: Path, keys: tuple[str, ...]) -> None:
    root = make(tmp_path / "data")
    facts = [{"key": key, "streaks": number, "dx": "other"} for number, key in enumerate(keys)]
    table = write_csv(tmp_path / "facts.csv", facts)
    dataset, cases = read(root, table, "image=image,label=dx,id=case,attribute=dx")
    assert cases["case a"].case.attributes == {"streaks": "0", "dx": "nevus"}
    assert cases["case b"].case.attributes == {"dx": "nevus"}
    assert cases["case c"].case.attributes == {"streaks": "1", "dx": "nevus"}
    last = dataset.issues.notes[-1]
    assert last.startswith("facts.csv: 2 rows joined by key; 1 belong to no case")
    assert last.endswith("1 cases have no row")
    assert set(dataset.inputs) == {"table.csv", "facts.csv"}


def test_a_map_without_an_image_describes_the_joined_table(tmp_path: Path) -> None:
    text = '{"case_id": "1", "image": "a.png"}\n{"case_id": "2", "image": "b.png", "label": "own"}\n'
    root = tmp_path / "data"
    write_photo(root / "a.png", 1)
    write_photo(root / "b.png", 2)
    (root / "cases.jsonl").write_text(text)
    facts = [
        {"n": n, "photo": f"{name}.png", "dx": "nevus", "where": "arm", "years": 45} for n, name in enumerate("ab")
    ]
    write_csv(root / "facts.csv", facts)
    dataset, cases = read(root, Path("facts.csv"), "id=photo,label=dx,site=where,age=years")
    assert dataset.source == "cases"
    assert [raw.case.label for raw in cases.values()] == ["nevus", "own"]
    assert cases["1"].case.attributes == {"n": "0", "site": "arm", "age": "45"}


def test_rows_that_cannot_be_matched_are_told(tmp_path: Path) -> None:
    root = make(tmp_path / "data")
    rows = [{"key": key, "x": "1"} for key in ("a", "a.png", "", "1.5E+18")]
    dataset, _ = read(root, write_csv(tmp_path / "facts.csv", rows), "image=image")
    assert [line.partition(", expected")[0] for line in dataset.issues.problems] == [
        "facts.csv:3: got text of 5 characters twice",
        "facts.csv:4: got no key",
        "facts.csv:5: got id 1.5E+18, as Excel rounds a long number",
    ]
    dataset, _ = read(root, write_csv(tmp_path / "facts.csv", [{"key": "other", "x": "1"}]), "image=image")
    assert dataset.issues.problems[0].startswith("facts.csv: got 1 rows, of which none has the name of a photo")


def test_what_cannot_be_joined_is_refused(tmp_path: Path) -> None:
    root = make(tmp_path / "data")
    with pytest.raises(DataError, match=r"--join gone\.csv: got no such file"):
        read(root, Path("gone.csv"), "image=image")
    (root / "cases.jsonl").write_text('{"case_id": "a", "texts": {"raw": "x"}}\n')
    facts = write_csv(tmp_path / "facts.csv", [{"key": "a", "x": "1"}])
    with pytest.raises(ConfigError, match=r"--map age=years: got no such column in facts\.csv"):
        read(root, facts, "age=years")
    with pytest.raises(ConfigError, match="--join: got --map mask="):
        read(root, facts, "mask=x")

"""Tables as people export them: every encoding and delimiter reads the same, and what cannot be read says so."""

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magic_cli.data.issues import IssueLog
from magic_cli.data.sources.csv_rows import CsvTable, Row, columns_of, note_unknown, open_csv, tables_with
from magic_cli.data.sources.files import SourceFiles
from magic_cli.errors import DataError

ROWS = [
    {"id": "007", "caption": 'café; "red"\nscaly, dry', "label": "eczéma"},
    {"id": "-9007199254740993", "caption": "x, y", "label": "b"},
]


def read(folder: Path, data: bytes, columns: tuple[str, ...] = ()) -> tuple[CsvTable, list[Row], IssueLog]:
    (folder / "t.csv").write_bytes(data)
    issues = IssueLog()
    table = open_csv(str(folder / "t.csv"), SourceFiles(folder, issues), columns)
    return table, list(table.rows(issues)), issues


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_export_reads_the_same(tmp_path: Path, delimiter: str, encoding: str, end: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end)
    writer.writerows([ROWS[0].keys(), *(row.values() for row in ROWS)])
    table, rows, issues = read(tmp_path, text.getvalue().encode(encoding))
    assert [dict(row.cells) for row in rows] == ROWS
    assert [row.where for row in rows] == ["t.csv:2", "t.csv:4"]
    assert table.delimiter == delimiter
    assert not issues.problems
    assert columns_of(table.path) == table.columns


@pytest.mark.parametrize(
    ("data", "encoding", "cell"),
    [
        ("a,b\n1,naïve\n".encode("latin-1"), "cp1252", "naïve"),
        ("a,b\n1,“x”\n".encode("cp1252"), "cp1252", "“x”"),
        (b"a,b\n1,\x81 \xe9 z\n", "latin-1", "\x81 é z"),
        ("a,b\n1,Größe\n".encode("cp1252"), "cp1252", "Größe"),
        ("a,b\n1,皮肤病变为红斑，瘙痒\n".encode("gbk"), "gb18030", "皮肤病变为红斑，瘙痒"),
        (b"a,b\n1,\xc3\xa9\xc3\xa9 \xff\n", "utf-8", "éé \ufffd"),
    ],
)
def test_other_encodings_are_told(tmp_path: Path, data: bytes, encoding: str, cell: str) -> None:
    table, rows, issues = read(tmp_path, data)
    assert (table.encoding, rows[0].get("b")) == (encoding, cell)
    assert len(issues.notes) == 1


@pytest.mark.parametrize("mark", [";", "|", "\t"])
def test_excels_first_line_names_the_delimiter(tmp_path: Path, mark: str) -> None:
    text = f"sep={mark}\r\na{mark}b,c\r\n1{mark}2,5\r\n"
    table, rows, _ = read(tmp_path, text.encode("utf-8-sig"))
    assert table.columns == ("a", "b,c")
    assert rows[0].cells == {"a": "1", "b,c": "2,5"}
    assert rows[0].where == "t.csv:3"


@pytest.mark.parametrize(
    ("data", "kept", "line"),
    [
        (b"a,b\n1\n3,4\n", 1, "t.csv:2: got 1 cell, expected 2"),
        (b"a,b\n1,2,3\n3,4\n", 1, "t.csv:2: got 3 cells, expected 2"),
        (b"a,b\n1,\0\n3,4\n", 1, "t.csv:2: got a NUL character"),
        (b'a,b\n"1"x,2\n3,4\n', 1, "t.csv:2: got text behind a closing quotation mark"),
        (b'a,b\n3,4\n"1,2\n5,6\n', 1, "t.csv:3: got a quotation mark that is never closed, lines 3 to 4"),
        (b"a,b\n3,4\n\0\0\0\0\0", 1, "t.csv:3: got a NUL character"),
    ],
)
def test_a_bad_row_is_one_line_and_the_others_are_read(tmp_path: Path, data: bytes, kept: int, line: str) -> None:
    _, rows, issues = read(tmp_path, data)
    assert [row.get("b") for row in rows] == ["4"] * kept
    assert len(issues.problems) == 1
    assert issues.problems[0].startswith(line)
    assert issues.left_out["cases"] >= 1


def test_empty_columns_and_rows_of_excel_are_passed_over(tmp_path: Path) -> None:
    table, rows, issues = read(tmp_path, b"a,b,,\n1,2,,\n , ,,\n,,,\n3,4\n5,6,note,\n,,\n")
    assert table.columns == ("a", "b")
    assert [row.get("b") for row in rows] == ["2", "4", "6"]
    assert not issues.problems
    assert issues.notes == ["t.csv: 1 row has text in columns without a name; it is not used"]


def test_columns_without_a_name_get_one(tmp_path: Path) -> None:
    table, rows, _ = read(tmp_path, b",ImageID,,Plaque\n0,x.jpg,?,1\n")
    assert table.columns == ("", "ImageID", "Unnamed: 2", "Plaque")
    assert rows[0].get("") == "0"


def test_a_table_without_header_gets_its_names_from_the_caller(tmp_path: Path) -> None:
    table, rows, _ = read(tmp_path, b"ISIC_0000000,benign\nISIC_0000001,malignant\n", ("image_id", "label"))
    assert table.columns == ("image_id", "label")
    assert [row.get("label") for row in rows] == ["benign", "malignant"]
    assert rows[0].where == "t.csv:1"


@pytest.mark.parametrize("data", [b"a,b\n", b"\xef\xbb\xbfa,b", b"\n\na,b\n\n"])
def test_a_header_alone_has_no_rows(tmp_path: Path, data: bytes) -> None:
    table, rows, issues = read(tmp_path, data)
    assert (table.columns, rows, issues.problems) == (("a", "b"), [], [])


@pytest.mark.parametrize(
    ("data", "got", "remedy"),
    [
        (b"", "nothing", "download"),
        (b"\n\n", "no header", "check"),
        (b"\0" * 100, "null bytes", "download"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer", "git lfs pull"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "a gzip file", "unpack"),
        (b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0 [Content_Types].xml", "an Excel workbook", "CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document", "CSV UTF-8"),
        (b"PAR1\x15\x04", "a Parquet file", "read_parquet"),
        (b"<!DOCTYPE html>\n<html>", "an HTML page", "download it again"),
        (b'[{"id": 1}]', "JSON", ".json"),
        (b"a,b,a\n1,2,3\n", "column a twice", "rename"),
    ],
)
def test_what_is_no_table_is_told_with_a_remedy(tmp_path: Path, data: bytes, got: str, remedy: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, data)
    assert len(caught.value.problems) == 1
    assert f"t.csv: got {got}, expected" in str(caught.value)
    assert remedy in str(caught.value)


def test_a_long_cell_is_read_and_a_longer_line_is_refused(tmp_path: Path) -> None:
    _, rows, _ = read(tmp_path, b"a,b\n1," + b"x" * 200_000 + b"\n")
    assert len(rows[0].cells["b"]) == 200_000
    with pytest.raises(DataError, match=r"t\.csv:3: got a line of 16,777,216 characters"):
        read(tmp_path, b"a,b\n1,2\n" + b"x" * (1 << 24) + b"\n")


def test_tables_are_found_by_their_columns(tmp_path: Path) -> None:
    (tmp_path / "HAM10000_metadata").write_text("lesion_id,image_id,dx\n")
    (tmp_path / "other.csv").write_text("a,b\n")
    (tmp_path / "book.csv").write_bytes(b"PK\x03\x04")
    (tmp_path / "t.json").write_text("image_id,dx\n")
    found = tables_with(SourceFiles(tmp_path, IssueLog()), "image_id", "dx")
    assert [Path(path).name for path in found] == ["HAM10000_metadata"]


def test_columns_that_are_not_used_are_counted(tmp_path: Path) -> None:
    table, _, issues = read(tmp_path, b",a,b\n")
    note_unknown(table, frozenset({"a"}), issues)
    assert issues.notes == ["t.csv: 2 columns are not used ((unnamed), b)"]


CELL = st.text(st.characters(exclude_characters="\0\ufffd\ufeff", exclude_categories=("Cs",)), max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.lists(CELL, min_size=3, max_size=3), max_size=6),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_what_python_writes_reads_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[list[str]],
    delimiter: str,
    encoding: str,
    end: str,
) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(
        [["id", "b", "c"], *rows]
    )
    _, read_rows, issues = read(tmp_path_factory.mktemp("csv"), text.getvalue().encode(encoding))
    assert [list(row.cells.values()) for row in read_rows] == [row for row in rows if any(map(str.strip, row))]
    assert not issues.problems

"""Cells of tables: what is missing, lists and dicts that are data and never code, numbers, ids."""

import ast
import json
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magic_cli.data.sources.cells import flag, identifier, image_id_of, literal, number, present, texts, weights
from magic_cli.errors import DataError


@pytest.mark.parametrize(
    "cell", ["", " ", "nan", "NaN", "NAN", "None", "null", "NA", "N/A", "<NA>", "#N/A", "NaT", None]
)
def test_every_spelling_of_missing_is_none(cell: str | None) -> None:
    assert present(cell) is None
    assert literal(cell, "t.csv:2") is None
    assert texts(cell, "t.csv:2") == ()
    assert weights(cell, "t.csv:2") == {}
    assert (flag(cell), number(cell), identifier(cell, "t.csv:2")) == (None, None, None)


HOSTILE = [
    "__import__('os').system('touch {marker}')",
    "[__import__('os').system('touch {marker}')]",
    "{{'a': open('{marker}', 'w')}}",
    "(lambda: open('{marker}', 'w'))()",
    "[open('{marker}', 'w') for _ in (1,)]",
    "f\"{{open('{marker}', 'w')}}\"",
    "().__class__.__base__.__subclasses__()",
    'exec(\'open("{marker}", "w")\')',
]


@pytest.mark.parametrize("cell", HOSTILE)
def test_a_hostile_cell_is_one_line_and_is_not_run(tmp_path: Path, cell: str) -> None:
    marker = tmp_path / "marker"
    for read in (literal, texts, weights):
        with pytest.raises(DataError, match=r"^t\.csv:2: got something else, expected a list or dict") as caught:
            read(cell.format(marker=marker), "t.csv:2")
        assert len(caught.value.problems) == 1
    assert not marker.exists()


@pytest.mark.parametrize(
    "cell",
    [
        "[" * 50_000,
        "{" * 90_000,
        "[" * 300 + "]" * 300,
        "-" * 90_000 + "1",
        "1" + "+1" * 40_000,
        "not " * 20_000 + "1",
        "a.b" * 30_000,
        "[" + "9" * 5_000 + "]",
        "[0x" + "f" * 50_000 + "]",
        "[" + "1," * 60_000 + "]",
        "'" * 3,
        "['\0",
        "b'bytes'",
        "[b'bytes']",
        "['red' 'scaly']",
        "['red''scaly']",
        "['red'\n 'scaly']",
        "{[]: 1}",
        "[*[1]]",
        "{**{}}",
        "1j",
        "[...]",
        "red, scaly",
    ],
    ids=lambda cell: cell[:12].encode("unicode_escape").decode(),
)
def test_what_is_no_list_is_one_line(cell: str) -> None:
    for read in (texts, weights):
        with pytest.raises(DataError) as caught:
            read(cell, "t.csv:2")
        assert len(caught.value.problems) == 1
        assert str(caught.value).startswith("t.csv:2: got ")
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("cell", "values"),
    [
        ("['a', 'b']", ("a", "b")),
        ('["a", "b"]', ("a", "b")),
        ("('a',)", ("a",)),
        ("[]", ()),
        ("[nan, 'a', None, '', 'NaN', null]", ("a",)),
        ("[-9007199254740993, 7]", ("-9007199254740993", "7")),
        (r"['\d and \\']", ("\\d and \\",)),
        ("[' ', 'it''s']", None),
        ('["it\'s", "a \\"b\\""]', ("it's", 'a "b"')),
        ('["\\ud83d\\ude00"]', ("😀",)),
        ("['a, b', \"c' 'd\"]", ("a, b", "c' 'd")),
        ("{'e', 'b', 'd', 'a', 'c'}", ("e", "b", "d", "a", "c")),  # in the order as written, whatever the hash seed
    ],
)
def test_lists_of_python_json_and_pandas(cell: str, values: tuple[str, ...] | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if values is None:
            with pytest.raises(DataError):
                texts(cell, "t.csv:2")
        else:
            assert texts(cell, "t.csv:2") == values


@pytest.mark.parametrize(
    "cell", ["{'a': nan}", "{'a': 1e999}", "{'a': 'x'}", "{1: 2}", "['a']", "{'a': 0x" + "f" * 900 + "}"]
)
def test_weights_are_finite_numbers_by_text(cell: str) -> None:
    with pytest.raises(DataError, match="no dict"):
        weights(cell, "t.csv:2")


def test_weights() -> None:
    assert weights("{'Eczema': 0.67, 'Acne': 1}", "t.csv:2") == {"Eczema": 0.67, "Acne": 1.0}


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        *(("45", 45), (" 45.5 ", 45.5), ("45,5", 45.5), ("-0,25", -0.25), (".5", 0.5), ("5.", 5), ("1e3", 1000)),
        *((text, None) for text in ("1_000", "1,234,567", "1,234.5", "inf", "nan", "1e999", "١٢", "0x10", "45 years")),
    ],
)
def test_numbers(cell: str, value: float | None) -> None:
    assert number(cell) == value


@pytest.mark.parametrize(
    "cell", ["007", "-9007199254740993", "9223372036854775807", "12E05", "1e10", "5E2", "000001.png"]
)
def test_ids_stay_as_they_are_written(cell: str) -> None:
    assert identifier(f" {cell} ", "t.csv:2") == cell


@pytest.mark.parametrize("cell", ["1.23457E+18", "-3.2E+17", "1,23457E+18", "1E+18", "1.2345678901234568e+18"])
def test_an_id_that_excel_rounded_is_one_line(cell: str) -> None:
    with pytest.raises(DataError, match=r"^t\.csv:2: got id .* as Excel rounds a long number"):
        identifier(cell, "t.csv:2")


@pytest.mark.parametrize(
    ("written", "name"),
    [("a/b.JPG", "b"), ("a\\b.png", "b"), ("b", "b"), ("v1.2", "v1.2"), ("a/b.v2.jpeg", "b.v2"), ("x\ny.jpg", "x_y")],
)
def test_the_id_of_a_photo_is_its_name(written: str, name: str) -> None:
    assert image_id_of(written) == name


SCALAR = st.text(st.characters(exclude_categories=("Cs",)), max_size=8) | st.integers(-(2**70), 2**70) | st.booleans()
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


@settings(max_examples=200, deadline=None)
@given(value=st.lists(VALUE, max_size=4) | st.dictionaries(st.text(max_size=3), VALUE, max_size=4))
def test_what_python_and_json_write_reads_back(value: object) -> None:
    assert literal(repr(value), "t.csv:2") == ast.literal_eval(repr(value)) == value
    assert literal(json.dumps(value), "t.csv:2") == value


@settings(max_examples=300, deadline=None)
@given(cell=st.text(max_size=40) | st.text(alphabet="[]{}()'\",:0123456789abn.-+ _", max_size=60))
def test_no_cell_raises_anything_else(cell: str) -> None:
    for read in (literal, texts, weights):
        with suppress(DataError):
            read(cell, "t.csv:2")

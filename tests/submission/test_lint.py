"""submission/lint*: each case of examples/official-scorer.md that stops or loses is refused by name.

Each case takes a valid submission, breaks one thing, and asserts that the message names the file and the fault.
"""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_dataset import (
    ANSWERS,
    MASKS,
    answers,
    blob,
    files_of,
    images_of,
    make_prepared,
    tiff,
    write_folder,
    write_zip,
)

from magic_cli.data.prepared import open_prepared
from magic_cli.errors import SubmissionError
from magic_cli.submission import lint as linter
from magic_cli.submission.archive import open_archive
from magic_cli.submission.expected import Expected, Findings, expected_of
from magic_cli.submission.lint import lint
from magic_cli.submission.reader import open_predictions

Files = dict[str, bytes]
FIRST, SIZE = next(iter(images_of("test").items()))
NAME = f"{MASKS}/{FIRST}_mask_sys.tiff"


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Expected:
    return expected_of(open_prepared(make_prepared(tmp_path_factory.mktemp("linter"))), "test")


def check(path: Path, expected: Expected | None) -> list[str]:
    with open_archive(path) as archive:
        return lint(archive, expected)


def rows_of(files: Files) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(files[ANSWERS])
    return rows


def with_rows(change: Callable[[list[dict[str, Any]]], object]) -> Callable[[Files], None]:
    """Return a breaker that changes the parsed rows in place, or replaces them by what `change` returns."""

    def apply(files: Files) -> None:
        rows = rows_of(files)
        other = change(rows)
        files[ANSWERS] = json.dumps(rows if other is None else other).encode()

    return apply


def with_value(value: object, qid: str = "CQID010-001") -> Callable[[Files], None]:
    return with_rows(lambda rows: rows[0].update({qid: value}))


def with_id(written: str) -> Callable[[Files], None]:
    return with_rows(lambda rows: rows[0].update(encounter_id=written))


def with_mask(mask: np.ndarray, **options: Any) -> Callable[[Files], None]:
    return lambda files: files.update({NAME: tiff(mask, **options)})


def with_name(name: str) -> Callable[[Files], None]:
    return lambda files: files.update({name: files.pop(NAME)})


def with_pillow(mode: str, compression: str) -> Callable[[Files], None]:
    def apply(files: Files) -> None:
        buffer = io.BytesIO()
        Image.fromarray(blob(SIZE) * 255).convert(mode).save(buffer, "TIFF", compression=compression)
        files[NAME] = buffer.getvalue()

    return apply


def drop_key(rows: list[dict[str, Any]], qid: str) -> None:
    del rows[1][qid]


def unpad(rows: list[dict[str, Any]]) -> None:
    rows[0]["CQID010-1"] = rows[0].pop("CQID010-001")


def drop_parent(rows: list[dict[str, Any]]) -> None:
    for n in range(1, 7):
        del rows[1][f"CQID011-{n:03}"]


def again(rows: list[dict[str, Any]], **change: object) -> None:
    rows.append(rows[0] | change)


ANSWERS_CASES: dict[str, tuple[Callable[[Files], Any], list[str]]] = {
    "01 lacks an encounter": (with_rows(lambda rows: rows.pop(1) and None), [f"{ANSWERS}:ENC00022: got no such row"]),
    "02 extra encounter": (with_rows(lambda rows: again(rows, encounter_id="ENC00099")), ["ENC00099", "split 'test'"]),
    "02 other split": (with_rows(lambda rows: again(rows, encounter_id="ENC00011")), ["ENC00011", "is --split right"]),
    "03 lacks a single slot": (
        with_rows(lambda rows: drop_key(rows, "CQID034-001")),
        ["ENC00022:CQID034-001: got no an"],
    ),
    "04 lacks a sibling": (
        with_rows(lambda rows: drop_key(rows, "CQID011-003")),
        ["ENC00022:CQID011-003: got no answer"],
    ),
    "05 lacks a parent": (with_rows(drop_parent), ["6 items", "ENC00022:CQID011-001", "CQID011-006"]),
    "08 an empty object": (with_rows(lambda _: {}), ["got an object"]),
    "07 JSON absent": (lambda files: files.pop(ANSWERS), [f"{ANSWERS}: got no such file"]),
    "07 JSON misnamed": (
        lambda files: files.update({"sys.json": files.pop(ANSWERS)}),
        ["sys.json: got an unknown file"],
    ),
    "08b dict by encounter": (with_rows(lambda r: {x["encounter_id"]: x for x in r}), ["got an object", "list"]),
    "09 strings": (with_value("0"), [f"{ANSWERS}:ENC00021:CQID010-001 ('0'): got a string"]),
    "10 floats": (with_value(0.0), ["CQID010-001 (0.0): got a float", "write 0, not 0.0"]),
    "10 other float": (with_value(0.5), ["CQID010-001 (0.5): got a float"]),
    "10 NaN": (with_value(float("nan")), ["CQID010-001 (nan): got a float"]),
    "11 null": (with_value(None), ["CQID010-001: got null"]),
    "11 bool": (with_value(True), ["CQID010-001: got true or false"]),
    "12 list": (with_value([0]), ["CQID010-001: got a list"]),
    "12 object": (with_value({"0": 1}), ["CQID010-001: got a JSON object"]),
    "13 99": (with_value(99), ["CQID010-001 (99 of 0..3): got an index out of range"]),
    "13 -1": (with_value(-1), ["CQID010-001 (-1 of 0..3): got an index out of range"]),
    "14 duplicate": (with_rows(again), ["ENC00021: got the same encounter twice"]),
    "15 duplicate, other": (with_rows(lambda rows: again(rows, **{"CQID010-001": 3})), ["ENC00021: got the same enc"]),
    "16 suffix": (with_id("ENC00021-1"), ["ENC00021-1: got an id with a suffix"]),
    "16 suffixes unite": (with_rows(lambda rows: again(rows, encounter_id="ENC00021-2")), ["ENC00021-2: got the same"]),
    "17 underscore": (with_id("ENC00021_1"), ["ENC00021_1: got no encounter", "ENC00021: got no such row"]),
    "18 lower case": (with_id("enc00021"), ["enc00021: got an id in lower case"]),
    "19 unpadded key": (with_rows(unpad), ["ENC00021:CQID010-1: got an unpadded key"]),
    "20 unknown key": (with_value(0, "CQID0100001"), ["CQID0100001: got an unknown key"]),
    "25 BOM": (lambda f: f.update({ANSWERS: b"\xef\xbb\xbf" + f[ANSWERS]}), [f"{ANSWERS}: got a byte-order mark"]),
    "invalid JSON": (lambda f: f.update({ANSWERS: f[ANSWERS][:-9]}), ["got invalid JSON (Unterminated string"]),
    "not UTF-8": (lambda f: f.update({ANSWERS: b"\xff\xfe["}), ["got text that is no JSON"]),
    "nested too deeply": (lambda f: f.update({ANSWERS: b"[" * 100_000}), ["got invalid JSON"]),
    "a row that is no object": (with_rows(lambda rows: rows.append(7)), [f"{ANSWERS}:row 3: got no encounter"]),
    "key twice": (
        lambda f: f.update({ANSWERS: f[ANSWERS].replace(b'"CQID010-001"', b'"CQID010-001": 0, "CQID010-001"', 1)}),
        ["ENC00021:CQID010-001: got the same key twice"],
    ),
}


def with_thumbnail(files: Files) -> None:
    buffer = io.BytesIO()
    small = Image.fromarray(blob((6, 8)))
    Image.fromarray(blob(SIZE)).save(buffer, "TIFF", save_all=True, append_images=[small])
    files[NAME] = buffer.getvalue()


MASK_CASES: dict[str, tuple[Callable[[Files], Any], list[str]]] = {
    "30 masks beside masks_preds": (
        with_name(f"{FIRST}_mask_sys.tiff"),
        [f"{FIRST}_mask_sys.tiff: got an unknown file"],
    ),
    "32 lacks a mask": (lambda files: files.pop(NAME), [f"{NAME}: got no such file", "KeyError"]),
    "33 extra mask": (
        lambda files: files.update({f"{MASKS}/IMG_ENC00099_00001_mask_sys.tiff": files[NAME]}),
        ["IMG_ENC00099_00001_mask_sys.tiff: got no photo of split 'test'"],
    ),
    "34 transposed": (with_mask(blob(SIZE).T), [NAME, "transposed: (W, H) instead of (H, W)"]),
    "34 as many pixels": (with_mask(blob(SIZE).reshape(16, 48)), [NAME, "got another size"]),
    "35 other size": (with_mask(blob((12, 16))), [NAME, "(12, 16) instead of (24, 32)", "got another size"]),
    "36 0/255": (with_mask(blob(SIZE) * 255), [NAME, "got values {0, 255}", "divide by 255"]),
    "63 value 2": (with_mask(blob(SIZE) * 2), [NAME, "(0..2): got values other than 0 and 1"]),
    "63 three values": (with_mask(blob(SIZE) + blob(SIZE, 3)), [NAME, "got values other than 0 and 1"]),
    "38b probabilities": (with_mask(blob(SIZE) * np.float32(0.7)), [NAME, "(0..0.7): got probabilities"]),
    "38c NaN": (with_mask(np.full(SIZE, np.nan, np.float32)), [NAME, "got values other than 0 and 1"]),
    "39 multi-page": (with_mask(np.stack([blob(SIZE)] * 2)), [NAME, "got a TIFF of several pages"]),
    "41 RGB": (with_mask(np.stack([blob(SIZE)] * 3, -1), photometric="rgb"), [NAME, "got a mask of another form"]),
    "43 empty": (with_mask(np.zeros(SIZE, np.uint8)), [NAME, "got an empty mask", "NaN"]),
    "47 other suffix": (with_name(f"{MASKS}/{FIRST}_mask_ann1.tiff"), ["_mask_ann1.tiff: got another suffix"]),
    "48 mask_mask": (with_name(f"{MASKS}/{FIRST}_mask_mask_sys.tiff"), ["_mask_mask_sys.tiff: got another suffix"]),
    "49 .tif": (with_name(NAME[:-1]), ["_mask_sys.tif: got extension .tif"]),
    "50 .TIFF": (with_name(NAME[:-4] + "TIFF"), ["_mask_sys.TIFF: got extension .TIFF"]),
    "51 .png": (with_name(NAME[:-4] + "png"), ["_mask_sys.png: got extension .png"]),
    "52 corrupt": (lambda files: files.update({NAME: files[NAME][:40]}), [NAME, "got an unreadable file"]),
    "52 no TIFF": (lambda files: files.update({NAME: b"hello"}), [NAME, "got an unreadable file"]),
    "52 nothing": (lambda files: files.update({NAME: b""}), [NAME, "got an unreadable file"]),
    "53 nested": (
        with_name(f"{MASKS}/{MASKS}/{FIRST}_mask_sys.tiff"),
        [f"{MASKS}/{MASKS}/", "got a mask in a sub-folder"],
    ),
    "59 LZW": (with_pillow("L", "tiff_lzw"), [f"{NAME} (LZW): got a compression", "imagecodecs"]),
    "60 G4": (with_pillow("1", "group4"), [f"{NAME} (CCITTFAX4): got a compression"]),
    "65 white-is-zero": (
        with_mask(blob(SIZE), photometric="miniswhite"),
        [NAME, "got white-is-zero: officially read inverted", "write MINISBLACK 0/1"],
    ),
    "66 palette": (
        with_mask(blob(SIZE), photometric="palette", colormap=np.repeat([np.arange(256)[::-1] * 257], 3, 0)),
        [NAME, "got with a palette that shows 0 as the brighter colour: officially read inverted"],
    ),
    "67 orientation": (
        with_mask(blob(SIZE), extratags=[(274, 3, 1, 3, True)]),
        [NAME, "got with an orientation tag other than 1: officially read as stored, not turned"],
    ),
    "68 thumbnail": (with_thumbnail, [NAME, "got a mask with another page behind it, such as a thumbnail"]),
    "64 int16 256": (with_mask(blob(SIZE).astype(np.int16) * 256), [NAME, "(0..256): got values other than 0 and 1"]),
    "64 negative": (with_mask(-blob(SIZE).astype(np.int16)), [NAME, "got values other than 0 and 1"]),
}
ROOT_CASES: dict[str, tuple[Callable[[Files], Any], list[str]]] = {
    "top-level folder": (
        lambda f: [f.update({f"sub/{name}": f.pop(name)}) for name in list(f)],
        [f"sub/{MASKS}/: got {MASKS}/ at another place", "put both at the root of the zip"],
    ),
    "macOS folder": (
        lambda f: f.update({f"__MACOSX/{MASKS}/._x": b"x"}),
        ["__MACOSX/", "got a file that the system added", "zip -d FILE '__MACOSX/*'"],
    ),
    "DS_Store": (lambda f: f.update({f"{MASKS}/.DS_Store": b"x"}), [f"{MASKS}/.DS_Store: got a file that the system"]),
    "readme": (lambda f: f.update({"readme.txt": b"x"}), ["readme.txt: got an unknown file"]),
    "nothing": (lambda f: [f.pop(name) for name in list(f)], ["got nothing"]),
    "nothing to score": (
        lambda f: [f.pop(name) for name in list(f) if name != ANSWERS] and f.update({ANSWERS: b"[]"}),
        ["got nothing to score"],
    ),
}
CASES = ANSWERS_CASES | MASK_CASES | ROOT_CASES


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str, expected: Expected, tmp_path: Path) -> None:
    change, texts = CASES[case]
    files = files_of("test")
    change(files)
    lines = check(write_zip(tmp_path / "s.zip", files), expected)
    assert lines
    assert all(line.startswith(str(tmp_path / "s.zip")) for line in lines)
    for text in texts:
        assert any(text in line for line in lines), lines


SINGLE = [
    case
    for case in CASES
    if case not in ("16 suffixes unite", "17 underscore", "07 JSON misnamed", "30 masks beside masks_preds")
]


@pytest.mark.parametrize("case", [case for case in SINGLE if case not in ROOT_CASES])
def test_one_fault_gives_one_line(case: str, expected: Expected, tmp_path: Path) -> None:
    """A fault is not reported a second time as something missing."""
    files = files_of("test")
    CASES[case][0](files)
    lines = check(write_zip(tmp_path / "s.zip", files), expected)
    assert len(lines) == 1, lines


ACCEPTED: dict[str, Callable[[Files], Any]] = {
    "as it is": dict.copy,
    "37 bool": with_mask(blob(SIZE).astype(bool)),
    "38 float 0/1": with_mask(blob(SIZE).astype(np.float32)),
    "40 (H, W, 1)": with_mask(blob(SIZE)[..., None]),
    "61 one bit": with_pillow("1", "raw"),
    "62 deflate": with_mask(blob(SIZE), compression="zlib"),
    "62 deflate, old number": with_pillow("L", "tiff_deflate") and with_mask(blob(SIZE), compression="deflate"),
    "packbits": with_pillow("1", "packbits"),
    "uint16": with_mask(blob(SIZE).astype(np.uint16)),
    "full mask": with_mask(np.ones(SIZE, np.uint8)),
    "answers alone": lambda files: [files.pop(name) for name in list(files) if name != ANSWERS],
    "masks alone": lambda files: files.update({ANSWERS: b"[]"}),
    "slots in free order": with_rows(lambda rows: rows[0].update({"CQID011-001": 7, "CQID011-006": 2})),
    "rows in another order": with_rows(lambda rows: rows.reverse()),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(case: str, expected: Expected, tmp_path: Path) -> None:
    files = files_of("test")
    ACCEPTED[case](files)
    assert check(write_zip(tmp_path / "s.zip", files), expected) == []
    assert check(write_folder(tmp_path / "folder", files), expected) == []


def test_a_folders_litter_stays_behind(expected: Expected, tmp_path: Path) -> None:
    files = files_of("test") | {f"{MASKS}/.DS_Store": b"x", "Thumbs.db": b"x"}
    assert check(write_folder(tmp_path, files), expected) == []


def test_all_problems_at_once_and_equal_ones_together(expected: Expected, tmp_path: Path) -> None:
    files = {name: data if name == ANSWERS else tiff(blob((24, 32)) * 255) for name, data in files_of("test").items()}
    with_value("1")(files)
    with_value(None, "CQID036-001")(files)
    lines = check(write_zip(tmp_path / "s.zip", files), expected)
    kinds = ["values {0, 255}", "another size", "got a string", "got null"]
    assert len(lines) == len(kinds)
    for kind in kinds:
        assert sum(kind in line for line in lines) == 1
    assert "4 items" in next(line for line in lines if "255" in line)


def test_a_long_list_names_ten_and_counts_all(expected: Expected, tmp_path: Path) -> None:
    with open_archive(write_zip(tmp_path / "s.zip", {})) as archive:
        found = Findings(archive)
        for n in range(300):
            found.add(f"{MASKS}/IMG_{n}", "x", "y", "z")
        [line] = found.lines()
    assert "300 items" in line
    assert "IMG_9," in line
    assert "IMG_10" not in line


def test_hundreds_of_unsafe_members_are_one_line(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "s.zip", {f"../evil{n}": b"" for n in range(314)} | files_of("test"))
    [line] = check(path, None)
    assert line.startswith("314 items: ")
    with pytest.raises(SubmissionError, match=r"^314 items: "), open_predictions(path):
        pass


def test_without_prepared_the_form_is_still_checked(tmp_path: Path) -> None:
    files = files_of("test")
    assert check(write_zip(tmp_path / "s.zip", files), None) == []
    with_mask(blob(SIZE) * 255)(files)
    with_value("1")(files)
    with_id("ENC00021-3")(files)
    files[f"{MASKS}/x.png"] = b"x"
    lines = check(write_zip(tmp_path / "t.zip", files), None)
    for text in ("{0, 255}", "got a string", "with a suffix", "extension .png"):
        assert any(text in line for line in lines), lines


def test_valid_split_requires_gold_and_allows_the_rest(tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "prepared"))
    expected = expected_of(prepared, "valid")
    assert expected.encounters == {"ENC00011": True, "ENC00012": True}
    assert check(write_zip(tmp_path / "s.zip", files_of("valid")), expected) == []
    rows = [{"encounter_id": "ENC00011", **answers("ENC00011")}]
    lines = check(write_zip(tmp_path / "t.zip", {ANSWERS: json.dumps(rows).encode()}), expected)
    assert len(lines) == 1
    assert "ENC00012: got no such row" in lines[0]


MADE = {
    "good": np.eye(4, 5),
    "turned": np.eye(5, 4) * 255,
    "grey": np.arange(20).reshape(4, 5),
    "empty": np.zeros((4, 5)),
}


@pytest.mark.parametrize("kind", list(MADE))
def test_a_plain_mask_is_checked_without_a_tiff_library(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """tifffile opened each mask twice: before and after the zip is made."""
    data = tiff(MADE[kind].astype(np.uint8))
    with monkeypatch.context() as patch:
        patch.setattr(linter, "read_plain", lambda _: None)
        expected = list(linter.mask_faults(io.BytesIO(data), (4, 5)))
    monkeypatch.setitem(sys.modules, "tifffile", None)  # importing it fails
    assert list(linter.mask_faults(io.BytesIO(data), (4, 5))) == expected
    assert len(expected) == {"good": 0, "turned": 2}.get(kind, 1)

"""Every JSON that magic reads, broken in every way: one line that names the file, the documented exit code."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import CANARY, Magic, accepted, clean, copied, left, refused
from tiny_dataset import ANSWERS, files_of, make_prepared, row, write_folder

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def wrapped(data: bytes) -> bytes:
    """An object where a list belongs, a list where an object belongs."""
    value = json.loads(data)
    return json.dumps({"rows": value} if isinstance(value, list) else [value]).encode()


def typed(data: bytes) -> bytes:
    """All values of all rows of another type than they should have."""

    def other(value: Any) -> Any:
        return [CANARY] if not isinstance(value, list) else {"text": CANARY}

    value = json.loads(data)
    rows = value if isinstance(value, list) else [value]
    changed = [{key: other(old) for key, old in row.items()} for row in rows]
    return json.dumps(changed if isinstance(value, list) else changed[0]).encode()


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "blank": lambda _: b" \n\t",
    "truncated": lambda data: data[: len(data) * 2 // 3],
    "utf-16": lambda data: data.decode().encode("utf-16"),
    "latin-1": lambda data: data[: len(data) // 2] + b"\xe9" + data[len(data) // 2 :],
    "null bytes": lambda data: bytes(len(data)),
    "huge integer": lambda _: b"[" + b"9" * 5000 + b"]",
    "nested lists": lambda _: b"[" * 100_000,
    "nested objects": lambda _: b'{"a":' * 100_000,
    "NaN": lambda _: b"NaN",
    "number": lambda _: b"7",
    "null": lambda _: b"null",
    "text": lambda _: json.dumps(CANARY).encode(),
    "list of lists": lambda _: b"[[[]]]",
    "list for object, object for list": wrapped,
    "key twice": lambda data: re.sub(rb"\{", b'{"twice": 1, "twice": 2, ', data, count=1),
    "wrong types": typed,
}


def broken(path: Path, how: str) -> Path:
    """Break a file; of a file with one object a line, its first line."""
    data = path.read_bytes()
    if path.suffix == ".jsonl":
        first, rest = data.split(b"\n", 1)
        whole = how in ("empty", "blank", "utf-16", "null bytes")
        path.write_bytes(BROKEN[how](data if whole else first) + (b"" if whole else b"\n" + rest))
    else:
        path.write_bytes(BROKEN[how](data))
    return path


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("name", ["train.json", "valid_cvqa.json"])
def test_tables_of_the_challenge(magic: Magic, raw: Path, tmp_path: Path, name: str, how: str) -> None:
    """Lenient: the file is a problem and the rest goes on; strict: exit 3 and nothing is written."""
    data = copied(raw, tmp_path / "raw")
    broken(data / name, how)
    refused(magic("prepare", "--data", data, "--strict", "--out", "out"), 3, name)
    assert left(Path()) == []
    accepted(magic("prepare", "--data", data, "--dry-run"), name)


@pytest.mark.parametrize("how", BROKEN)
def test_definitions_of_the_challenge(magic: Magic, raw: Path, tmp_path: Path, how: str) -> None:
    data = copied(raw, tmp_path / "raw")
    broken(next(data.glob("closedquestions*.json")), how)
    refused(magic("prepare", "--data", data), 3, "closedquestions_definitions_imageclef2025.json")
    assert left(Path()) == []


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A small prepared dataset and a sound submission for its test split."""
    make_prepared(tmp_path / "prepared")
    write_folder(tmp_path / "sub", files_of("test"))
    return tmp_path


PREPARED = ("prepare.json", "cases.jsonl", "images.jsonl", "questions.json")


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("name", PREPARED)
def test_prepared(magic: Magic, sound: Path, name: str, how: str) -> None:
    broken(sound / "prepared" / name, how)
    words = ("package", "--cvqa", sound / "sub", "--seg", sound / "sub", "--data", sound / "prepared")
    refused(magic(*words), 3, name)
    assert left(Path()) == []


@pytest.mark.parametrize("how", BROKEN)
def test_predicted_answers_are_refused_before_upload(magic: Magic, sound: Path, how: str) -> None:
    broken(sound / "sub" / ANSWERS, how)
    refused(magic("package", "--check-only", sound / "sub", "--data", sound / "prepared"), 4, ANSWERS)
    again = write_folder(sound / "other", files_of("test"))
    words = ("predict", "cvqa", "--vote", again, sound / "sub", "--data", sound / "prepared")
    refused(magic(*words), 4, ANSWERS)
    assert left(Path()) == []


@pytest.mark.parametrize("how", BROKEN)
def test_predictions_to_score(magic: Magic, tmp_path: Path, how: str) -> None:
    """A file that is no list is refused; a bad row costs itself only."""
    pred = tmp_path / "preds.json"
    pred.write_bytes((EXAMPLES / "preds.json").read_bytes())
    broken(pred, how)
    ended = clean(magic("score", pred, EXAMPLES / "gold.json", "--resamples", 100, "--out", "report"))
    if how == "key twice":  # as the official scorer: the last one counts
        accepted(ended)
    else:
        refused(ended, 4, "preds.json")
        assert left(Path()) == []


@pytest.mark.parametrize("how", BROKEN)
def test_gold(magic: Magic, tmp_path: Path, how: str) -> None:
    gold = tmp_path / "gold.json"
    gold.write_bytes((EXAMPLES / "gold.json").read_bytes())
    broken(gold, how)
    refused(magic("score", EXAMPLES / "preds.json", gold, "--resamples", 100), 3, "gold.json")


@pytest.mark.parametrize("how", BROKEN)
def test_training_curves(magic: Magic, tmp_path: Path, how: str) -> None:
    (tmp_path / "run").mkdir()
    curves = tmp_path / "run" / "metrics.jsonl"
    curves.write_text('{"epoch": 1, "loss": 0.5}\n{"epoch": 2, "loss": 0.25}\n')
    broken(curves, how)
    words = ("score", EXAMPLES / "preds.json", EXAMPLES / "gold.json", "--resamples", 100)
    ended = clean(magic(*words, "--run", tmp_path / "run", "--out", "report"))
    if how in ("empty", "blank"):
        accepted(ended)  # a run that has not finished an epoch
    else:
        refused(ended, 3, "metrics.jsonl")
        assert left(Path()) == []


@pytest.mark.parametrize("how", BROKEN)
def test_what_is_beside_answers(magic: Magic, tmp_path: Path, how: str) -> None:
    """Two files are for people: damaged, they are not used, and the scores are there all the same."""
    beside = {"predictions.jsonl": '{"encounter_id": "ENC00001", "answers": {}}\n', "neighbours.json": "{}"}
    write_folder(tmp_path / "sub", {ANSWERS: (EXAMPLES / "preds.json").read_bytes()})
    for name, text in beside.items():
        (tmp_path / "sub" / name).write_text(text)
        broken(tmp_path / "sub" / name, how)
    said = ("neighbours.json",) if how in ("empty", "blank") else tuple(beside)
    accepted(magic("score", tmp_path / "sub", EXAMPLES / "gold.json", "--resamples", 100), *said)


GOOD = {
    "byte-order mark": lambda data: b"\xef\xbb\xbf" + data,
    "indented": lambda data: json.dumps(json.loads(data), indent=4).encode(),
    "escaped": lambda data: json.dumps(json.loads(data), ensure_ascii=True).encode(),
    "Windows line ends": lambda data: json.dumps(json.loads(data), indent=1).replace("\n", "\r\n").encode(),
    "unknown keys": lambda data: json.dumps([{**r, "later": {"a": [None]}} for r in json.loads(data)]).encode(),
    "NaN where nobody looks": lambda data: data.replace(b'"author_id": "U1"', b'"completeness": NaN'),
    "half surrogate pairs": lambda data: data.replace(b"query_content_zh", b"\\ud800", 1),
}


@pytest.mark.parametrize("how", GOOD)
def test_tables_that_work(magic: Magic, raw: Path, tmp_path: Path, how: str) -> None:
    data = copied(raw, tmp_path / "raw")
    path = data / "train.json"
    path.write_bytes(GOOD[how](path.read_bytes()))
    accepted(magic("prepare", "--data", data, "--strict", "--dry-run"))


def test_values_of_rows_that_are_no_answers(magic: Magic, sound: Path) -> None:
    """Each kind of value in each kind of place, all in one file: the linter names every one."""
    values: list[Any] = [None, True, "0", 0.0, 1e300, -1, 10**30, [0], {"a": 0}, float("nan"), float("inf"), CANARY]
    rows = [row("ENC00021") for _ in values]
    for value, one in zip(values, rows, strict=True):
        one["CQID034-001"] = value
    (sound / "sub" / ANSWERS).write_text(json.dumps([*rows, None, 7, CANARY, [], {CANARY: 1}]))
    lines = refused(magic("package", "--check-only", sound / "sub", "--data", sound / "prepared"), 4)
    for kind in ("null", "true or false", "a string", "a float", "a list", "out of range", "no encounter", "twice"):
        assert any(kind in line for line in lines), kind


def test_half_surrogate_pairs_in_a_prepared_dataset(magic: Magic, ready: Path, tmp_path: Path) -> None:
    """Valid JSON that UTF-8 cannot hold: the text encoders get U+FFFD."""
    data = copied(ready, tmp_path / "prepared")
    path = data / "cases.jsonl"
    path.write_bytes(path.read_bytes().replace(CANARY[:9].encode(), b"\\ud800"))
    words = ("--preset", "tiny", "--modality", "text", "--set", "epochs=1", "--no-cache")
    accepted(magic("train", "cvqa", *words, "--data", data))


@pytest.mark.parametrize("name", ["cases.jsonl", "images.jsonl"])
@pytest.mark.parametrize("at", [0, -1])
def test_a_prepared_dataset_that_lost_a_line(magic: Magic, sound: Path, name: str, at: int) -> None:
    """Cut at a line's end, a file is valid, and smaller: training on it would be told to nobody."""
    path = sound / "prepared" / name
    lines = path.read_text().splitlines(keepends=True)
    del lines[at]
    path.write_text("".join(lines))
    refused(magic("package", "--cvqa", sound / "sub", "--data", sound / "prepared"), 3, name)

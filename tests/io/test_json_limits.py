"""JSON that is small as text and huge in memory is refused before it is parsed; what users have is read."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from magic_cli.errors import DataError
from magic_cli.io import json_files
from magic_cli.io.json_files import RepeatedKey, TooManyValues, count_values, parse_json, read_json, read_jsonl

BOMBS: dict[str, Callable[[int], str]] = {
    "empty lists": lambda n: "[" + "[]," * n + "0]",
    "empty objects": lambda n: "[" + "{}," * n + "0]",
    "numbers": lambda n: "[" + "1," * n + "0]",
    "texts": lambda n: "[" + '"",' * n + "0]",
    "keys": lambda n: "{" + ",".join(f'"{i}":0' for i in range(n)) + "}",
    "lists below a key": lambda n: '{"a":{"b":[' + "[]," * n + "0]}}",
    "after an unfinished text": lambda n: "[" + "[]," * n + '"' + '\\"' * n,
}


@pytest.mark.parametrize("how", BOMBS)
def test_many_values_are_counted_before_they_are_made(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "MAX_VALUES", 1000)
    monkeypatch.setattr(json, "loads", lambda *_, **__: pytest.fail("parsed"))
    with pytest.raises(TooManyValues):
        parse_json(BOMBS[how](1001).encode())


def test_commas_and_brackets_in_texts_are_no_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "MAX_VALUES", 100)
    texts = ["red, itchy, dry" * 99, "[{" * 99, '\\" , [' * 99, "\\\\" * 3 + ",", "皮疹, 瘙痒" * 99]
    for ensure_ascii in (True, False):
        data = json.dumps([{"text": text} for text in texts], ensure_ascii=ensure_ascii).encode()
        assert parse_json(data) == [{"text": text} for text in texts]
        assert count_values(data) == 2 * len(texts)


def test_the_largest_tables_of_the_load_test_are_far_below_the_limit() -> None:
    row = {"encounter_id": "ENC00001", **{f"CQID{number:03d}-001": 1 for number in range(27)}}
    assert 30_000 * (count_values(json.dumps(row).encode()) + 1) < json_files.MAX_VALUES / 3


def test_a_key_twice_is_found_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are compared by their hash: each comparison of two texts that differ would count."""
    compared = 0

    class Key(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    count = 20_000
    pairs: list[tuple[str, object]] = [(Key(number), 0) for number in [*range(count), count - 1]]
    with pytest.raises(RepeatedKey, match="twice in one object"):
        json_files._unique_keys(pairs)
    assert compared < 10 * count
    with pytest.raises(RepeatedKey, match="twice in one object"):
        parse_json(b'[{"a": [{"b": 1, "c": {}, "b": 2}]}]')


def test_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"[" + b" " * 98 + b"]")
    assert read_json(path, 100) == []
    with pytest.raises(DataError, match="got 100 bytes, expected at most 99 bytes of JSON"):
        read_json(path, 99)
    with path.open("wb") as file:
        file.truncate(1 << 40)  # no block of it is on the disk
    with pytest.raises(DataError, match="got 1 TiB, expected at most 256 MiB"):
        read_json(path)
    monkeypatch.setattr(json_files, "MAX_LINE", 50)
    with pytest.raises(DataError, match=r"a\.json:1: got 51 bytes, expected at most 50 bytes"):
        read_jsonl(path)
    path.write_bytes(b"[1,2,3]\n" * 1000)  # together far longer than a line may be
    assert len(read_jsonl(path)) == 1000
    monkeypatch.setattr(json_files, "MAX_VALUES", 100)
    assert len(list(json_files.each_row(path))) == 1000
    with pytest.raises(DataError, match="million values"):
        read_jsonl(path)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"PK\x03\x04\xff", "got a zip, expected JSON in UTF-8; is it the right file"),
        (b"\x1f\x8b\x08", "got a gzip file, expected JSON"),
        (bytes(10), "got null bytes, expected JSON"),
        (b"[1, 2", ":1:6: not valid JSON .*; was it cut off while copying"),
        (b"[1,, 2]", ":1:4: not valid JSON .*; correct it there"),
        (b"encounter_id;a", r"got a table \(CSV\), expected JSON in UTF-8; is it the right file"),
    ],
)
def test_what_is_whole_but_no_json_was_not_cut_off(tmp_path: Path, data: bytes, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(DataError, match=text):
        read_json(path)

"""JSON files: read with error messages that name the place, written atomically and safe to print."""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from magic_cli.errors import DataError, problem, redact
from magic_cli.io.file_kinds import kind_of_no_json
from magic_cli.io.files import write_parts
from magic_cli.io.regular_file import binary_size, open_regular

PairsHook = Callable[[list[tuple[str, Any]]], Any]

MAX_JSON = 1 << 28  # bytes of a file that is parsed as a whole; one that is read line by line may be larger

MAX_ANSWERS = 1 << 26  # bytes of answers, predicted or gold: a thousand times those of the challenge

MAX_ROWS = 200_000  # of answers

MAX_VALUES = 3_000_000  # of one document or line: at most 600 MB once they are parsed

MAX_LINE = 1 << 27  # bytes

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\Z)', re.DOTALL)


# characters that control a terminal or the writing direction, and unpaired surrogates, which UTF-8 cannot encode
_UNSAFE = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


def finite(value: Any) -> Any:
    """Return a JSON value in which NaN and infinities are replaced by None, at any depth, and tuples by lists.

    A dict without changes is returned itself: a report has tens of thousands of them, and copies add up.
    """
    if isinstance(value, Mapping):
        copy = {key: finite(inner) for key, inner in value.items()}
        is_same = isinstance(value, dict) and all(copy[key] is inner for key, inner in value.items())
        return value if is_same else copy
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(value: Any, indent: int | None = None) -> str:
    """Return JSON that is safe to print: control characters and unpaired surrogates are escaped.

    Other characters, of any script, stay readable. Parsing it gives the same value.

    Raises:
        ValueError: the value contains NaN or an infinity.
    """
    return _safe(json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False))


def _safe(text: str) -> str:
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def write_json(path: Path, value: Any) -> None:
    """Write indented UTF-8 JSON atomically, keys in their order; raises as `json_text` and `write_atomic`."""
    tokens = json.JSONEncoder(ensure_ascii=False, indent=2, allow_nan=False).iterencode(value)
    # in parts: all tokens of a long report take five times the memory of its text
    parts = iter(lambda: _safe("".join(islice(tokens, 4096))), "")
    write_parts(path, chain(parts, ("\n",)))


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write one JSON object per line, atomically, in UTF-8 as `write_text`; `rows` may be a generator."""
    write_parts(path, (json_text(row) + "\n" for row in rows))


def parse_json(data: bytes, hook: PairsHook | None = None, values: int | None = None) -> Any:
    """Parse JSON in UTF-8, with or without a byte-order mark.

    Args:
        data: the bytes of a file or of one of its lines.
        values: how many values it may hold; None for 3 million.
        hook: makes an object of its pairs; None refuses repeated keys, of which `json` would silently keep the last.

    Raises:
        ValueError: invalid JSON (JSONDecodeError if the position is known) or not UTF-8 (UnicodeDecodeError).
            RepeatedKey: a repeated key. TooManyValues: seen before they are made, as three bytes of text can become
            a hundred in memory.
        RecursionError: nested too deeply.
    """
    values = values or MAX_VALUES
    if count_values(data, values) > values:
        raise TooManyValues(f"more than {values / 1e6:.0f} million values")
    return json.loads(data.decode("utf-8-sig"), object_pairs_hook=hook or _unique_keys)


def count_values(data: bytes, most: int | None = None) -> int:
    """Return how many values JSON has at most: its commas, and brackets that open. Above `most` (3 million), about.

    Those in texts only count where all together are too many.
    """
    most = most or MAX_VALUES
    total = _count_tokens(data, 0, len(data))
    if total <= most:
        return total
    total = start = 0
    for text in _STRING.finditer(data):
        total += _count_tokens(data, start, text.start())
        start = text.end()
        if total > most:
            break
    return total + _count_tokens(data, start, len(data))


def _count_tokens(data: bytes, start: int, end: int) -> int:
    return data.count(b",", start, end) + data.count(b"[", start, end) + data.count(b"{", start, end)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise RepeatedKey(f"key {redact(repeated_keys(pairs)[0])} twice in one object")
    return unique


def repeated_keys(pairs: Sequence[tuple[str, Any]]) -> list[str]:
    """Return each repeated key of a JSON object once, in the order of their first occurrences."""
    return [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]


class RepeatedKey(ValueError):  # noqa: N818  the name says what is wrong
    """A JSON object contains a key more than once."""

    expected, remedy = "each key once", "remove one of them"


class TooManyValues(ValueError):  # noqa: N818
    """JSON holds more values than are read."""

    expected, remedy = "fewer", "is it the right file?"


def _read(path: Path, most: int) -> bytes:
    """Return the bytes of a regular file; raises DataError for more than `most`, without reading them."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        _refuse_long(path, size, most)
        return file.read(size)  # not `most`, for which room would be made


def _refuse_long(where: object, size: int, most: int) -> None:
    if size > most:
        expected = f"at most {binary_size(most)} of JSON"
        raise DataError(problem(where, f"{binary_size(size)}", expected, "is it the right file?"))


def read_json(path: Path, most: int = MAX_JSON, values: int | None = None) -> Any:
    """Parse a UTF-8 JSON file, with or without a byte-order mark.

    Raises:
        DataError: the file is missing or no regular file, over `most` bytes (256 MiB), of more than `values` (3
            million), not UTF-8, not JSON, or has a repeated key in an object; the message gives line and column if
            they are known.
    """
    try:
        data = _read(path, most)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    try:
        return parse_json(data, values=values)
    except (RepeatedKey, TooManyValues) as error:
        raise DataError(problem(path, error, error.expected, error.remedy)) from None
    except RecursionError:
        raise DataError(f"{path}: JSON nested too deeply; expected a list of flat objects") from None
    except ValueError as error:
        raise DataError(_not_json(path, data, error)) from None


def _not_json(path: Path, data: bytes, error: ValueError) -> str:
    """Return the line for a file that is no JSON: another kind of file, another encoding, or where it breaks off."""
    kind = kind_of_no_json(data[:4096])
    if kind:
        remedy = "re-encode it" if kind.startswith("text in") else "is it the right file?"
        return problem(path, kind, "JSON in UTF-8", remedy)
    if isinstance(error, UnicodeDecodeError):
        return problem(path, f"byte {error.start} that is not UTF-8", "UTF-8", "re-encode it")
    if not isinstance(error, json.JSONDecodeError):  # Python refuses to read an integer of more than 4,300 digits
        return problem(path, "an integer of thousands of digits", "JSON data", "check the file")
    where = f"{path}:{error.lineno}:{error.colno}"
    if error.pos >= len(error.doc.rstrip()):
        return f"{where}: not valid JSON ({error.msg}); was it cut off while copying?"
    return f"{where}: not valid JSON ({error.msg}); correct it there"


def read_jsonl(path: Path) -> list[Any]:
    """Parse one JSON value per line, with or without a byte-order mark; blank lines are skipped.

    Raises:
        DataError: as `read_json`, with the line number; or more than 6 million values in all.
    """
    rows = []
    values = 0
    for row, line in _rows(path):
        rows.append(row)
        values += count_values(line)
        if values > 2 * MAX_VALUES:
            got = f"more than {2 * MAX_VALUES / 1e6:.0f} million values"
            raise DataError(problem(path, got, "fewer", "is it the right file?"))
    return rows


def each_row(path: Path) -> Iterator[Any]:
    """Yield the values of `read_jsonl` one by one, so that only one line is in memory at a time.

    The file may be of any size, a line may have 128 MiB.
    """
    return (row for row, _ in _rows(path))


def _rows(path: Path) -> Iterator[tuple[Any, bytes]]:
    """Yield the value of each line that is not blank, with the line."""
    start = 0
    try:
        for number, line in enumerate(_lines(path), 1):
            text = line if start else line.removeprefix(b"\xef\xbb\xbf")
            if text.strip():
                yield _row(text, path, number, start), text
            start += len(line)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run `magic prepare` first") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a regular file with their line ends. Raises DataError for a longer line than 128 MiB."""
    with open_regular(path) as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            _refuse_long(f"{path}:{number}", len(line), MAX_LINE)
            yield line


def _row(line: bytes, path: Path, number: int, start: int) -> Any:
    """Parse a line, which begins `start` bytes after the beginning of the file."""
    where = f"{path}:{number}"
    try:
        return parse_json(line)
    except (RepeatedKey, TooManyValues) as error:
        raise DataError(problem(where, error, error.expected, error.remedy)) from None
    except UnicodeDecodeError as error:
        got = f"byte {start + error.start} that is not UTF-8"
        raise DataError(problem(path, got, "UTF-8", "re-encode it")) from None
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", "a number too long, or nested too deeply")
        raise DataError(f"{where}: not valid JSON ({reason}); run `magic prepare` again") from None

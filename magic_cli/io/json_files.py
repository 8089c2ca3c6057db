"""JSON files: read with error messages that name the place, written atomically and safe to print."""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from magic_cli.errors import DataError, problem, redact
from magic_cli.io.files import write_parts

MAX_JSON = 1 << 28


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


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line, atomically, in UTF-8 as `write_text`; `rows` may be a generator."""
    write_parts(path, (json_text(row) + "\n" for row in rows))


def parse_json(text: str) -> Any:
    """Parse JSON and refuse repeated keys in an object, of which `json` would silently keep the last.

    Raises:
        ValueError: invalid JSON (JSONDecodeError if the position is known). RepeatedKey: a repeated key.
        RecursionError: nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_unique_keys)


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


def _read(path: Path) -> bytes:
    """Return the bytes of a file or pipe; raises DataError for more than 256 MiB, without reading on."""
    data = bytearray()
    with path.open("rb") as file:
        _refuse_long(path, os.fstat(file.fileno()).st_size)
        while block := file.read(1 << 20):
            data += block
            _refuse_long(path, len(data))
    return bytes(data)


def _refuse_long(path: Path, size: int) -> None:
    if size > MAX_JSON:
        got = f"{size >> 20} MiB or more"
        raise DataError(problem(path, got, f"at most {MAX_JSON >> 20} MiB of JSON", "is it the right file?"))


def read_json(path: Path) -> Any:
    """Parse a UTF-8 JSON file, with or without a byte-order mark.

    Raises:
        DataError: the file is missing, over 256 MiB, not UTF-8, not JSON, or has a repeated key in an object; the
            message gives line and column if they are known.
    """
    try:
        return parse_json(_read(path).decode("utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    except UnicodeDecodeError as error:
        raise DataError(problem(path, f"byte {error.start} that is not UTF-8", "UTF-8", "re-encode it")) from None
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}:{error.colno}"
        raise DataError(f"{where}: not valid JSON ({error.msg}); was it cut off while copying?") from None
    except RepeatedKey as error:
        raise DataError(problem(path, error, "each key once", "remove one of them")) from None
    except RecursionError:
        raise DataError(f"{path}: JSON nested too deeply; expected a list of flat objects") from None
    except ValueError:  # Python refuses to read an integer of more than 4,300 digits
        raise DataError(problem(path, "an integer of thousands of digits", "JSON data", "check the file")) from None


def read_jsonl(path: Path) -> list[Any]:
    """Parse one JSON value per line, with or without a byte-order mark; blank lines are skipped.

    Raises:
        DataError: as `read_json`, with the line number.
    """
    return list(each_row(path))


def each_row(path: Path) -> Iterator[Any]:
    """Yield the values of `read_jsonl` one by one, so that only one line is in memory at a time."""
    number = start = 0
    try:
        for number, line in enumerate(_lines(path), 1):
            text = line.decode("utf-8" if start else "utf-8-sig")
            start += len(line)
            if text.strip():
                yield _row(text, f"{path}:{number}")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run `magic prepare` first") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    except UnicodeDecodeError as error:
        got = f"byte {start + error.start} that is not UTF-8"
        raise DataError(problem(path, got, "UTF-8", "re-encode it")) from None


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file with their line ends; raises as `_read`."""
    with path.open("rb") as file:
        _refuse_long(path, os.fstat(file.fileno()).st_size)
        size = 0
        while line := file.readline(MAX_JSON + 1 - size):
            _refuse_long(path, size := size + len(line))
            yield line


def _row(text: str, where: str) -> Any:
    try:
        return parse_json(text)
    except RepeatedKey as error:
        raise DataError(problem(where, error, "each key once", "remove one of them")) from None
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", "a number too long, or nested too deeply")
        raise DataError(f"{where}: not valid JSON ({reason}); run `magic prepare` again") from None

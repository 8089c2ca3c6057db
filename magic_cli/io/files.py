"""Files: atomic writes, hashes, JSON with error messages that name the place."""

import hashlib
import json
import math
import os
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from magic_cli.errors import DataError, printable, problem, redact
from magic_cli.io.locks import folder_lock, try_lock

StrPath = str | os.PathLike[str]

MAX_JSON = 1 << 28

# hidden names of files and folders that replace their target when they are complete
_TEMPORARY = re.compile(r"\..{1,60}(?:\.[0-9a-f]{8}\.tmp|-[0-9a-f]{8})", re.DOTALL)

# characters that control a terminal or the writing direction, and unpaired surrogates, which UTF-8 cannot encode
_UNSAFE = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Call `write` on a temporary file beside `path`, fsync it and rename it to `path`.

    A kill at any moment leaves the old file or the new one, never a partial one. Parent folders are created.
    The file gets the permissions of the user's umask.

    Raises:
        DataError: the folder cannot be written or the disk is full.
    """
    is_open = False
    try:
        with replacing(path) as file:
            is_open = True
            write(file)
    except (OSError, RuntimeError, ValueError) as error:
        if not is_open:  # ValueError: a null byte in the path
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{path}: cannot be written ({reason}); choose another --out") from None
        cause = error if isinstance(error, OSError) else error.__context__  # torch.save hides a full disk
        if not isinstance(cause, OSError):
            raise
        raise DataError(f"{path}: cannot be written ({cause.strerror or cause}); free space or --out") from None


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[IO[bytes]]:
    """Yield a new temporary file beside `path` that is renamed to `path` at the end, or removed after an error.

    Args:
        path: the file to write. Parent folders are created.
        durable: fsync first, so that a power failure cannot leave an empty file under the name `path`.

    Raises:
        OSError: the folder cannot be written or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, opened = _create_temporary(path)
    try:
        with opened as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
            if os.name == "posix":  # while it is locked, so that `sweep` does not take it for a dead process's
                temporary.replace(path)
        if os.name != "posix":
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_path(path: Path, is_folder: bool = False) -> Path:
    """Return a new hidden name beside `path`, of the pattern that `is_leftover` and `sweep` know."""
    token = secrets.token_hex(4)
    return path.parent / (f".{path.name[:60]}-{token}" if is_folder else f".{path.name[:60]}.{token}.tmp")


def _create_temporary(path: Path) -> tuple[Path, IO[bytes]]:
    """Create and lock a temporary file; its mode follows the umask (reading the umask would mean changing it)."""
    while True:
        temporary = temporary_path(path)
        opened = temporary.open("x+b")
        with suppress(OSError):
            try_lock(opened)
        if os.fstat(opened.fileno()).st_nlink:
            return temporary, opened
        opened.close()  # another process swept it away before it was locked


def is_leftover(name: str) -> bool:
    """Return whether a file or folder has the name of a temporary one."""
    return _TEMPORARY.fullmatch(name) is not None


def is_empty(folder: Path) -> bool:
    """Return whether a folder is empty or contains only temporary files and folders."""
    return all(is_leftover(item.name) for item in folder.iterdir())


def sweep(folder: Path, result: str = "") -> None:
    """Remove what killed processes left in a folder; temporary files and folders of running ones are locked, and stay.

    Args:
        folder: where they wrote; if it cannot be read, nothing is done.
        result: also remove temporary folders, of a result of this name. (Those of other results may be the only copy,
            where a kill came between two renames.)
    """
    with suppress(OSError):
        for path in [path for path in folder.iterdir() if is_leftover(path.name)]:
            if path.suffix == ".tmp":
                with suppress(OSError), path.open("r+b") as file:
                    if try_lock(file):
                        path.unlink()
            elif result and path.name.rpartition("-")[0] == f".{result[:60]}":
                with folder_lock(path) as is_held:
                    if is_held:
                        shutil.rmtree(path, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically; unpaired surrogates (of file names that are not UTF-8) are written as \\udc80."""
    write_parts(path, (text,))


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


def write_parts(path: Path, parts: Iterable[str]) -> None:
    """Write UTF-8 text as `write_text`; `parts` may be a generator."""
    write_atomic(path, lambda file: file.writelines(part.encode("utf-8", "backslashreplace") for part in parts))


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


def sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes, read in 1 MiB blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def known_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes; read only once per process unless its size or time has changed."""
    status = path.stat()
    return _sha256_of(path, status.st_size, status.st_mtime_ns)


@cache
def _sha256_of(path: Path, _size: int, _mtime: int) -> str:
    return sha256(path)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise DataError when `path` exists (a folder: is not empty) and `overwrite` is false."""
    taken = not is_empty(path) if path.is_dir() else path.exists()
    if taken and not overwrite:
        raise DataError(f"{printable(path)}: already there; use --overwrite, or another --out")


def cache_root() -> Path:
    """Return the default folder of caches: $XDG_CACHE_HOME/magic or ~/.cache/magic.

    The folder may not exist yet. A relative XDG_CACHE_HOME is ignored, as the XDG specification demands.

    Raises:
        DataError: the user has no home folder, as in a container that runs under an arbitrary user id.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".cache") / "magic"
    except RuntimeError:
        remedy = "set HOME or XDG_CACHE_HOME, or use --cache-dir"
        raise DataError(problem("HOME", "no home folder of this user", "a place for the cache", remedy)) from None

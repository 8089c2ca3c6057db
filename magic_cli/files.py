"""Files: atomic writes, hashes, JSON that says where it is wrong."""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from magic_cli.errors import DataError, printable, problem


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Call `write` on a temporary file beside `path`, fsync it and rename it over `path`.

    A kill at any moment leaves the old file or the new one, never a torn one. Parents are made.
    The file gets the permissions that the user's umask gives.

    Raises:
        DataError: the folder cannot be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:60]}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}); choose another --out") from None
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}); free space or --out") from None
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomic(path, lambda file: file.write(text.encode("utf-8")))


def finite(value: Any) -> Any:
    """Return a JSON value like `value`: NaN and infinities become null at any depth, tuples lists."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> None:
    """Write valid, sorted-as-given, indented UTF-8 JSON atomically; NaN is refused by `json`."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, atomically."""
    write_text(path, "".join(json.dumps(r, ensure_ascii=False, allow_nan=False) + "\n" for r in rows))


def read_json(path: Path) -> Any:
    """Parse a UTF-8 JSON file, with or without a byte-order mark.

    Raises:
        DataError: the file is missing, not UTF-8 or not JSON; the message gives line and column.
    """
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise DataError(problem(path, f"byte {error.start} that is not UTF-8", "UTF-8", "re-encode it")) from None
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}:{error.colno}"
        raise DataError(f"{where}: not valid JSON ({error.msg}); was it cut off while copying?") from None
    except RecursionError:
        raise DataError(f"{path}: JSON nested too deeply; expected a list of flat objects") from None
    except ValueError:  # Python refuses to read an integer of more than 4,300 digits
        raise DataError(problem(path, "an integer of thousands of digits", "JSON data", "check the file")) from None


def read_jsonl(path: Path) -> list[Any]:
    """Parse one JSON value a line; blank lines are skipped.

    Raises:
        DataError: as `read_json`, with the line's number.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run `magic prepare` first") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                reason = getattr(error, "msg", "a number too long, or nested too deeply")
                raise DataError(f"{path}:{number}: not valid JSON ({reason}); run `magic prepare` again") from None
    return rows


def sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes, read in 1 MiB blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise DataError when `path` exists (a folder: is not empty) and `overwrite` is false."""
    taken = any(path.iterdir()) if path.is_dir() else path.exists()
    if taken and not overwrite:
        raise DataError(f"{printable(path)}: already there; use --overwrite, or another --out")


def cache_root() -> Path:
    """Return where caches live unless --cache-dir says otherwise: $XDG_CACHE_HOME/magic or ~/.cache/magic.

    The folder may not exist yet. A relative XDG_CACHE_HOME is ignored, as its specification asks.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "magic"

"""The folder that caches share: what lies in it, and how large it may grow. Who may remove what is lease.py's.

Layout: DTYPE/ab/KEY.safetensors (features) and pixels/ab/KEY.npy, each beside its temporary file while it is written.
Only files of these names are ever counted or removed: whatever else lies there belongs to somebody else.
"""

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from magic_cli.errors import ConfigError, DataError

LIMIT_GB = 20.0
SUFFIX = {"float16": ".safetensors", "float32": ".safetensors", "bfloat16": ".safetensors", "pixels": ".npy"}
_FRESH = 3600.0  # seconds: how exactly the time of the last use is kept
_DEAD = 3600.0  # seconds: whoever writes a file for longer is dead
_KEY, _TEMPORARY = re.compile("[0-9a-f]{64}"), re.compile(r"\.?[0-9a-f]{60,64}\..*\.tmp")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of ours: `name` is "KIND/KEY", `used` the time of its last use to the hour, in seconds since 1970."""

    name: str
    path: Path
    size: int
    used: float
    finished: bool


def spoken(size: float) -> str:
    """Return a number of bytes for people."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.2f} MB"


def limit() -> float:
    """Return how many bytes a cache folder may hold: $MAGIC_CACHE_GB x 1e9, 20 GB unless set; "inf" is no limit.

    Raises:
        ConfigError: not a number above zero.
    """
    text = os.environ.get("MAGIC_CACHE_GB", "").strip()
    try:
        found = float(text) if text else LIMIT_GB
    except ValueError:
        found = 0
    if not found > 0:
        raise ConfigError(f"MAGIC_CACHE_GB={text}: expected a number of gigabytes above 0, such as {LIMIT_GB:.0f}")
    return found * 1e9


def free_bytes(root: Path) -> int:
    """Return the free bytes of the disk that a folder, which may not exist yet, lies on."""
    return shutil.disk_usage(next(p for p in (root, *root.absolute().parents) if p.exists())).free


def touch(path: Path) -> int:
    """Note that a file is in use, at most once an hour; return its size in bytes, 0 where there is none."""
    try:
        stat = path.stat()
        if time.time() - stat.st_mtime > _FRESH:
            with contextlib.suppress(OSError):  # a shared cache may be another user's, or read-only
                os.utime(path)
    except OSError:
        return 0
    return stat.st_size


def put(path: Path, data: bytes | memoryview) -> None:
    """Write the file KIND/ab/KEY of a cache in one step, with the permissions of the umask: a cache may be shared.

    Nobody waits for the disk: what a machine that fails loses is made again, and 2,474 waits took 16 s.

    Raises:
        DataError: the folder cannot be written, or the disk is full.
    """
    temporary = path.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        where, reason = path.parent.parent, error.strerror or error
        raise DataError(f"{where}: cannot be written ({reason}); use --cache-dir or --no-cache") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def entries(root: Path) -> Iterator[Entry]:
    """Yield all files of ours below `root`, temporary ones too; links are not followed."""
    for nest in nests(root):
        kind = nest.parent.name
        for item in _scan(nest):
            stem, dot, rest = item.name.partition(".")
            finished = dot + rest == SUFFIX[kind] and bool(_KEY.fullmatch(stem)) and stem.startswith(nest.name)
            if finished or _TEMPORARY.fullmatch(item.name):
                with contextlib.suppress(OSError):  # another process removes files too
                    stat = item.stat(follow_symlinks=False)
                    if item.is_file(follow_symlinks=False):
                        yield Entry(f"{kind}/{stem}", Path(item.path), stat.st_size, stat.st_mtime, finished)


def nests(root: Path) -> Iterator[Path]:
    """Yield the folders KIND/ab."""
    for kind in SUFFIX:
        if not (root / kind).is_symlink():
            yield from (Path(item.path) for item in _scan(root / kind) if item.is_dir(follow_symlinks=False))


def sweep(root: Path) -> None:
    """Remove what writers left behind that were killed more than an hour ago."""
    for entry in entries(root):
        if not entry.finished and time.time() - entry.used > _DEAD:
            with contextlib.suppress(OSError):
                entry.path.unlink()


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    with contextlib.suppress(OSError), os.scandir(folder) as found:
        return list(found)
    return []

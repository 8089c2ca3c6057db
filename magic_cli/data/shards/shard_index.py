"""The index of a shard: where the bytes of each usable pair are, in a file that is written once and memory-mapped.

    magic-shard-index 1\\n      and one line of JSON: size and time of the shard, counts, digest, problems
    rows                       ROW, one per pair
    keys                       UTF-8, one after another

It lies beside the shard as SHARD.magic-index, or in the cache folder where that cannot be written. It counts only
while the size and the time of change of the shard are those that it states.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from magic_cli.errors import MagicError
from magic_cli.io.files import cache_root, replacing

MAGIC = b"magic-shard-index 1\n"

SUFFIX = ".magic-index"

ROW = np.dtype(
    [
        ("photo", "<i8"),  # offset of the photo; in a Parquet file the number of the row
        ("photo_size", "<u4"),
        ("text", "<i8"),  # of the caption; size 0 for none
        ("text_size", "<u4"),
        ("meta", "<i8"),  # of the JSON object; size 0 for none
        ("meta_size", "<u4"),
        ("key", "<i8"),  # end of the key in the keys
        ("group", "<u8"),  # hash of the group, 0 for none
    ]
)

_KEY = 6  # the column "key"

_LONGEST_HEAD = 1 << 20  # bytes


@dataclass(frozen=True)
class ShardFacts:
    """What an index tells of its shard as a whole.

    `size` (bytes) and `mtime_ns` are the shard's; `digest` is the hex SHA-256 of keys, places, texts and the beginning
    of each photo. `skipped` counts the members that make no pair, by the reason; `problems` are lines.
    """

    size: int
    mtime_ns: int
    digest: str
    pairs: int
    blocks: Sequence[int]
    skipped: dict[str, int]
    problems: Sequence[str]


@dataclass(frozen=True)
class ShardIndex:
    """Rows (`ROW`) and keys (uint8) of the pairs of a shard; mapped from `file`, or in memory."""

    facts: ShardFacts
    rows: NDArray[np.void]
    keys: NDArray[np.uint8]
    file: Path | None = None

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """Pickle the path of a mapped file alone: another process maps it itself."""
        if self.file is not None:
            return _load, (self.file, (self.facts.size, self.facts.mtime_ns))
        return type(self), (self.facts, self.rows, self.keys)

    def places(self, row: int) -> tuple[int, ...]:
        """Return a row: place and size of photo, caption and JSON object, end of the key, hash of the group."""
        found: tuple[int, ...] = self.rows[row].item()
        return found

    def key(self, row: int) -> str:
        """Return the key of a pair."""
        first = self.places(row - 1)[_KEY] if row else 0
        return self.keys[first : self.places(row)[_KEY]].tobytes().decode("utf-8", "replace")


def group_hash(group: str) -> int:
    """Return a number other than 0 that stands for a group; 0 for none."""
    if not group:
        return 0
    return int.from_bytes(hashlib.blake2b(group.encode("utf-8", "replace"), digest_size=8).digest(), "little") | 1


def stamp(shard: Path) -> tuple[int, int]:
    """Return the size and the time of change (ns) of a shard; raises OSError."""
    status = shard.stat()
    return status.st_size, status.st_mtime_ns


def load_index(shard: Path) -> ShardIndex | None:
    """Return the index of a shard that was written before; None if there is none that fits it."""
    for path in _places(shard):
        with suppress(OSError, ValueError, KeyError, TypeError):
            return _load(path, stamp(shard))
    return None


def _places(shard: Path) -> list[Path]:
    places = [shard.with_name(shard.name + SUFFIX)]
    with suppress(MagicError):
        digest = hashlib.sha256(os.fsencode(shard.resolve())).hexdigest()
        places.append(cache_root() / "shards" / f"{digest[:32]}{SUFFIX}")
    return places


def _load(path: Path, expected: tuple[int, int]) -> ShardIndex:
    """Read an index; raises OSError or ValueError where it does not fit."""
    with path.open("rb") as file:
        if file.readline(len(MAGIC)) != MAGIC:
            raise ValueError("another format")
        facts = ShardFacts(**json.loads(file.readline(_LONGEST_HEAD)))
        if (facts.size, facts.mtime_ns) != expected or facts.pairs < 0:
            raise ValueError("of another shard")
        start = file.tell()
        keys = os.fstat(file.fileno()).st_size - start - facts.pairs * ROW.itemsize
        if keys < 0 or not facts.pairs:
            raise ValueError("cut off") if keys else ValueError("empty")
    rows = np.memmap(path, ROW, "r", start, (facts.pairs,))
    names = np.memmap(path, np.uint8, "r", start + rows.nbytes, (keys,))
    return ShardIndex(facts, np.asarray(rows), np.asarray(names), path)  # plain arrays are faster to index


def save_index(shard: Path, index: ShardIndex) -> ShardIndex:
    """Write an index, and return it as it is mapped from its file; the same one if no place can be written."""

    def write(file: IO[bytes]) -> None:
        file.write(MAGIC + json.dumps(vars(index.facts)).encode() + b"\n")
        file.write(index.rows.tobytes())
        file.write(index.keys.tobytes())

    for path in _places(shard):
        with suppress(OSError, MagicError):
            with replacing(path, durable=False) as file:
                write(file)
            return load_index(shard) or index
    return index

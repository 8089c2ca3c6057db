"""A WebDataset tar: the index of its pairs, and photos and texts read from it by their places.

A pair is KEY.jpg (jpeg, png, webp) with KEY.txt, KEY.json or both, in any order and next to each other or not, as
open_clip and img2dataset write them; KEY is the path of a member up to the first dot of its name.
"""

import hashlib
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from magic_cli.data.issues import IssueLog, by_kind
from magic_cli.data.limits import MAX_BYTES
from magic_cli.data.shards.open_files import read_at
from magic_cli.data.shards.pair_record import LONGEST, PairRecord, parse_pair
from magic_cli.data.shards.shard import Shard, ShardPhoto
from magic_cli.data.shards.shard_index import ROW, ShardFacts, ShardIndex, group_hash, load_index, save_index, stamp
from magic_cli.data.shards.tar_headers import Member, TarReader
from magic_cli.data.sources.lfs import refuse_pointer
from magic_cli.errors import DataError, first_lines, printable, problem
from magic_cli.io.regular_file import open_regular
from magic_cli.records import PackedPhoto

_SLOTS = {"jpg": 0, "jpeg": 0, "png": 0, "webp": 0, "txt": 2, "json": 4}  # the place in a row; its size follows

_BEGINNING = 1024  # bytes of each photo that the digest of a shard includes


@dataclass(frozen=True, slots=True)
class TarPhoto(ShardPhoto):
    """A photo in a tar: `size` bytes from `offset` on."""

    offset: int
    size: int

    @property
    def key(self) -> str:
        """The digest of the tar, and the place in it."""
        return f"{self.digest}@{self.offset}"

    def read(self) -> bytes:
        """Return its bytes; raises DataError."""
        return read_at(self.path, self.offset, self.size, self.name)


@dataclass(frozen=True)
class TarShard(Shard):
    """The pairs of a tar."""

    def read(self, row: int, key: str) -> tuple[PairRecord, str, PackedPhoto | None]:
        """Return what a pair says, the tar, and the place of the photo in it; raises DataError."""
        photo, photo_size, text, text_size, meta, meta_size, *_ = self.index.places(row)
        where = printable(f"{self.name}: {key}")
        caption = read_at(self.path, text, text_size, where) if text_size else None
        columns = read_at(self.path, meta, meta_size, where) if meta_size else None
        packed = TarPhoto(self.path, where, self.index.facts.digest, photo, photo_size)
        return parse_pair(caption, columns, where), self.path, packed


def open_tar(path: Path, name: str) -> TarShard:
    """Return the pairs of a tar; it is read and an index written if there is none that fits.

    Raises:
        DataError: it cannot be read at all: no tar, packed, a Git LFS pointer; one line. What is damaged or makes no
            pair is told by the index (`ShardFacts`).
    """
    refuse_pointer(str(path), name)
    try:
        index = load_index(path) or save_index(path, _indexed(path, name))
    except OSError as error:
        raise DataError(printable(f"{name}: cannot be read ({error.strerror}); check the file")) from None
    return TarShard(str(path), name, index)


def _indexed(path: Path, name: str) -> ShardIndex:
    size, mtime = stamp(path)
    with open_regular(path) as file:
        reader = TarReader(file, name)
        found = _Found()
        for member in reader.members():
            found.add(member)
        return _Pairs(reader, found).index(size, mtime)


@dataclass
class _Found:
    """The members of each key: place and size of photo, caption and JSON object; 0 for none."""

    places: "dict[str, array[int]]" = field(default_factory=dict)
    latest: dict[str, str] = field(default_factory=dict)  # of keys that come again: the name of the last one
    again: int = 0

    def add(self, member: Member) -> None:
        """Take a member; one that is no part of a pair is ignored."""
        key, slot = _key_and_slot(member.name)
        if slot is None:
            return
        name = self.latest.get(key, key)
        places = self.places.get(name)
        if places is not None and places[slot]:
            self.again += 1
            name = self.latest[key] = f"{key}~{self.again + 1}"
            places = None
        if places is None:
            places = self.places[name] = array("q", bytes(48))
        places[slot], places[slot + 1] = member.offset, member.size


def _key_and_slot(name: str) -> tuple[str, int | None]:
    """Return the key of a member, and which part of a pair it is; the key is up to the first dot, or to the last."""
    name = name.removeprefix("./")
    folder, slash, file = name.rpartition("/")
    if file.startswith(".") or folder.startswith("__MACOSX"):
        return "", None
    for stem, _, suffix in (file.partition("."), file.rpartition(".")):
        slot = _SLOTS.get(suffix.casefold())
        if slot is not None:
            return f"{folder}{slash}{stem}", slot
    return "", None


class _Pairs:
    """The pairs among what was found: their texts are read once, so that damage is known before a training."""

    def __init__(self, reader: TarReader, members: _Found) -> None:
        self.reader, self.found = reader, members
        self.issues, self.skipped = IssueLog(), Counter[str]()
        self.digest = hashlib.sha256()

    def index(self, size: int, mtime: int) -> ShardIndex:
        """Return the index of a tar of this size and time of change."""
        rows: list[tuple[int, ...]] = []
        keys = bytearray()
        for key, places in self.found.places.items():
            group = self._group(key, places)
            if group is not None:
                keys += key.encode("utf-8", "replace")
                rows.append((*places, len(keys), group))
        self.digest.update(keys)
        table = np.array(rows, ROW)
        self.digest.update(table.tobytes())
        lines = [*self.reader.problems, *first_lines(by_kind(self.issues.lines()), self.reader.name)]
        if self.found.again:
            lines.append(f"{self.reader.name}: {self.found.again:,} keys come again: each is a pair of its own")
        facts = ShardFacts(
            size, mtime, self.digest.hexdigest(), len(rows), (len(rows),), dict(self.skipped), tuple(lines)
        )
        return ShardIndex(facts, table, np.frombuffer(bytes(keys), np.uint8))

    def _group(self, key: str, places: "array[int]") -> int | None:
        """Return the hash of the group of a pair, None if it is no pair; count why."""
        photo, photo_size, text, text_size, meta, meta_size = places
        where = printable(f"{self.reader.name}: {key}")
        if not photo_size or photo_size > MAX_BYTES:
            reason = "without a photo" if not photo else "with an empty photo" if not photo_size else "over 1 GiB"
            self.skipped[reason] += 1
            return None
        if max(text_size, meta_size) > LONGEST:
            got = f"texts of {max(text_size, meta_size):,} bytes"
            self.issues.add_loss(problem(where, got, "at most 4 MiB", "the pair is left out"))
            self.skipped["with damaged texts"] += 1
            return None
        caption = self.reader.read(text, text_size) if text_size else None
        parsed = self.reader.read(meta, meta_size) if meta_size else None
        try:
            record = parse_pair(caption, parsed, where)
        except DataError as error:
            self.issues.add_loss(error.problems[0])
            self.skipped["with damaged texts"] += 1
            return None
        if not record.is_pair:
            self.skipped["without any text"] += 1
            return None
        for part in (caption, parsed, self.reader.read(photo, min(photo_size, _BEGINNING))):
            self.digest.update(part or b"")
        return group_hash(record.group)

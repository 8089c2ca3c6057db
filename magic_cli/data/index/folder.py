"""The default case index: a folder without any engine, memory-mapped, exact, and never half-written.

    manifest.json        what it is, its segments, and the file of deleted rows; replaced last, by a rename
    1-000001.npy         vectors of the rows of a segment; float32 or float16
    1-000001.jsonl       their cases
    1-000002.dead.npy    segment and row of all that was deleted or replaced, int64 (rows, 2)
    thumbs/              small pictures, named by the cases
    rebuild.json         the manifest of a new index that is being built; it becomes manifest.json when it is complete

A kill at any moment leaves the manifest that was, or the one that is to be, and files that either names. Readers take
no lock: they see what the manifest named when they looked, and look again when it was replaced.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.index.base import CaseIndex, Hit, IndexedCase, IndexInfo, exact_scores, rounding
from magic_cli.data.index.segments import Segment, read_dead, write_segment
from magic_cli.data.index.where import Where
from magic_cli.errors import DataError, problem
from magic_cli.io import schema
from magic_cli.io.files import is_empty, sweep, write_atomic
from magic_cli.io.json_files import read_json, write_json
from magic_cli.io.locks import folder_lock
from magic_cli.io.ownership import is_inside

MANIFEST, REBUILD = "manifest.json", "rebuild.json"

_FORMAT = "magic-index"

_MOST_SEGMENTS, _MERGED = 32, 16  # so many segments are merged, at least, when there are more than so many

_PATIENCE = 60.0  # seconds to wait for another writer

_SCORES = 1 << 26  # scores that are in memory at once

_NONE = np.empty((0, 2), np.int64)


@dataclass(frozen=True, slots=True)
class _Listed:
    """What a manifest lists: `segments` as (name, rows), the file of deleted rows ("" for none), the next number."""

    info: IndexInfo
    generation: int = 1
    next: int = 1
    segments: tuple[tuple[str, int], ...] = ()
    dead: str = ""

    def to_json(self) -> dict[str, object]:
        segments = [{"name": name, "rows": rows} for name, rows in self.segments]
        head = {"format": _FORMAT, "index": self.info.to_json(), "generation": self.generation, "next": self.next}
        return {**head, "segments": segments, "dead": self.dead}


def _read(path: Path) -> _Listed:
    if not path.is_file():
        remedy = "build one with `magic index build`, or name its folder"
        raise DataError(problem(path, "no such file", "a case index", remedy))
    row = read_json(path)
    lines = schema.problems("index_folder", row, str(path))
    if lines:
        raise DataError(lines)
    segments = tuple((segment["name"], segment["rows"]) for segment in row["segments"])
    info = IndexInfo.from_json(row["index"], path)
    return _Listed(info, row["generation"], row["next"], segments, row["dead"])


class FolderIndex(CaseIndex):
    """The case index in a folder.

    Raises:
        DataError: there is none, or it is damaged.
    """

    def __init__(self, folder: Path, manifest: str = MANIFEST) -> None:
        self._folder = folder
        self._manifest = folder / manifest
        self._segments: list[Segment] = []
        self._dead = _NONE
        self._seen: tuple[int, int, int] | None = None
        self._listed = _read(self._manifest)
        super().__init__(str(folder), self._listed.info)
        self._refresh()

    def __len__(self) -> int:
        self._refresh()
        return sum(int(segment.alive.sum()) for segment in self._segments)

    def contents(self) -> dict[str, str]:
        """Return the content hash of every case by its id."""
        self._refresh()
        return {case.id: case.content for _, _, case in self._living()}

    def close(self) -> None:
        """Forget the mapped files."""
        self._segments, self._seen = [], None

    def compact(self) -> None:
        """Write all living rows anew and remove the older files, with the thumbs of what was deleted."""
        with self._writing():
            self._merge(0)

    def publish(self) -> None:
        """Put a rebuilt index in the place of the older one by a rename; what only the older one named is removed."""
        if self._manifest.name == MANIFEST:
            return
        with self._writing():
            live = self._folder / MANIFEST
            older = _thumbs_of(self._folder) if live.is_file() else set()
            self._manifest.replace(live)
            self._manifest = live
            self._refresh()
            self._remove_unlisted(older)

    def _living(self) -> Iterator[tuple[int, int, IndexedCase]]:
        """Yield the number of the segment, the row and the case of all that is not deleted."""
        for number, segment in enumerate(self._segments):
            for row in np.flatnonzero(segment.alive).tolist():
                yield number, row, segment.cases[row]

    def _all_thumbs(self) -> set[str]:
        return {case.thumb for segment in self._segments for case in segment.cases}

    def _refresh(self) -> None:
        """Read the manifest again if it was replaced; another writer may remove older segments meanwhile."""
        for attempt in range(20):
            status = self._manifest.stat() if self._manifest.exists() else None
            identity = (status.st_ino, status.st_mtime_ns, status.st_size) if status else None
            if identity is not None and identity == self._seen:
                return
            try:
                self._open(_read(self._manifest))
            except FileNotFoundError as error:
                if attempt == 19:
                    missing = Path(str(error.filename))
                    got = "no such file, which the manifest names"
                    raise DataError(problem(missing, got, "it", "build the index again")) from None
                time.sleep(0.01 * attempt)
            else:
                self._seen = identity

    def _open(self, listed: _Listed) -> None:
        dead = read_dead(self._folder / listed.dead, [rows for _, rows in listed.segments]) if listed.dead else _NONE
        before = {segment.name: segment for segment in self._segments}
        segments = []
        for number, (name, rows) in enumerate(listed.segments):
            rows_dead = dead[dead[:, 0] == number, 1]
            segment = before.get(name) or Segment(self._folder, name, rows, listed.info, rows_dead)
            segment.with_dead(rows_dead)
            segments.append(segment)
        self._segments, self._dead, self._listed, self.info = segments, dead, listed, listed.info

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Be the only writer in this block; readers go on. Without locks (Windows, some network disks) nobody waits."""
        end = time.monotonic() + _PATIENCE
        while True:
            with folder_lock(self._folder) as is_held:
                if is_held is not False:
                    sweep(self._folder)
                    self._refresh()
                    yield
                    return
            if time.monotonic() > end:
                got = "another process that is writing to it"
                raise DataError(problem(self.place, got, "one writer at a time", "wait until it has ended"))
            time.sleep(0.02)

    def _put(self, cases: Sequence[IndexedCase], vectors: NDArray[np.float32]) -> None:
        with self._writing():
            ids = {case.id for case in cases}
            replaced = [(number, row) for number, row, case in self._living() if case.id in ids]
            name = f"{self._listed.generation}-{self._listed.next:06d}"
            write_segment(self._folder, name, cases, self.info, [vectors])
            self._commit((*self._listed.segments, (name, len(cases))), replaced)
            self._tidy()

    def _drop(self, ids: Sequence[str]) -> int:
        with self._writing():
            wanted = set(ids)
            rows = [(number, row) for number, row, case in self._living() if case.id in wanted]
            if rows:
                self._commit(self._listed.segments, rows)
                self._tidy()
            return len(rows)

    def _commit(self, segments: tuple[tuple[str, int], ...], dead: Sequence[tuple[int, int]]) -> None:
        """Write the deleted rows, then replace the manifest: only that makes the change."""
        listed, before = self._listed, self._listed.dead
        name = before
        if dead:
            rows = np.concatenate([self._dead, np.array(dead, np.int64)])
            name = f"{listed.generation}-{listed.next:06d}.dead.npy"
            write_atomic(self._folder / name, lambda file: np.save(file, rows, allow_pickle=False))
        self._replace_manifest(_Listed(self.info, listed.generation, listed.next + 1, segments, name))
        if before and before != name:
            self._unlink(before)

    def _replace_manifest(self, listed: _Listed) -> None:
        write_json(self._manifest, listed.to_json())
        self._refresh()

    def _tidy(self) -> None:
        """Merge the newest segments when there are many, all when much is dead: each row is moved a few times only."""
        living = sum(int(segment.alive.sum()) for segment in self._segments)
        if len(self._dead) > max(1000, living // 2):
            self._merge(0)
        elif len(self._segments) > _MOST_SEGMENTS:
            first = len(self._segments) - _MERGED
            total = sum(segment.rows for segment in self._segments[first:])
            while first and self._segments[first - 1].rows <= total:
                first -= 1
                total += self._segments[first].rows
            self._merge(first)

    def _merge(self, first: int) -> None:
        """Write the living rows of all segments from number `first` on into one, and remove the older files."""
        old = self._segments[first:]
        dropped = {case.thumb for segment in old for case in segment.cases}
        blocks = (segment.vectors if segment.alive.all() else segment.vectors[segment.alive] for segment in old)
        cases = [case for number, _, case in self._living() if number >= first]
        listed = self._listed
        kept = self._dead[self._dead[:, 0] < first]
        segments = listed.segments[:first]
        name, dead = f"{listed.generation}-{listed.next:06d}", ""
        if cases:
            write_segment(self._folder, name, cases, self.info, blocks)
            segments = (*segments, (name, len(cases)))
        if len(kept):
            dead = f"{name}.dead.npy"
            write_atomic(self._folder / dead, lambda file: np.save(file, kept, allow_pickle=False))
        self._replace_manifest(_Listed(self.info, listed.generation, listed.next + 1, segments, dead))
        self._remove_unlisted(dropped)

    def _remove_unlisted(self, thumbs: set[str]) -> None:
        """Remove files of segments that no manifest names, and those of these thumbs that no case names."""
        manifests = [self._folder / name for name in (MANIFEST, REBUILD)]
        listed = [_read(manifest) for manifest in manifests if manifest.is_file()]
        kept = {file for at in listed for name, _ in at.segments for file in (f"{name}.npy", f"{name}.jsonl")}
        kept |= {at.dead for at in listed}
        for path in self._folder.glob("[0-9]*-[0-9]*.*"):
            if path.suffix in (".npy", ".jsonl") and path.name not in kept:
                self._unlink(path.name)
        for thumb in thumbs - {case.thumb for _, _, case in self._living()}:
            if thumb.startswith("thumbs/") and is_inside(thumb):
                self._unlink(thumb)

    def _unlink(self, name: str) -> None:
        with suppress(OSError):  # Windows keeps files that are mapped; the next compaction removes them
            (self._folder / name).unlink(missing_ok=True)

    def _texts(self, field: str, where: Where | None) -> list[str]:
        self._refresh()
        found: list[str] = []
        for segment in self._segments:
            rows = segment.alive if where is None else segment.alive & segment.mask(where)
            found += segment.texts(field)[rows].tolist()
        return found

    def _nearest(self, queries: NDArray[np.float32], k: int, where: Where | None) -> list[list[Hit]]:
        self._refresh()
        segments = [segment for segment in self._segments if segment.alive.any()]
        ranked = [segment.alive if where is None else segment.alive & segment.mask(where) for segment in segments]
        rows = sum(segment.rows for segment in segments)
        step = max(1, _SCORES // max(1, rows))
        found: list[list[Hit]] = []
        for start in range(0, len(queries), step):
            found += self._nearest_of(queries[start : start + step], k, segments, ranked)
        return found

    def _nearest_of(
        self, queries: NDArray[np.float32], k: int, segments: list[Segment], ranked: list[NDArray[np.bool_]]
    ) -> list[list[Hit]]:
        """Score all rows in float32, then those that may be among the first k exactly."""
        kept = [(segment, mask) for segment, mask in zip(segments, ranked, strict=True) if mask.any()]
        if not kept:
            return [[] for _ in queries]
        scores = np.concatenate([np.where(mask, segment.scores(queries), -np.inf) for segment, mask in kept], axis=1)
        count = min(k, sum(int(mask.sum()) for _, mask in kept))
        starts = np.cumsum([0, *(segment.rows for segment, _ in kept)])
        found = []
        for query, row in zip(queries, scores, strict=True):
            lowest = float(np.partition(row, len(row) - count)[len(row) - count]) - 2 * rounding(query, self.info)
            places = np.flatnonzero((row >= lowest) & (row > -np.inf))
            found.append(_best(query, [segment for segment, _ in kept], starts, places, count))
        return found


def _best(
    query: NDArray[np.float32],
    segments: Sequence[Segment],
    starts: NDArray[np.int64],
    places: NDArray[np.intp],
    k: int,
) -> list[Hit]:
    """Return the best k of the rows at `places`, which are numbered through all segments from `starts` on."""
    scored: list[tuple[float, str, int, int]] = []
    for number, segment in enumerate(segments):
        rows = places[(places >= starts[number]) & (places < starts[number + 1])] - starts[number]
        for begin in range(0, len(rows), 4096):  # very many rows may tie
            part = rows[begin : begin + 4096]
            exact = exact_scores(query, segment.vectors[part].astype(np.float32, copy=False)).tolist()
            scored += [(-score, segment.cases[r].id, number, r) for score, r in zip(exact, part.tolist(), strict=True)]
    hits = []
    for negative, _, number, row in sorted(scored)[:k]:
        case, vector = segments[number].cases[row], segments[number].vectors[row].astype(np.float32)
        hits.append(Hit(case.id, -negative, case.fields, vector, case.content, case.thumb))
    return hits


def create_folder(folder: Path, info: IndexInfo) -> FolderIndex:
    """Make an empty index in a folder.

    Raises:
        DataError: there is an index already, or the folder cannot be written.
    """
    if (folder / MANIFEST).exists():
        remedy = "add to it with `magic index add`, or choose another folder"
        raise DataError(problem(folder, "a folder with a case index", "a new one", remedy))
    if folder.exists() and not folder.is_dir():
        raise DataError(problem(folder, "a file", "a folder", "choose another place"))
    if folder.is_dir() and not is_empty(folder):
        raise DataError(problem(folder, "a folder with other files", "a new or an empty one", "choose another folder"))
    write_json(folder / MANIFEST, _Listed(info).to_json())
    return FolderIndex(folder)


def rebuild_folder(folder: Path, info: IndexInfo) -> FolderIndex:
    """Begin a new index in the folder of another one, which is searched until `publish`; go on with one begun so.

    The other one may be damaged: that is what a rebuild is for.

    Raises:
        DataError: there is no index.
    """
    try:
        generation = _read(folder / MANIFEST).generation
    except DataError:
        numbers = _generations(folder)
        if not numbers or not (folder / MANIFEST).is_file():  # a manifest.json of another program
            raise
        generation = max(numbers)
    begun = folder / REBUILD
    with suppress(DataError):
        if begun.is_file() and (started := FolderIndex(folder, REBUILD)).info.is_same(info):
            return started
    write_json(begun, _Listed(info, generation + 1, _after(folder, generation + 1)).to_json())
    return FolderIndex(folder, REBUILD)


def _thumbs_of(folder: Path) -> set[str]:
    """Return the thumbs that an index names; none if it is damaged: they stay until a file is given their name."""
    try:
        return FolderIndex(folder)._all_thumbs()
    except DataError:
        return set()


def _generations(folder: Path) -> set[int]:
    """Return the generations of the segments whose cases are in a folder."""
    names = [path.name.split("-")[0] for path in folder.glob("[0-9]*-[0-9]*.jsonl")]
    return {int(name) for name in names if name.isdecimal()}


def _after(folder: Path, generation: int) -> int:
    """Return a number above those of files that an abandoned rebuild left, so that no reader takes them for its own."""
    names = [path.name.split(".")[0] for path in folder.glob(f"{generation}-[0-9]*.*")]
    return 1 + max((int(name.split("-")[1]) for name in names if name.split("-")[1].isdecimal()), default=0)

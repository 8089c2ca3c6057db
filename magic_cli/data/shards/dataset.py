"""A folder of shards as a dataset: its splits, and what of it makes no pair; nothing is unpacked or copied."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.lazy_samples import LazySamples
from magic_cli.data.manifest import PrepareManifest, PrepareSettings
from magic_cli.data.preparation.counts import Counts
from magic_cli.data.prepared import MANIFEST, Prepared
from magic_cli.data.prepared_stamps import PreparedStamps, stamps_of
from magic_cli.data.questions import NO_QUESTIONS
from magic_cli.data.shards.parquet_shard import open_parquet
from magic_cli.data.shards.shard import Shard
from magic_cli.data.shards.tar_shard import open_tar
from magic_cli.data.sources.files import innermost_split
from magic_cli.errors import DataError, first_lines, printable, problem
from magic_cli.io.progress import track
from magic_cli.io.run_record import Hashed, hashed
from magic_cli.records import SPLITS, Sample

HELD_OUT, MOST_HELD_OUT = 0.02, 2_000  # share and number of pairs that are held out of one shard

_LARGE_SHARE = 0.1  # of all pairs; a last shard with more of them is not held out whole

_MOST_HASHED = 2 << 30  # bytes of shards whose SHA-256 a record states

_TAR = re.compile(r"\.(?:tar(?:\.(?:gz|bz2|xz|zst))?|tgz|tbz2?|txz)$", re.I)

_PARQUET = re.compile(r"\.parquet$", re.I)


@dataclass(frozen=True)
class ShardPart:
    """Pairs of a shard that belong to a split: rows of its index, in order."""

    shard: Shard
    rows: range | NDArray[np.int64]


class ShardSamples(LazySamples):
    """The pairs of a split, shard by shard; a sample is read from its shard when it is asked for."""

    def __init__(self, parts: Sequence[ShardPart], split: str) -> None:
        self.parts, self.split = [part for part in parts if len(part.rows)], split
        self._ends = np.array([*accumulate(len(part.rows) for part in self.parts)], np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.parts else 0

    def sample(self, index: int) -> Sample:
        """Return a pair; raises DataError where its shard cannot be read any more."""
        number = int(np.searchsorted(self._ends, index, "right"))
        part = self.parts[number]
        row = part.rows[index - (int(self._ends[number - 1]) if number else 0)]
        return part.shard.sample(int(row), self.split)

    @property
    def blocks(self) -> Sequence[int]:
        """The pairs of each shard; of a Parquet file, which is read by row groups, those of each of them."""
        whole = (part.shard.index.facts.blocks if len(part.rows) == _pairs(part.shard) else () for part in self.parts)
        sizes = (len(part.rows) for part in self.parts)
        return [block for blocks, size in zip(whole, sizes, strict=True) for block in blocks or (size,)]

    @property
    def window(self) -> int:
        """A few row groups where a shard is a Parquet file, which are read as a whole; any order in tars."""
        return max((part.shard.window for part in self.parts), default=0)


@dataclass(frozen=True)
class ShardedDataset(Prepared):
    """Pairs in shards, as the prepared dataset that they would make; cases and photos are not in memory.

    `cases` and `images` are empty: `samples` has the pairs. The problems and notes are in the manifest.
    """

    parts: Sequence[tuple[str, ShardPart]] = ()

    def samples(self, split: str) -> ShardSamples:
        """Return the pairs of a split in the order of the shards; DataError for no split."""
        if split not in SPLITS:
            raise DataError(problem("--split", split, " or ".join(SPLITS), "choose one of these"))
        return ShardSamples([part for of, part in self.parts if of == split], split)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Lines about damage, about what makes no pair, and about how splits were made."""
        return (*self.manifest.problems, *self.manifest.notes)


class ShardStamps(PreparedStamps):
    """The stamps of shards: one that was changed or touched counts as changed, as its bytes are too many to compare."""

    def _has_same_content(self, path: str) -> bool:  # noqa: ARG002  whatever it is
        return False


def is_sharded(root: Path) -> bool:
    """Return whether a folder has shards instead of a prepared dataset, or a path is a shard."""
    return not (root / MANIFEST).is_file() and next(_shards(root), None) is not None


def _shards(root: Path) -> Iterator[Path]:
    """Yield the shards below a folder, or the only one, in the order of their numbers."""
    if root.is_file():
        if _is_shard(root.name):
            yield root
        return
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted((f for f in folders if not f.startswith((".", "__"))), key=_natural)
        yield from (Path(folder, name) for name in sorted(names, key=_natural) if _is_shard(name))


def _is_shard(name: str) -> bool:
    return not name.startswith(".") and bool(_TAR.search(name) or _PARQUET.search(name))


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts shard-2 before shard-10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def open_shards(root: Path) -> tuple[ShardedDataset, ShardStamps]:
    """Return the pairs of a folder of shards, or of one shard; each that has no index yet is read once.

    Splits are those of the folders or files by name (train, valid or val, test), "train" without one. Where none is
    "valid", pairs at the end are held out: the last shard, or the last 2 % of it, at most 2,000, if it is the only one
    or has a tenth of all pairs. A group that valid has is not trained on.

    Raises:
        DataError: a shard that cannot be used at all, or no pair to train on; one line each.
        ExtraError: Parquet files, and pyarrow is not installed.
    """
    real = root.resolve()
    paths = list(_shards(real))
    base = real.parent if real.is_file() else real
    shards: list[Shard] = []
    lines: list[str] = []
    before, _ = stamps_of(map(str, paths), hashed=False)
    for path in track(paths, "opening shards"):
        name = path.relative_to(base).as_posix()
        try:
            shards.append(open_parquet(path, name, base) if _PARQUET.search(name) else open_tar(path, name))
        except DataError as error:
            lines += error.problems
    if lines:
        raise DataError(first_lines(lines, root))
    split_of = [innermost_split(shard.name) or "train" for shard in shards]
    parts = [(split, ShardPart(shard, range(_pairs(shard)))) for split, shard in zip(split_of, shards, strict=True)]
    notes: list[str] = []
    if "valid" not in split_of:
        parts, notes = _held_out(parts)
    parts, more = _without_groups(parts)
    if not any(split == "train" and len(part.rows) for split, part in parts):
        got = f"{len(shards):,} shards without a pair to train on"
        lines = _problems(shards)
        expected = "KEY.jpg with KEY.txt or KEY.json"
        raise DataError([problem(root, got, expected, "check their names and contents"), *lines])
    dataset = ShardedDataset(
        root=root,
        manifest=_manifest(parts, _problems(shards), [*notes, *more]),
        questions=NO_QUESTIONS,
        cases={},
        images={},
        sha256=_digest(parts),
        parts=parts,
    )
    return dataset, ShardStamps(root, before, dict.fromkeys(before, ""))


def shard_files(stamps: ShardStamps) -> Hashed:
    """Yield the shards with their SHA-256, as inputs of a run; nothing if they have more than 2 GiB together."""
    if sum(stamp[2] for stamp in stamps.stamps.values() if stamp is not None) <= _MOST_HASHED:
        yield from hashed(map(Path, stamps.stamps))


def _pairs(shard: Shard) -> int:
    return shard.index.facts.pairs


def _held_out(parts: list[tuple[str, ShardPart]]) -> tuple[list[tuple[str, ShardPart]], list[str]]:
    """Hold out pairs at the end of the last shard to train on as split valid; return the parts, and a line about it."""
    total = sum(len(part.rows) for split, part in parts if split == "train")
    places = [place for place, (split, part) in enumerate(parts) if split == "train" and len(part.rows)]
    if total < 2:
        return parts, []
    last = parts[places[-1]][1]
    size = len(last.rows)
    number = size
    if len(places) == 1 or size > _LARGE_SHARE * total:
        few = max(1, min(20, size // 10))  # one of fifty would be too few of few
        number = max(few, min(MOST_HELD_OUT, round(HELD_OUT * size)))
    kept, held = replace(last, rows=last.rows[: size - number]), replace(last, rows=last.rows[size - number :])
    share = f"{number:,} of {total:,} pairs, the end of {last.shard.name}," if number < size else f"{last.shard.name}"
    line = f"no shards for validation: {share} {'are' if number < size else f'({number:,} of {total:,} pairs) is'}"
    return [*parts[: places[-1]], ("train", kept), ("valid", held), *parts[places[-1] + 1 :]], [f"{line} held out"]


def _without_groups(parts: list[tuple[str, ShardPart]]) -> tuple[list[tuple[str, ShardPart]], list[str]]:
    """Leave out the pairs to train on whose group is in valid; return the parts, and a line about it."""
    held = [np.unique(_groups(part)) for split, part in parts if split == "valid"]
    groups = np.unique(np.concatenate(held)) if held else np.array([], np.uint64)
    groups = groups[groups > 0]
    if not len(groups):
        return parts, []
    found, lost = [], 0
    for split, part in parts:
        if split == "train":
            kept = ~np.isin(_groups(part), groups)
            lost += int((~kept).sum())
            if not kept.all():
                part = replace(part, rows=np.array(part.rows, np.int64)[kept])
        found.append((split, part))
    return found, [f"{lost:,} pairs of groups that are in valid are not trained on"] if lost else []


def _groups(part: ShardPart) -> NDArray[np.uint64]:
    rows = part.rows
    chosen = slice(rows.start, rows.stop) if isinstance(rows, range) else rows
    found: NDArray[np.uint64] = part.shard.index.rows["group"][chosen]
    return found


def _problems(shards: Sequence[Shard]) -> list[str]:
    """Return lines about damage, and one per reason why members make no pair."""
    skipped = Counter[str]()
    for shard in shards:
        skipped.update(shard.index.facts.skipped)
    lines = [line for shard in shards for line in shard.index.facts.problems]
    return [*first_lines(lines, "shards"), *(f"{count:,} keys {why} make no pair" for why, count in skipped.items())]


def _digest(parts: Sequence[tuple[str, ShardPart]]) -> str:
    rows = [[split, part.shard.name, part.shard.index.facts.digest, len(part.rows)] for split, part in parts]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _manifest(parts: Sequence[tuple[str, ShardPart]], problems: Sequence[str], notes: Sequence[str]) -> PrepareManifest:
    counts = Counts().by_split()
    for split, part in parts:
        number, before = len(part.rows), counts[split]
        counts[split] = replace(
            before, cases=before.cases + number, listed=before.listed + number, images=before.images + number
        )
    settings = PrepareSettings(merge="or", prompt="qa", responses=True, source="shards")
    lines, remarks = (tuple(map(printable, texts)) for texts in (problems, notes))
    return replace(PrepareManifest.of_counts(settings, counts), problems=lines, notes=remarks)

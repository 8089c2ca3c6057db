"""`magic index`: cases of an index added, removed and counted; what needs no model.

Photos are encoded elsewhere (commands/cases/build.py): `add_batches` takes cases with their vectors, and stores each
batch as a whole, so that a killed run goes on where it ended. `unchanged` tells what need not be encoded.
"""

import hashlib
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.index import create_index, has_index, kind_of, open_index, rebuild_index
from magic_cli.data.index.base import CaseIndex, IndexedCase, IndexInfo
from magic_cli.data.sources import ADAPTERS, adapter
from magic_cli.errors import DataError, problem, shorten
from magic_cli.io.json_files import json_text

LABEL, GROUP = "diagnosis", "group"
"""Fields: the class of a case, and a hash of its patient, lesion, or cluster of duplicates."""

_DIFFERS = {
    "model_sha256": "another model",
    "preprocessing": "another way to read photos",
    "parts": "vectors of other parts",
    "beta": "another weight of the parts",
    "regions": "another number of regions",
    "dataset": "another dataset",
    "low_score": "other photos",
    "licences": "other photos",
    "fields": "other fields",
    "dtype": "another --dtype",
    "schema": "another version of the format",
}
"""What a message says of an entry of `IndexInfo` that differs; `low_score` is measured on the photos."""

_OF_MODEL = {"preprocessing", "parts", "beta", "regions", "low_score"}
"""Entries of `IndexInfo` that differ because the model does."""

_OF_PHOTOS = {"dataset", "low_score", "licences", "fields"}
"""Entries of `IndexInfo` that follow from what is indexed, and not from how."""

Batch = tuple[Sequence[IndexedCase], NDArray[np.float32]]
"""Cases, and their vectors: float32 (cases, width), each part of norm 1."""


@dataclass(frozen=True, slots=True)
class IndexAdded:
    """What was added to an index.

    Attributes:
        location: where it is, as the user wrote it.
        added: cases whose id was new.
        replaced: cases whose id was there with another content.
        skipped: cases that were there as they are.
        cases: number of cases in the index now.
        not_kept: how many of the cases had a field that the index does not keep, by its name.
        ckpt: the model's file, which the next command names where the index does not keep it; "": not known.
    """

    location: str
    added: int
    replaced: int
    skipped: int
    cases: int
    not_kept: Mapping[str, int]
    ckpt: str = ""

    def to_json(self) -> dict[str, object]:
        """Return schemas/indexed.schema.json without its header."""
        counts = {"added": self.added, "replaced": self.replaced, "skipped": self.skipped, "cases": self.cases}
        return {"action": "add", "location": self.location, **counts, "not_kept": dict(self.not_kept)}

    def lines(self) -> list[str]:
        """Return the counts for the terminal; the last line names the next command."""
        lines = [
            f"{self.added} cases added, {self.replaced} replaced, {self.skipped} skipped, which were there as they are",
            f"{self.location}: {self.cases} cases",
        ]
        if self.not_kept:
            names = shorten((f"{name} ({count})" for name, count in self.not_kept.items()), total=True)
            lines.insert(1, f"fields that this index does not keep (cases): {names}")
        return [*lines, _next(self.location, self.ckpt)]


@dataclass(frozen=True, slots=True)
class IndexRemoved:
    """What was removed from an index: how many cases, how many ids it did not have, and how many cases are left."""

    location: str
    removed: int
    unknown: int
    cases: int
    purged: bool

    def to_json(self) -> dict[str, object]:
        """Return schemas/indexed.schema.json without its header."""
        counts = {"removed": self.removed, "unknown": self.unknown, "cases": self.cases}
        return {"action": "remove", "location": self.location, **counts, "purged": self.purged}

    def lines(self) -> list[str]:
        """Return the counts for the terminal."""
        unknown = f"; {self.unknown} ids are not in the index" if self.unknown else ""
        lines = [f"{self.removed} cases removed{unknown}", f"{self.location}: {self.cases} cases"]
        if self.removed and not self.purged:
            lines.append("their vectors and fields stay on the disk until space is freed: --purge does it at once")
        return [*lines, f"next: magic index info {shlex.quote(self.location)}"]


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """What an index holds; `classes` are its cases by class, none if the class is not kept.

    Lines for people leave out what only the encoder's own settings tell; the JSON has all of it.
    """

    location: str
    cases: int
    info: IndexInfo
    classes: Mapping[str, int]

    def to_json(self) -> dict[str, object]:
        """Return schemas/indexed.schema.json without its header."""
        facts = {"location": self.location, "cases": self.cases, "classes": dict(self.classes)}
        return {"action": "info", **facts, "index": self.info.to_json()}

    def lines(self) -> list[str]:
        """Return the facts for the terminal; the last line names the next command."""
        info = self.info
        size = self.cases * info.width * np.dtype(info.dtype).itemsize / 1e6
        unstated = self.cases - sum(self.classes.values())
        return [
            f"{self.location}: {self.cases:,} cases of {info.dataset or 'an unnamed dataset'}",
            *(f"  {name}: {count:,}" for name, count in self.classes.items()),
            *([f"  class not stated: {unstated:,}"] if unstated and LABEL in info.fields else []),
            f"vectors: {size:.1f} MB; searched with the model that made them, {info.model_sha256[:12]}",
            f"fields: {', '.join(info.fields) or 'none'}",
            f"licences: {licences_of(info) or 'none stated'}",
            f"created: {info.created or 'no date stated'}",
            _next(self.location),
        ]


def licences_of(info: IndexInfo) -> str:
    """Return the licences of an index's cases; where they have none of their own, that of the dataset as a whole."""
    if info.licences:
        return ", ".join(info.licences)
    return adapter(info.dataset).licence if info.dataset in ADAPTERS else ""


def _next(location: str, ckpt: str = "") -> str:
    """Return the command line of a search; only a folder keeps the model that it needs."""
    model = "" if kind_of(location) == "folder" else f" --ckpt {shlex.quote(ckpt) if ckpt else 'FILE'}"
    return f"next: magic search --index {shlex.quote(location)}{model} --image PHOTO"


def content_hash(photo: str, fields: Mapping[str, str], kept: Sequence[str]) -> str:
    """Return what `IndexedCase.content` should be: it changes with the photo and with every field that is kept.

    Args:
        photo: hash of the photo's file, or of its pixels.
        fields: those of the case.
        kept: names of the fields that the index keeps.
    """
    stated = {name: fields[name] for name in sorted(kept) if fields.get(name)}
    return hashlib.sha256(json_text([photo, stated]).encode()).hexdigest()


def unchanged(index: CaseIndex, cases: Iterable[IndexedCase]) -> set[str]:
    """Return the ids of those cases that are in the index with the same content: they need not be encoded."""
    contents = index.contents()
    return {case.id for case in cases if case.content and contents.get(case.id) == case.content}


@contextmanager
def building(
    location: str | Path,
    info: IndexInfo,
    rebuild: bool = False,
    is_first: bool = True,
    wait: Callable[[], None] = lambda: None,
    add_line: str = "",
) -> Iterator[CaseIndex]:
    """Open an index to fill: a new one, or one that was begun with the same `info`, its date aside.

    Args:
        location: a folder, "lance:FOLDER", or "http(s)://HOST:6333/COLLECTION".
        info: what it says of itself.
        rebuild: fill a new index in the place of one that is there, which is searched until the block ends.
        is_first: whether this process makes and publishes it, of several that fill it together.
        wait: returns when all of them have called it.
        add_line: the command line that adds the photos to another index of this model; "" for none.

    Raises:
        DataError: there is another index, and not `rebuild`.
    """
    rebuilds = rebuild and has_index(location)
    wait()
    if is_first and rebuilds:
        rebuild_index(location, info).close()
    elif is_first and not has_index(location):
        create_index(location, info).close()
    wait()
    with rebuild_index(location, info) if rebuilds else open_index(location) as index:
        _refuse_other(index, info, add_line)
        yield index
        if is_first:
            index.publish()


def _refuse_other(index: CaseIndex, info: IndexInfo, add_line: str = "") -> None:
    """Refuse to go on with an index of other vectors or fields; raises DataError that says what differs."""
    if index.info.is_same(info):
        return
    before, after = index.info.to_json(), info.to_json()
    names = {name for name in after if name != "created" and before[name] != after[name]}
    if "model_sha256" in names:
        names -= _OF_MODEL
    words = dict.fromkeys(word for name, word in _DIFFERS.items() if name in names)
    cases = "its 1 case" if len(index) == 1 else f"its {len(index):,} cases"
    remedy = f"--rebuild replaces {cases}; or use another place"
    if add_line and names != {"fields"} and names <= _OF_PHOTOS:
        own = ", with the fields that it has" if "fields" in names else ""
        remedy = f"to add them{own}: {add_line}"
    raise DataError(problem(index.place, " and ".join(words), f"the same as for {cases}, to go on with it", remedy))


def add_batches(location: str, index: CaseIndex, batches: Iterable[Batch]) -> IndexAdded:
    """Add cases to an open index, each batch as a whole; those that are there with the same content are skipped.

    Args:
        location: of the index, as the user wrote it.
        index: open.
        batches: cases with vectors, asked for one by one.

    Raises:
        DataError: a vector is not as `CaseIndex.add` expects.
    """
    contents = dict(index.contents())
    added = replaced = skipped = 0
    not_kept: dict[str, int] = {}
    for cases, vectors in batches:
        changed = [row for row, case in enumerate(cases) if not case.content or contents.get(case.id) != case.content]
        index.add([cases[row] for row in changed], vectors[changed])
        skipped += len(cases) - len(changed)
        for case in (cases[row] for row in changed):
            is_new = case.id not in contents
            added, replaced = added + is_new, replaced + (not is_new)
            contents[case.id] = case.content
            for name in case.fields.keys() - set(index.info.fields):
                not_kept[name] = not_kept.get(name, 0) + 1
    return IndexAdded(location, added, replaced, skipped, len(index), dict(sorted(not_kept.items())))


def index_remove(location: str | Path, ids: Sequence[str], purge: bool = False) -> IndexRemoved:
    """Remove cases from an index by their ids.

    Args:
        location: a folder, "lance:FOLDER", or "http(s)://HOST:6333/COLLECTION".
        ids: names of cases; those that the index does not have are counted.
        purge: free the space at once, with thumbs: nothing of the cases is left in the files.

    Raises:
        DataError: there is no index, or no id.
    """
    wanted = list(dict.fromkeys(ids))
    if not wanted:
        raise DataError(problem(location, "no id of a case", "at least one", "name them, or a file with one per line"))
    with open_index(location) as index:
        removed = index.delete(wanted)
        if purge:
            index.compact()
        return IndexRemoved(str(location), removed, len(wanted) - removed, len(index), purge)


def read_ids(path: Path) -> list[str]:
    """Return the ids in a text file, one per line; blank lines are skipped.

    Raises:
        DataError: the file cannot be read, or is not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise DataError(problem(path, reason, "a text file with one id per line", "check the path")) from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def index_info(location: str | Path) -> IndexSummary:
    """Return what an index says of itself, and how many cases it has.

    Raises:
        DataError: there is no index, or it is damaged.
    """
    with open_index(location) as index:
        classes = index.counts(LABEL) if LABEL in index.info.fields else {}
        return IndexSummary(str(location), len(index), index.info, classes)

"""Predictions of case retrieval in files: similarities of a gallery to queries, and TREC runs.

predictions/retrieve/similarities.npz   queries (Q,) and gallery (G,), ids as text; scores (Q, G) float32, higher is
                                        nearer, NaN where a photo is not in a query's gallery; protocol ("train" or
                                        "loo") and classes (the attribute that is the class; "": the diagnosis) tell
                                        `magic score` what is relevant, and may be absent; read without pickle
predictions/retrieve/run.trec           query Q0 photo rank score tag, as trec_eval, ir-measures and ranx read it:
                                        scores fall strictly, equal similarities are in the order of ids
predictions/retrieve/qrels.txt          query 0 photo 1 for each photo of the query's class

Blanks in ids are written as %20 in TREC files. Those are left out where queries times photos are above `MOST_PAIRS`.
`magic score` reads the first file of a folder, or users' runs (RUN.trec, or any text of such lines): what a run does
not return was not found, while NaN is not in the gallery.
"""

import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.errors import SubmissionError, first_lines, printable, problem, redact
from magic_cli.io.regular_file import open_regular
from magic_cli.io.text_lines import text_lines
from magic_cli.records import Submitted

SIMILARITIES, RUN, JUDGED = "similarities.npz", "run.trec", "qrels.txt"

FILES = (SIMILARITIES, RUN, JUDGED)

MOST_PAIRS = 5_000_000

_RUNS = (".trec", ".run")

_TEXTS = (*_RUNS, ".txt", ".tsv", "")

_LONGEST = 1 << 12  # bytes of a line

_MOST_BYTES = 1 << 36  # of similarities

_MOST_SCORE = float(np.finfo(np.float32).max)  # of a run: larger ones would all be equal

_AGAIN = "predict again"


@dataclass(frozen=True, slots=True, eq=False)
class SubmittedRanking(Submitted):
    """The ranking of one query as read from a file; `id` is the query's.

    Attributes:
        gallery: ids of the photos that are ranked; queries may share one tuple.
        scores: similarity of each, float32 (gallery,), higher is nearer; NaN for photos that are not in its gallery.
        is_run: what is not in `gallery` was not returned, rather than not in the query's gallery.
    """

    gallery: tuple[str, ...] = ()
    scores: NDArray[np.float32] | None = None
    is_run: bool = False


@dataclass(frozen=True)
class RankingFiles:
    """Where predictions of case retrieval are; one of both paths is there."""

    source: str
    similarities: Path | None = None
    run: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The file that is read."""
        return tuple(path for path in (self.similarities, self.run) if path is not None)


@dataclass(frozen=True)
class Asked:
    """What predictions say of how they are to be scored on a prepared dataset; "" where they do not.

    Attributes:
        protocol: "train" or "loo" (data/retrieval/gold.py).
        classes: the attribute that is the class of a case; None where they do not say it, "": its diagnosis.
    """

    protocol: str = ""
    classes: str | None = None


def trec_id(name: str) -> str:
    """Return an id as TREC files have it, without blanks.

    >>> trec_id("a 1")
    'a%201'
    """
    return re.sub(r"\s", lambda blank: "".join(f"%{byte:02X}" for byte in blank[0].encode()), name)


def find_rankings(path: Path) -> RankingFiles | None:
    """Return the predictions in a file, in a folder or in one of its folders; None if there are none.

    Raises:
        SubmissionError: several of its folders hold some.
    """
    if path.is_dir():
        here = _in_folder(path)
        deeper = [] if here else [found for folder in _folders(path) if (found := _in_folder(folder)) is not None]
        if len(deeper) > 1:
            got = " and ".join(found.source for found in deeper[:3])
            raise SubmissionError(problem(printable(path), got, "one of them", "give one of these folders"))
        return here or next(iter(deeper), None)
    if path.suffix.casefold() == ".npz" and path.is_file():
        return RankingFiles(printable(path), similarities=path)
    if path.suffix.casefold() in _TEXTS and path.is_file() and (path.suffix.casefold() in _RUNS or _looks_like(path)):
        return RankingFiles(printable(path), run=path)
    return None


def _in_folder(folder: Path) -> RankingFiles | None:
    for name in (SIMILARITIES, RUN):
        if (folder / name).is_file():
            path = folder / name
            return RankingFiles(printable(folder), *((path, None) if name == SIMILARITIES else (None, path)))
    return None


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if entry.is_dir())
    except OSError:  # what cannot be looked into holds nothing for us
        return []


def _looks_like(path: Path) -> bool:
    """Return whether the first line of a text is one of a run."""
    try:
        with open_regular(path) as file:
            fields = file.readline(_LONGEST).decode("utf-8-sig", "replace").split()
    except OSError:
        return False
    return len(fields) == 6 and _number(fields[4]) is not None and fields[3].lstrip("+-").isdigit()


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) <= _MOST_SCORE else None  # NaN is not


def read_rankings(files: RankingFiles) -> Iterator[SubmittedRanking]:
    """Yield the ranking of each query in the files.

    Raises:
        SubmissionError: damaged similarities; or lines of a run that are none, of which up to 20 are named.
    """
    if files.similarities is not None:
        queries, gallery, scores = _similarities(files.similarities)
        for query, row in zip(queries, scores, strict=True):
            yield SubmittedRanking(query, gallery=gallery, scores=row)
    elif files.run is not None:
        for query, found in read_run(files.run).items():
            values = np.array(list(found.values()), np.float32)
            yield SubmittedRanking(query, gallery=tuple(found), scores=values, is_run=True)


def ranked_ids(files: RankingFiles) -> tuple[str, ...]:
    """Return the ids of all photos that files rank, in the order in which they come; raises as `read_rankings`."""
    if files.similarities is not None:
        (gallery,) = _arrays(files.similarities, "gallery")
        if not _are_ids(gallery):
            raise _unsound(files.similarities)
        return tuple(gallery.tolist())
    return () if files.run is None else tuple(dict.fromkeys(n for row in read_run(files.run).values() for n in row))


def asked_of(rankings: Sequence[RankingFiles]) -> Asked:
    """Return what all predictions say of how they are to be scored; those that say nothing go with the others.

    Raises:
        SubmissionError: two of them differ, or one is damaged.
    """
    says = [(files.source, _asked(files.similarities)) for files in rankings if files.similarities is not None]
    protocols = {asked.protocol: source for source, asked in says if asked.protocol}
    classes = {asked.classes: source for source, asked in says if asked.classes is not None}
    for kind, values in (("gallery", protocols), ("class", classes)):
        if len(values) > 1:
            (first, place), (second, other) = list(values.items())[:2]
            got = f"{kind} {printable(second or 'diagnosis')}, but {printable(first or 'diagnosis')} in {place}"
            raise SubmissionError(problem(other, got, f"one {kind}", "score each by itself"))
    return Asked(next(iter(protocols), ""), next(iter(classes), None))


def _asked(path: Path) -> Asked:
    """Return what a file of similarities says of itself."""
    values: dict[str, str | None] = {"protocol": None, "classes": None}
    for name in values:
        for array in _arrays(path, name, optional=True):
            if array.ndim or array.dtype.kind != "U":
                raise _unsound(path)
            values[name] = str(array)
    if values["protocol"] not in (None, "train", "loo"):
        raise _unsound(path)
    return Asked(values["protocol"] or "", values["classes"])


def _similarities(path: Path) -> tuple[tuple[str, ...], tuple[str, ...], NDArray[np.float32]]:
    queries, gallery, scores = _arrays(path, "queries", "gallery", "scores")
    if not _are_sound(queries, gallery, scores):
        raise _unsound(path)
    return tuple(queries.tolist()), tuple(gallery.tolist()), scores.astype(np.float32, copy=False)


def _unsound(path: Path) -> SubmissionError:
    got, expected = "arrays of another layout", "distinct ids as text, and scores (queries, gallery) or NaN"
    return SubmissionError(problem(path, got, expected, _AGAIN))


def _arrays(path: Path, *names: str, optional: bool = False) -> list[NDArray[Any]]:
    """Return arrays of the file; no other is read, and `optional` ones may be absent."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _MOST_BYTES:
            raise SubmissionError(
                problem(path, f"{size} bytes", f"at most {_MOST_BYTES}", "score a part of the queries")
            )
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[name] for name in names if name in arrays or not optional]
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error, MemoryError):
        expected = "queries, gallery and scores as numpy.savez writes them"
        raise SubmissionError(problem(path, "what cannot be read", expected, _AGAIN)) from None


def _are_ids(ids: NDArray[Any]) -> bool:
    return ids.ndim == 1 and ids.dtype.kind == "U" and len(np.unique(ids)) == len(ids)


def _are_sound(queries: NDArray[Any], gallery: NDArray[Any], scores: NDArray[Any]) -> bool:
    return (
        all(map(_are_ids, (queries, gallery)))
        and scores.shape == (len(queries), len(gallery))
        and scores.dtype.kind == "f"
        and not np.isinf(scores).any()
    )


def read_run(path: Path) -> dict[str, dict[str, float]]:
    """Return the score of each photo that a TREC run returns for each query, in the order of the file.

    Raises:
        SubmissionError: a line that is none of a run, a photo twice for a query, or no line; up to 20 are named.
    """
    found: dict[str, dict[str, float]] = {}
    lines: list[str] = []
    for number, text in text_lines(path, SubmissionError):
        place, fields = f"{printable(path)}:{number}", text.split()
        score = _number(fields[4]) if len(fields) == 6 else None
        if score is None or not fields[3].lstrip("+-").isdigit():
            got = f"{len(fields)} fields" if len(fields) != 6 else f"{redact(fields[3])} and {redact(fields[4])}"
            lines.append(problem(place, got, "query Q0 photo rank score tag", "fix or remove the line"))
            continue
        row = found.setdefault(fields[0], {})
        if fields[2] in row:
            lines.append(problem(place, f"{redact(fields[2])} twice for a query", "once", "remove one of both lines"))
        row[fields[2]] = score
    if not found and not lines:
        lines.append(problem(path, "no line", "query Q0 photo rank score tag", "check the file"))
    if lines:
        raise SubmissionError(first_lines(lines, printable(path)))
    return found


def run_lines(query: str, gallery: Sequence[str], scores: NDArray[np.floating], tag: str = "magic") -> Iterator[str]:
    """Yield the lines of a run for one query: scores are whole numbers that fall, which float32 tells apart.

    Args:
        query: its id.
        gallery: ids.
        scores: (gallery,); photos with NaN are left out, equal ones are in the order of their ids.
        tag: name of the run.
    """
    ids = np.array(gallery, str)
    kept = np.flatnonzero(~np.isnan(scores))
    order = kept[np.lexsort((ids[kept], -np.asarray(scores, np.float32)[kept]))]
    for rank, column in enumerate(order.tolist(), 1):
        yield f"{trec_id(query)} Q0 {trec_id(gallery[column])} {rank} {len(order) - rank} {tag}\n"


def judgement_lines(relevant: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Yield the lines of TREC judgements: relevance as whole numbers, by query and photo."""
    for query, row in relevant.items():
        for photo, value in row.items():
            yield f"{trec_id(query)} 0 {trec_id(photo)} {round(value)}\n"

"""What a case index is: cases with vectors, searched by inner product, exactly, among those that fulfil a condition.

A vector is made of parts, each of norm 1 and side by side; what a query asks for is the inner product, so a query may
weigh the parts by scaling its own. All that every kind of index must refuse, round and order alike is done here.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.index.where import And, Missing, Where, check_fields
from magic_cli.errors import DataError, printable, problem, redact_key
from magic_cli.io import schema

T = TypeVar("T")

SCHEMA = 1

_NORM = 5e-3  # how far the norm of a part may be from 1: float16 and bfloat16 encoders round

_SLACK = 20  # hits more than wanted that an engine is asked for, of which some may tie

_BLOCK = 1 << 22  # values that are multiplied at once in float64


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of the vectors: a unit vector of `width` values, of one level and reach, or of any encoder."""

    name: str
    width: int
    kind: Literal["local", "global", "other"] = "other"


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What an index says of itself: how its vectors were made, and what is kept of the cases.

    Attributes:
        model_sha256: checksum of the model that encoded the photos; vectors of another one cannot be compared.
        parts: the parts of a vector, in order.
        beta: share of the local parts in the similarity, in [0, 1], unless a query says otherwise.
        preprocessing: how photos were read before they were encoded, for people and for a check.
        regions: how many region masks the local parts pool, 0 for none.
        created: date and time, ISO 8601.
        licences: those of the photos.
        fields: names of the fields that are kept of each case; no other leaves the program.
        dataset: what was indexed, for people.
        low_score: similarity that 95 % of the pairs of one class reach on validation; None if that is not known.
        dtype: of the stored vectors; float16 takes half the space and rounds scores by about 1e-3.
        schema: version of this format.
    """

    model_sha256: str
    parts: tuple[Part, ...]
    beta: float = 0.6
    preprocessing: str = ""
    regions: int = 0
    created: str = ""
    licences: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    dataset: str = ""
    dtype: Literal["float32", "float16"] = "float32"
    low_score: float | None = None
    schema: int = SCHEMA

    @property
    def width(self) -> int:
        """Number of values of a vector."""
        return sum(part.width for part in self.parts)

    def slices(self) -> dict[str, slice]:
        """Return where each part is in a vector, by its name."""
        ends = np.cumsum([part.width for part in self.parts]).tolist()
        return {part.name: slice(end - part.width, end) for part, end in zip(self.parts, ends, strict=True)}

    def is_same(self, other: "IndexInfo") -> bool:
        """Return whether two differ in their dates at most, and `low_score` by what devices and threads round."""
        ours, theirs = self.low_score, other.low_score
        if ours is None or theirs is None or abs(ours - theirs) > _NORM:
            return {**self.to_json(), "created": ""} == {**other.to_json(), "created": ""}
        return replace(self, created="", low_score=0.0) == replace(other, created="", low_score=0.0)

    def to_json(self) -> dict[str, object]:
        """Return the "index" object of schemas/index.schema.json."""
        return {
            "schema": self.schema,
            "model_sha256": self.model_sha256,
            "parts": [{"name": part.name, "width": part.width, "kind": part.kind} for part in self.parts],
            "beta": self.beta,
            "preprocessing": self.preprocessing,
            "regions": self.regions,
            "created": self.created,
            "licences": list(self.licences),
            "fields": list(self.fields),
            "dataset": self.dataset,
            "dtype": self.dtype,
            "low_score": self.low_score,
        }

    @classmethod
    def from_json(cls, row: object, place: object) -> Self:
        """Return what `to_json` wrote.

        Raises:
            DataError: `row`, which `place` names, is something else.
        """
        lines = schema.problems("index", row, str(place))
        if lines or not isinstance(row, dict):
            raise DataError(
                [*lines, f"{place}: no index that this version reads; build it again with `magic index build`"]
            )
        parts = tuple(Part(part["name"], part["width"], part["kind"]) for part in row["parts"])
        lists = {name: tuple(row[name]) for name in ("licences", "fields")}
        return cls(**{**row, **lists, "parts": parts})


@dataclass(frozen=True, slots=True)
class IndexedCase:
    """A case of the index.

    Attributes:
        id: its name.
        fields: what is known of it, by the names of `IndexInfo.fields`; all values are texts, a missing one is absent.
        content: hash of what was encoded: of a case that has it already, nothing needs to be encoded again.
        thumb: path of a small picture below the index folder, "" for none.
    """

    id: str
    fields: Mapping[str, str] = field(default_factory=dict)
    content: str = ""
    thumb: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Hit:
    """A case that was found: its inner product with the query, and its stored vector, float32 (width,)."""

    id: str
    score: float
    fields: Mapping[str, str]
    vector: NDArray[np.float32]
    content: str = ""
    thumb: str = ""


class CaseIndex(ABC):
    """Cases with vectors. A subclass stores them; checks, rounding and the order of hits are the same for all.

    Args:
        place: where it is, for messages.
        info: what it says of itself.
    """

    def __init__(self, place: str, info: IndexInfo) -> None:
        self.place = place
        self.info = info

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of cases."""

    @abstractmethod
    def contents(self) -> Mapping[str, str]:
        """Return the content hash of every case by its id."""

    @abstractmethod
    def compact(self) -> None:
        """Free the space of what was deleted or replaced, for good."""

    @abstractmethod
    def publish(self) -> None:
        """Put an index that `rebuild_index` began in the place of the older one, at once; else do nothing."""

    @abstractmethod
    def close(self) -> None:
        """Release files and connections."""

    @abstractmethod
    def _put(self, cases: Sequence[IndexedCase], vectors: NDArray[np.float32]) -> None:
        """Store checked cases of different ids; those whose id is there are replaced."""

    @abstractmethod
    def _drop(self, ids: Sequence[str]) -> int:
        """Delete the cases of these different ids; return how many there were."""

    @abstractmethod
    def _nearest(self, queries: NDArray[np.float32], k: int, where: Where | None) -> list[list[Hit]]:
        """Return the hits of `search`, in any order, with any score; more than k are allowed."""

    @abstractmethod
    def _texts(self, field: str, where: Where | None) -> list[str]:
        """Return the values of a field that is kept, "" where it is missing, of the cases that fulfil a condition."""

    def counts(self, field: str, where: Where | None = None) -> dict[str, int]:
        """Return how many cases have each value of a field, the commonest first; those without it are not counted.

        Raises:
            UsageError: the field, or one that `where` asks for, is not kept.
        """
        check_fields(Missing(field) if where is None else And((where, Missing(field))), self.info.fields, self.place)
        counted = Counter(text for text in self._texts(field, where) if text)
        return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))

    def add(self, cases: Sequence[IndexedCase], vectors: NDArray[np.float32]) -> None:
        """Store cases; one whose id is there is replaced, of an id given twice the last one counts.

        Args:
            cases: fields that `IndexInfo.fields` does not name are not stored; an empty value is a missing one.
            vectors: float32 (cases, width), each part of norm 1.

        Raises:
            DataError: a vector is of another width, not finite, or has a part whose norm is not 1; nothing is stored.
        """
        rounded = self._checked(cases, vectors)
        last = {case.id: row for row, case in enumerate(cases)}
        if last:
            self._put([self._kept(cases[row]) for row in last.values()], rounded[list(last.values())])

    def delete(self, ids: Sequence[str]) -> int:
        """Delete cases; return how many of the ids there were. `compact` frees their space."""
        return self._drop(list(dict.fromkeys(ids))) if ids else 0

    def search(self, queries: NDArray[np.float32], k: int, where: Where | None = None) -> list[list[Hit]]:
        """Return the k cases of the highest inner product for each query, exactly.

        Scores are sums in float64 of the stored vector's products, rounded to float32: they do not depend on the kind
        of index, on the other queries, or on where a case is stored. Order: the higher score first, equal ones by id.

        Args:
            queries: float32 (queries, width), of any norm.
            k: how many; all are returned if there are fewer.
            where: only cases that fulfil it are ranked (a pre-filter).

        Raises:
            DataError: a query is of another width or not finite.
            UsageError: `where` asks for a field that is not kept.
            ValueError: k is less than 1.
        """
        if k < 1:
            raise ValueError(f"k is {k}, which is less than 1")
        if where is not None:
            check_fields(where, self.info.fields, self.place)
        asked = np.ascontiguousarray(self._finite(queries, "a query"))
        return [ranked(query, hits)[:k] for query, hits in zip(asked, self._nearest(asked, k, where), strict=True)]

    def check_model(self, model_sha256: str) -> None:
        """Refuse a model that did not make the vectors of this index.

        Raises:
            DataError: its checksum is another one.
        """
        if model_sha256 != self.info.model_sha256:
            got, expected = (
                f"a model of checksum {model_sha256[:12]}",
                f"{self.info.model_sha256[:12]}, which encoded it",
            )
            raise DataError(problem(self.place, got, expected, "use that model, or build the index again"))

    def _kept(self, case: IndexedCase) -> IndexedCase:
        kept = {name: case.fields[name] for name in self.info.fields if case.fields.get(name)}
        return IndexedCase(case.id, kept, case.content, case.thumb)

    def _finite(self, vectors: NDArray[np.float32], what: str) -> NDArray[np.float32]:
        """Return vectors as float32; refuse another width, NaN and infinities, which some engines store silently."""
        width = self.info.width
        if vectors.ndim != 2 or vectors.shape[1] != width:
            got = f"{what} of {vectors.shape[-1] if vectors.ndim else 0} values"
            raise DataError(problem(self.place, got, f"{width}", "use the model that encoded the index"))
        if not np.isfinite(vectors).all():
            raise DataError(
                problem(self.place, f"{what} with NaN or infinity", "finite values", "check the photo and model")
            )
        return vectors.astype(np.float32, copy=False)

    def _checked(self, cases: Sequence[IndexedCase], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return vectors as they are stored; if in float16, rounded here, so that all engines have the same."""
        if len(cases) != len(vectors):
            raise ValueError(f"{len(cases)} cases and {len(vectors)} vectors")
        checked = self._finite(vectors, "a vector")
        for name, place in self.info.slices().items():
            norms = np.linalg.norm(checked[:, place], axis=1)
            wrong = np.flatnonzero(np.abs(norms - 1) > _NORM)
            if wrong.size:
                where = f"{self.place}: case {redact_key(cases[wrong[0]].id)}"
                got = f"norm {norms[wrong[0]]:.4g} of its part {printable(name)}"
                raise DataError(problem(where, got, "1", "normalise each part; nothing was added"))
        return checked.astype(np.float16).astype(np.float32) if self.info.dtype == "float16" else checked


def exact_scores(query: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the inner products of a query (width,) with vectors (n, width), summed in float64, as float32 (n,).

    Each is summed along its own row: equal vectors get equal scores, wherever they are stored.
    """
    scores = np.empty(len(vectors), np.float32)
    step = max(1, _BLOCK // max(1, query.size))
    wide = query.astype(np.float64)
    for start in range(0, len(vectors), step):
        scores[start : start + step] = (vectors[start : start + step] * wide).sum(axis=1)
    return scores


def ranked(query: NDArray[np.float32], hits: Sequence[Hit]) -> list[Hit]:
    """Return hits with their exact scores, the highest first, equal ones by id."""
    if not hits:
        return []
    scores = exact_scores(query, np.stack([hit.vector for hit in hits])).tolist()
    again = [Hit(h.id, score, h.fields, h.vector, h.content, h.thumb) for h, score in zip(hits, scores, strict=True)]
    return sorted(again, key=lambda hit: (-hit.score, hit.id))


def rounding(query: NDArray[np.float32], info: IndexInfo, in_half: bool = False) -> float:
    """Return how far an engine's score may be from the exact one, at most.

    That is the bound of a sum of float32 products, for this query and vectors of the index; an engine that multiplies
    vectors stored as float16 as such (`in_half`) rounds the query and the products to 11 bits as well.
    """
    unit = info.width * 2.0**-24 + (2.0**-8 if in_half and info.dtype == "float16" else 0.0)
    return unit * float(np.linalg.norm(query)) * float(np.sqrt(len(info.parts)) + 2 * _NORM)


def largest_score(queries: NDArray[np.float32], info: IndexInfo) -> float:
    """Return what no inner product of these queries (n, width) with vectors of the index exceeds, rounding included."""
    norms = np.linalg.norm(queries.astype(np.float64), axis=1)
    return float(norms.max(initial=0.0) * np.sqrt(len(info.parts)) * (1 + 4 * _NORM))


def widening(fetch: Callable[[int], list[Hit]], k: int, margin: float) -> list[Hit]:
    """Return hits among which the k best are for certain, from an engine that orders ties as it likes.

    The engine is asked for more than k, and for more again while the last one that it returned could be as good as the
    k-th: then equal ones may be missing.

    Args:
        fetch: returns that many hits, the highest first, with scores as the engine rounds them; fewer if there are
            no more.
        k: how many are wanted.
        margin: by how much two scores of the engine must differ for their order to be certain.
    """
    most = k + _SLACK
    while True:
        hits = fetch(most)
        if len(hits) < most or hits[-1].score < hits[k - 1].score - margin:
            return hits
        most *= 4


def in_batches(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """Yield items in lists of at most `size`."""
    for start in range(0, len(items), size):
        yield list(items[start : start + size])

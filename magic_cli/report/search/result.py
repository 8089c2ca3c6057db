"""The result of a search: the query, the cases that are most like it, and what their classes say; as text and files."""

import csv
import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.texts.query_text import presence
from magic_cli.errors import printable
from magic_cli.report.search.votes import CONFIRMED, UNCONFIRMED, ClassVote, confirmation, votes
from magic_cli.report.table import Table

STATEMENT = "For comparison with known cases, not a diagnosis: similar photos can show different diseases."

NO_CLOSE_CASE = "No close case"

MATCH, DIFFERS, MISSING = "match", "differs", "missing"

SITE, SEX, AGE = "site", "sex", "age"

UNKNOWN = "class not stated"

_LEVELS = ("l", "m", "h")

_KINDS = ("local", "global")

_LONGEST_TEXT = 300  # characters of the query's text on a terminal

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would evaluate a cell that starts with one of these


class Agreement(NamedTuple):
    """An attribute of the query beside that of a hit; "" where it is not stated. `verdict`: match, differs, missing."""

    name: str
    query: str
    hit: str
    verdict: str


@dataclass(frozen=True, slots=True, eq=False)
class SearchHit:
    """A case of the gallery.

    Attributes:
        rank: place in the whole ranking, from 1.
        id: of the case, as the index has it; pages show `case` instead.
        score: similarity, at most 1: S / 3 of a model with three levels, else a cosine.
        parts: cosine of each part of the vectors, by its name, such as "local_l" or "image"; of "class", the
            probability that query and case are of one class.
        fields: what the index says about the case; missing values have no key.
        agreement: the query's attributes beside the hit's.
        thumb: a photo of the case, None without one.
        regions: the region masks of the best level, float32 (k, h, w); they cover the whole photo evenly.
        is_duplicate: it is the query's own photo, or a copy of it.
        same_group: it is of the query's patient or lesion.
    """

    rank: int
    id: str
    score: float
    parts: Mapping[str, float]
    fields: Mapping[str, str]
    agreement: tuple[Agreement, ...] = ()
    thumb: Path | None = None
    regions: NDArray[np.float32] | None = None
    is_duplicate: bool = False
    same_group: bool = False

    @property
    def case(self) -> str:
        """The case's name on pages and in all other results: 12 digits of the SHA-256 of its id."""
        return hashlib.sha256(self.id.encode("utf-8", "surrogatepass")).hexdigest()[:12]

    @property
    def is_known(self) -> bool:
        """Whether it is the query's own photo, patient or lesion, and so no evidence."""
        return self.is_duplicate or self.same_group

    @property
    def mark(self) -> str:
        """What `is_known` means, in words; "" for another case."""
        return "the query's own photo" if self.is_duplicate else "the query's patient" if self.same_group else ""

    @property
    def about(self) -> str:
        """Site, sex and age, as far as they are stated."""
        return ", ".join(self.fields[name] for name in (SITE, SEX, AGE) if self.fields.get(name))

    def agreed(self, verdict: str) -> int:
        """Return how many attributes have a verdict: match, differs or missing."""
        return sum(each.verdict == verdict for each in self.agreement)


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """The answer to a query.

    Attributes:
        query_image: the query's photo, a file or its bytes; None for a query in words alone.
        text: the words that were used.
        attributes: what was stated of the query, by name.
        quality: what may be wrong with the photo, short sentences (data/imaging/quality.py).
        query_regions: as `SearchHit.regions`.
        hits: the most similar cases, best first.
        nearest: the most similar case of each class, wherever it ranks; none of the query's own.
        prior: cases of each class in the gallery, after the filter.
        low_score: the 5th percentile of scores among cases of one class on validation; None if it is not known.
        provenance: what the result depends on, by name: model, index, licences, citation, beta, k, command line.
        label_field: the field of `SearchHit.fields` that is the class.
    """

    query_image: Path | bytes | None
    text: str
    attributes: Mapping[str, str]
    quality: tuple[str, ...]
    query_regions: NDArray[np.float32] | None
    hits: tuple[SearchHit, ...]
    nearest: Mapping[str, SearchHit]
    prior: Mapping[str, int]
    low_score: float | None
    provenance: Mapping[str, str] = field(default_factory=dict)
    label_field: str = "diagnosis"

    def label(self, hit: SearchHit) -> str:
        """Return the class of a hit, "" if it is not stated."""
        return hit.fields.get(self.label_field, "")

    @property
    def evidence(self) -> tuple[SearchHit, ...]:
        """The hits that vote: all but the query's own photo, patient and lesion."""
        return tuple(hit for hit in self.hits if not hit.is_known)

    @property
    def votes(self) -> tuple[ClassVote, ...]:
        """Every class among the hits and in the gallery."""
        prior = dict.fromkeys(self.nearest, 0) | dict(self.prior)
        return votes((self.label(hit) for hit in self.evidence), prior)

    @property
    def is_close(self) -> bool | None:
        """Whether the best score is one that cases of the same class have; None if that is not known."""
        scores = [hit.score for hit in self.evidence]
        return None if self.low_score is None or not scores else max(scores) >= self.low_score

    @property
    def part_names(self) -> tuple[str, ...]:
        """The names of all parts, in the order of the index."""
        return tuple(dict.fromkeys(name for hit in (*self.hits, *self.nearest.values()) for name in hit.parts))

    @property
    def score_name(self) -> str:
        """What scores are: "S/3" for a model with three levels, else "cosine"; "similarity" of these and of classes."""
        if "class" in self.part_names:
            return "similarity"
        return "S/3" if len(levels_of(self.part_names)) > 1 else "cosine"

    def to_json(self) -> dict[str, object]:
        """Return schemas/search.schema.json without its header; ids are those of the index."""
        return {
            "query": {
                "has_image": self.query_image is not None,
                "text": self.text,
                "attributes": dict(self.attributes),
                "quality": list(self.quality),
            },
            "label_field": self.label_field,
            "hits": [self._hit_json(hit) for hit in self.hits],
            "nearest": {name: self._hit_json(hit) for name, hit in self.nearest.items()},
            "votes": [vote.to_json() for vote in self.votes],
            "prior": dict(self.prior),
            "low_score": self.low_score,
            "is_close": self.is_close,
            "provenance": dict(self.provenance),
            "statement": STATEMENT,
        }

    def _hit_json(self, hit: SearchHit) -> dict[str, object]:
        return {
            "rank": hit.rank,
            "id": hit.id,
            "case": hit.case,
            "label": self.label(hit),
            "confirmation": confirmation(hit.fields),
            "score": hit.score,
            "parts": dict(hit.parts),
            "fields": dict(hit.fields),
            "agreement": [each._asdict() for each in hit.agreement],
            "is_duplicate": hit.is_duplicate,
            "same_group": hit.same_group,
        }

    def csv(self) -> str:
        """Return the hits as CSV, a row each; cells that a spreadsheet would take for a formula get an apostrophe."""
        fields = sorted({name for hit in self.hits for name in hit.fields} - {self.label_field})
        verdicts = (MATCH, DIFFERS, MISSING)
        head = ["rank", "id", "case", "label", "confirmation", "score", *self.part_names, *verdicts]
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(map(_cell, [*head, "is_duplicate", "same_group", *(f"field:{name}" for name in fields)]))
        for hit in self.hits:
            row = [hit.rank, hit.id, hit.case, self.label(hit), confirmation(hit.fields), hit.score]
            row += [hit.parts.get(name, "") for name in self.part_names]
            row += [*(hit.agreed(verdict) for verdict in verdicts), hit.is_duplicate, hit.same_group]
            writer.writerow(map(_cell, [*row, *(hit.fields.get(name, "") for name in fields)]))
        return buffer.getvalue()

    def trec(self, query: str = "query", tag: str = "magic") -> str:
        """Return a TREC run: `query Q0 case rank score tag`.

        Scores are whole numbers that fall from the number of hits to 1, so that no program finds a tie where there is
        none; those of the model are in the CSV. An id with blanks is written as its case.
        """
        names = [hit.case if not hit.id or any(map(str.isspace, hit.id)) else hit.id for hit in self.hits]
        total = len(names)
        rows = (f"{query} Q0 {name} {rank} {total + 1 - rank} {tag}\n" for rank, name in enumerate(names, 1))
        return "".join(rows)

    def lines(self) -> list[str]:
        """Return the result for a terminal."""
        return [*self._query_lines(), *self._table().lines(), *self._summary_lines(), STATEMENT]

    def _query_lines(self) -> list[str]:
        text = self.text if len(self.text) <= _LONGEST_TEXT else f"{self.text[:_LONGEST_TEXT]} ..."
        parts = ["a photo"] * (self.query_image is not None) + [f'"{text}"'] * bool(text)
        stated = ", ".join(f"{name} {value}" for name, value in self.attributes.items())
        line = f"query: {' and '.join(parts) or 'nothing'}" + (f"; stated: {stated}" if stated else "")
        return [line, *(f"note: {line}" for line in self.quality)]

    def _table(self) -> Table:
        names = [name for name in self.part_names if name not in _of_levels(self.part_names)]
        kinds = [kind for kind in _KINDS if any(name.startswith(f"{kind}_") for name in _of_levels(self.part_names))]
        levels = levels_of(self.part_names)
        heads = [f"{kind} {' '.join(levels).upper()}" for kind in kinds]
        has_words = any(hit.agreement for hit in self.hits)
        rows = []
        for hit in self.hits:
            pairs = [" ".join(_number(hit.parts.get(f"{kind}_{level}"), 2) for level in levels) for kind in kinds]
            label = self.label(hit) or UNKNOWN
            cells = [str(hit.rank), f"{label} ({hit.mark})" if hit.mark else label, _proof(hit)]
            cells += [_number(hit.score), *pairs, *(_number(hit.parts.get(name)) for name in names), hit.about or "-"]
            agreement = f"{hit.agreed(MATCH)} match, {hit.agreed(DIFFERS)} differ, {hit.agreed(MISSING)} missing"
            rows.append((*cells, *([agreement] if has_words else []), hit.case, hit.id))
        about = ("site, sex, age", *(["agreement"] if has_words else []), "case", "id")
        head = ("rank", self.label_field, "biopsy", self.score_name, *heads, *names, *about)
        words = frozenset({1, 2, *range(len(head) - len(about), len(head))})
        title = f"the {len(self.hits)} most similar of {sum(self.prior.values())} cases with a {self.label_field}"
        if not self.hits:
            title = "no case fulfils the condition: check --where and `magic index info`"
        return Table(title, head, tuple(rows), words=words)

    def _summary_lines(self) -> list[str]:
        shown = [vote for vote in self.votes if vote.count] or list(self.votes[:3])
        counts = [
            f"  {vote.name or UNKNOWN}: {vote.count} of {vote.total}, {100 * vote.share:.0f} % (95 % interval "
            f"{100 * vote.low:.0f} to {100 * vote.high:.0f} %); gallery {100 * vote.prior_share:.0f} %: {vote.verdict}"
            for vote in shown
        ]
        own = len(self.hits) - len(self.evidence)
        left_out = f"; {own} of the query's own photo or patient left out" if own else ""
        unstated = sum(not self.label(hit) for hit in self.evidence)
        left_out += f"; {unstated} whose {self.label_field} is not stated left out" if unstated else ""
        lines = [f"among the neighbours{left_out}:", *counts] if self.hits else []
        if self.nearest:
            lines.append("nearest case of each class:")
            ordered = sorted(self.nearest.items(), key=lambda item: (item[1].rank, item[0]))
            lines += [
                f"  {name}: {_number(hit.score)}, rank {hit.rank}, case {hit.case}, {hit.id}" for name, hit in ordered
            ]
        if self.is_close is False and self.low_score is not None:
            lines.append(f"{NO_CLOSE_CASE.lower()}: {self.distance}")
        return lines

    @property
    def distance(self) -> str:
        """A sentence about the best score beside `low_score`; "" if one of them is not there."""
        scores = [hit.score for hit in self.evidence]
        if self.low_score is None or not scores:
            return ""
        below = "below" if max(scores) < self.low_score else "not below"
        limit = f"{_number(self.low_score)}, which 95 % of the pairs of one class reach on validation"
        why = " (1 is the same; it is below 0, as photos of one class can look unlike each other)"
        return f"the best score, {_number(max(scores))}, is {below} {limit}{why if self.low_score < 0 else ''}"


def agreement(query: Mapping[str, str], hit: Mapping[str, str]) -> tuple[Agreement, ...]:
    """Return the query's attributes beside those of a case, compared without regard to capitals and blanks.

    Signs that are there, or not, agree in any spelling of it: yes, 1 and present; no, 0 and absent.

    >>> agreement({"veil": "Present", "streaks": "absent"}, {"veil": "present"})[0].verdict
    'match'
    """
    rows = []
    for name, value in query.items():
        other = hit.get(name, "")
        same = is_same_value(value, other)
        rows.append(Agreement(name, value, other, MISSING if not value or not other else MATCH if same else DIFFERS))
    return tuple(rows)


def is_same_value(value: str, other: str) -> bool:
    """Return whether two values of an attribute say the same (`agreement`)."""
    is_there = presence(value)
    alike = " ".join(value.casefold().split()) == " ".join(other.casefold().split())
    return alike or (is_there is not None and is_there == presence(other))


def levels_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the levels that parts have, "l", "m" and "h" in this order; () for parts of another kind."""
    return tuple(level for level in _LEVELS if any(f"{kind}_{level}" in names for kind in _KINDS))


def _of_levels(names: tuple[str, ...]) -> list[str]:
    return [f"{kind}_{level}" for kind in _KINDS for level in _LEVELS if f"{kind}_{level}" in names]


def _names(hit: SearchHit) -> str:
    return f"case {hit.case}, {hit.id}"


def _proof(hit: SearchHit) -> str:
    return {CONFIRMED: "yes", UNCONFIRMED: "no"}.get(confirmation(hit.fields), "-")


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _cell(value: object) -> object:
    """Return a cell of a CSV: numbers as they are, text without what a spreadsheet would evaluate."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if value.startswith(_FORMULA) else text

"""The page of a search: the query, what its neighbours are, a card of each case, and what the result depends on.

It shows photos and words of patients, but no id and no file name: a case is named by 12 digits of its id's SHA-256.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from magic_cli.data.imaging.images import open_photo, photo_of
from magic_cli.errors import DataError
from magic_cli.report import page
from magic_cli.report.search.regions import Strip, ranges, strip
from magic_cli.report.search.result import (
    DIFFERS,
    MATCH,
    MISSING,
    STATEMENT,
    UNKNOWN,
    Agreement,
    SearchHit,
    SearchResult,
    levels_of,
)
from magic_cli.report.search.votes import ClassVote, confirmation

MOST_CARDS = 100

MOST_NEAREST = 24  # classes whose nearest case is shown with its photo

_WITH_REGIONS = 30  # hits

# bytes of all photos, of all region masks, and of the nearest cases: with base64 and text a page stays below 5 MB
_PHOTOS, _REGIONS, _NEAREST = 1_200_000, 1_700_000, 250_000

_PHOTO, _STRIP, _SMALL = 32_000, 75_000, 9_000  # bytes of one picture, if all of them fit

_SIDE, _SMALL_SIDE = 420, 150  # pixels

# fields that tell who a patient is, or which file it was
_IDENTIFYING = re.compile(
    r"(?:patient|lesion|group|case|image|isic|photo|file|record)(?:[ _-]?(?:id|ids|num|number|name|path))?"
    r"|id|ids|name|path|filename|filepath|mrn|case_?num"
)

_PATH = re.compile(r"(?<![^\s='\"(,])(?:~|\.{1,2}|[A-Za-z]:|file:/*)?[/\\][^\s'\",;)]*")

# red, yellow and blue as in the paper on composed retrieval, then colours that people with any vision tell apart
_KNOWN = (
    (re.compile(r"mel\b|.*\bmelanoma.*"), "#cf3a2c"),
    (re.compile(r"bkl|.*\bkeratos[ie]s.*"), "#d8a200"),
    (re.compile(r"nv|.*\bna?ev(?:us|i)\b.*"), "#2f7fc1"),
)

_OTHERS = ("#0f9d78", "#c2570c", "#9a62c4", "#6b7680", "#b3437f", "#5b8c1f", "#3fb0c6", "#8a6d3b")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the similarity: its name, and its cosine, None where it is not known."""

    name: str
    value: float | None

    @property
    def length(self) -> float:
        """Length of the bar, a share in [0, 1]; nothing for what is negative."""
        return min(1.0, max(0.0, self.value or 0.0))


@dataclass(frozen=True, slots=True)
class Card:
    """A case as the page shows it."""

    rank: int
    case: str
    label: str
    colour: str
    confirmation: str
    about: str
    score: float
    parts: tuple[Part, ...]
    agreement: tuple[Agreement, ...]
    counts: tuple[tuple[str, int], ...]
    mark: str
    source: str
    strip: Strip | None
    link: int | None = None  # of the nearest case of a class: the rank of the card that shows it, too


@dataclass(frozen=True, slots=True)
class Row:
    """A class in the summary: its vote, its colour, and its nearest case, None where the filter left none."""

    vote: ClassVote
    name: str
    colour: str
    nearest: Card | None


@dataclass(frozen=True, slots=True)
class Form:
    """The form of the local server: where it is sent to, what stands in it, and its limits."""

    action: str
    text: str
    k: int
    most_k: int
    longest: int
    megabytes: int


def html(result: SearchResult, form: Form | None = None) -> str:
    """Return the page, which loads nothing and runs no script; with a form for the next query above if one is given."""
    return page.render("search.html.jinja", **context(result), problem="", form=form)


def start(form: Form, problem: str = "") -> str:
    """Return the page with the form alone, and what was wrong with the last query."""
    return page.render("search_start.html.jinja", form=form, problem=problem, statement=STATEMENT)


def context(result: SearchResult) -> dict[str, object]:
    """Return what the template search.html.jinja shows of a result."""
    hits = result.hits[:MOST_CARDS]
    names = [vote.name for vote in result.votes] + list(result.nearest) + [result.label(hit) for hit in hits]
    palette = colours(names)
    limits = ranges([result.query_regions, *(hit.regions for hit in hits[:_WITH_REGIONS])])
    photo = picture(result.query_image)
    cards = [_card(result, hit, palette, limits, number) for number, hit in enumerate(hits)]
    of_query = None
    if photo is not None and result.query_regions is not None and limits:
        of_query = strip(photo, result.query_regions, limits, _share(_REGIONS, _STRIP, len(hits) + 1))
    return {
        "result": result,
        "source": page.data_uri(photo, _SIDE, _PHOTO) if photo is not None else "",
        "stated": [(name, value) for name, value in result.attributes.items() if not is_identifying(name)],
        "cards": cards,
        "more": len(result.hits) - len(cards),
        "rows": _rows(result, palette, cards),
        "limits": limits if any(card.strip for card in cards) else (),
        "of_query": of_query,
        "left_out": len(result.hits) - len(result.evidence),
        "provenance": [(name, without_paths(value)) for name, value in result.provenance.items()],
        "levels": levels_of(result.part_names),
        "statement": STATEMENT,
    }


def colours(names: Iterable[str]) -> Mapping[str, str]:
    """Return a colour, #rrggbb, of each class; text beside it says the same.

    >>> colours(["melanoma", "nevus", "other"])["melanoma"]
    '#cf3a2c'
    """
    chosen: dict[str, str] = {}
    for name in dict.fromkeys(names):
        plain = name.strip().casefold().replace("_", " ")
        known = next((colour for pattern, colour in _KNOWN if pattern.fullmatch(plain)), None)
        free = [colour for colour in _OTHERS if colour not in chosen.values()] or _OTHERS
        chosen[name] = known if known is not None and known not in chosen.values() else free[0]
    return chosen


def picture(photo: Path | bytes | None) -> Image.Image | None:
    """Return a photo upright, None if there is none to show."""
    try:
        if isinstance(photo, bytes):
            return photo_of(photo, "photo", at_least=_SIDE)
        return None if photo is None else open_photo(photo, True, at_least=_SIDE)
    except DataError:
        return None


def is_identifying(name: str) -> bool:
    """Return whether a field may tell who a patient is, or which file it was."""
    return _IDENTIFYING.fullmatch(name.strip().casefold()) is not None


def without_paths(text: str) -> str:
    """Return a text without paths of this machine and without the scheme of addresses.

    >>> without_paths("magic search --image /home/a/b.jpg"), without_paths("https://doi.org/10.1/x")
    ('magic search --image PATH', 'doi.org/10.1/x')
    """
    return _PATH.sub("PATH", re.sub(r"https?://", "", text))


def _share(total: int, most: int, number: int) -> int:
    """Return how many bytes each of `number` pictures may have."""
    return min(most, total // max(1, number))


def _card(
    result: SearchResult,
    hit: SearchHit,
    palette: Mapping[str, str],
    limits: tuple[tuple[float, float], ...],
    number: int | None,
) -> Card:
    """Return the card of hit `number`, 0-based; None: of the nearest case of a class, with a small photo."""
    total = min(len(result.hits), MOST_CARDS)
    photo = picture(hit.thumb)
    source, tiles = "", None
    if photo is not None:
        small = (_SMALL_SIDE, _share(_NEAREST, _SMALL, len(result.nearest)))
        side, most = small if number is None else (_SIDE, _share(_PHOTOS, _PHOTO, total))
        source = page.data_uri(photo, side, most)
    if number is not None and number < _WITH_REGIONS and photo is not None and hit.regions is not None and limits:
        tiles = strip(photo, hit.regions, limits, _share(_REGIONS, _STRIP, min(total, _WITH_REGIONS) + 1))
    return Card(
        rank=hit.rank,
        case=hit.case,
        label=result.label(hit) or UNKNOWN,
        colour=palette[result.label(hit)] if result.label(hit) in palette else _OTHERS[0],
        confirmation=confirmation(hit.fields),
        about=hit.about,
        score=hit.score,
        parts=tuple(Part(name, hit.parts.get(name)) for name in result.part_names),
        agreement=tuple(row for row in hit.agreement if not is_identifying(row.name)),
        counts=tuple((verdict, hit.agreed(verdict)) for verdict in (MATCH, DIFFERS, MISSING)),
        mark=hit.mark,
        source=source,
        strip=tiles,
    )


def _rows(result: SearchResult, palette: Mapping[str, str], cards: list[Card]) -> list[Row]:
    """Return every class: its vote, and its nearest case, with a photo if there are not too many classes."""
    listed = {card.case: card.rank for card in cards}
    rows = []
    for number, vote in enumerate(result.votes):
        hit = result.nearest.get(vote.name)
        if hit is not None and number >= MOST_NEAREST:
            hit = replace(hit, thumb=None)
        card = None if hit is None else replace(_card(result, hit, palette, (), None), link=listed.get(hit.case))
        rows.append(Row(vote, vote.name or UNKNOWN, palette[vote.name], card))
    return rows

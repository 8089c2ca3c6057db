"""The searcher behind `magic search`: an index, and the model that made it, asked for what is most like a case."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from magic_cli.commands.index import GROUP, LABEL, licences_of
from magic_cli.data.imaging.images import photo_of, read_image_file
from magic_cli.data.imaging.quality import quality
from magic_cli.data.index.base import CaseIndex, Hit
from magic_cli.data.index.where import Where
from magic_cli.data.retrieval.queries import words_of
from magic_cli.data.texts.query_text import told_attributes
from magic_cli.errors import ConfigError, DataError, did_you_mean, problem, shorten
from magic_cli.io.ownership import is_file_of, is_inside
from magic_cli.io.progress import log
from magic_cli.report.search.result import SearchHit, SearchResult, agreement, is_same_value
from magic_cli.training.case_encoder import CaseEncoder, EncodedQuery

_RANKED, _WIDER = 200, 8  # cases that are ranked at first, and how many times more while a class is not among them


@dataclass(frozen=True, eq=False)
class _Asked:
    """A query: the SHA-256 of its photo's bytes ("" without one), what the model makes of it, and what is stated."""

    sha256: str
    encoded: EncodedQuery
    attributes: Mapping[str, str]
    where: Where | None


def check_stated(index: CaseIndex, attributes: Mapping[str, str]) -> None:
    """Refuse attributes that neither a query nor a case of the index can have; say which values no case has.

    Raises:
        ConfigError: an attribute is unknown; the nearest name is given.
    """
    kept = [field for field in index.info.fields if field not in (GROUP, LABEL)]
    for name, value in attributes.items():
        if name not in kept and name not in told_attributes():
            got = "no attribute of this index, nor one that a query tells"
            remedy = did_you_mean(name, [*kept, *told_attributes()], f"known: {shorten(sorted(kept)) or 'none'}")
            raise ConfigError(problem(f"--attr {shorten([name])}", got, "an attribute of the cases", remedy))
        if name not in kept:
            log(f"note: no case of the index has {name}: only its words count")
            continue
        values = index.counts(name)
        if not any(is_same_value(value, other) for other in values):
            log(f"note: no case of the index has this value of {name}; there: {shorten(list(values))}")


class IndexSearcher:
    """Searches an index by the model that made its vectors.

    Args:
        index: of cases with a class in the field "diagnosis".
        encoder: the model.
        folder: of the index, which its thumbnails are in; None for an index elsewhere.
        beta: share of the local parts; None: the index's own.
    """

    def __init__(self, index: CaseIndex, encoder: CaseEncoder, folder: Path | None, beta: float | None = None) -> None:
        self._index, self._encoder, self._folder = index, encoder, folder
        self._beta = index.info.beta if beta is None else beta

    def search(
        self, image: Path | bytes | None, text: str, attributes: Mapping[str, str], k: int, where: Where | None
    ) -> SearchResult:
        """Return the k cases that are most like a photo and words (commands/search.py, `Searcher`).

        Raises:
            ConfigError: the model needs a photo and there is none. DataError: the photo cannot be read.
        """
        words = " ".join(filter(None, (words_of(attributes), text)))
        asked, flags = self._ask(image, words, attributes, where)
        prior = self._index.counts(LABEL, where)
        ranked, groups = self._ranked(asked, k, prior)
        nearest = _nearest(ranked, asked, groups)
        shown = [self._hit(rank, hit, asked, groups) for rank, hit in enumerate(ranked[:k], 1)]
        return SearchResult(
            query_image=image,
            text=words,
            attributes=attributes,
            quality=flags,
            query_regions=asked.encoded.regions,
            hits=tuple(self._with_regions(shown)),
            nearest={label: self._hit(rank, hit, asked, groups) for label, (rank, hit) in nearest.items()},
            prior=prior,
            low_score=self._index.info.low_score,
            provenance=self._provenance(k),
            label_field=LABEL,
        )

    def _ask(
        self, image: Path | bytes | None, words: str, attributes: Mapping[str, str], where: Where | None
    ) -> tuple[_Asked, tuple[str, ...]]:
        """Return the query, and what may be wrong with its photo."""
        if image is None:
            if self._encoder.needs_photo:
                got = "no photo, and a model that composes a photo with words"
                remedy = "give --image FILE, or index with a pretrained pair (magic train pretrain)"
                raise ConfigError(problem("magic search", got, "a photo", remedy))
            return _Asked("", self._encoder.query(None, words), attributes, where), ()
        data = image if isinstance(image, bytes) else read_image_file(image, image)
        photo = photo_of(data, "the photo" if isinstance(image, bytes) else str(image))
        encoded = self._encoder.query(photo, words, self._beta)
        asked = _Asked(hashlib.sha256(data).hexdigest(), encoded, attributes, where)
        return asked, quality(photo).flags(self._encoder.side)

    def _ranked(self, asked: _Asked, k: int, labels: Mapping[str, int]) -> tuple[list[Hit], set[str]]:
        """Return the first cases, so many that each class is among them, and the groups of the query's own photo."""
        most = max(k, _RANKED)
        while True:
            hits = self._index.search(asked.encoded.vector[None], most, asked.where)[0]
            groups = {hit.fields[GROUP] for hit in hits if _is_copy(hit, asked) and GROUP in hit.fields}
            if len(hits) < most or labels.keys() <= _nearest(hits, asked, groups).keys():
                return hits, groups
            most *= _WIDER

    def _hit(self, rank: int, hit: Hit, asked: _Asked, groups: set[str]) -> SearchHit:
        unit = asked.encoded.unit
        parts = {name: float(unit[at] @ hit.vector[at]) for name, at in self._index.info.slices().items()}
        return SearchHit(
            rank=rank,
            id=hit.id,
            score=hit.score / asked.encoded.weight,
            parts=parts,
            fields={name: value for name, value in hit.fields.items() if name != GROUP},
            agreement=agreement(asked.attributes, hit.fields),
            thumb=self._thumb(hit),
            is_duplicate=_is_copy(hit, asked),
            same_group=hit.fields.get(GROUP, "") in groups,
        )

    def _thumb(self, hit: Hit) -> Path | None:
        """Return the small picture of a case; None if it is not in the folder: an index may be a stranger's."""
        if self._folder is None or not is_inside(hit.thumb) or not is_file_of(self._folder, hit.thumb):
            return None
        path = self._folder / hit.thumb
        try:
            photo_of(read_image_file(path, path), str(path))
        except DataError as error:
            log(f"note: {error}; the case is shown without a photo")
            return None
        return path

    def _with_regions(self, hits: Sequence[SearchHit]) -> list[SearchHit]:
        """Return hits with the region masks of their thumbnails."""
        photos = [hit.thumb for hit in hits if hit.thumb is not None]
        if not photos or not self._encoder.region_count:
            return list(hits)
        opened = [photo_of(path.read_bytes(), str(path)) for path in photos]
        masks = dict(zip(photos, self._encoder.regions(opened), strict=True))
        return [hit if hit.thumb is None else replace(hit, regions=masks[hit.thumb]) for hit in hits]

    def _provenance(self, k: int) -> dict[str, str]:
        info = self._index.info
        facts = {
            "model": info.model_sha256[:12],
            "index": f"{len(self._index):,} cases, {info.created}".rstrip(", "),
            "dataset": info.dataset,
            "licences": licences_of(info),
            "beta": f"{self._beta:g}" if self._encoder.region_count else "",
            "class_share": f"{self._encoder.class_share:g}" if self._encoder.class_share else "",
            "regions": str(self._encoder.region_count) if self._encoder.region_count else "",
            "k": str(k),
            "search": "exact, by inner product",
        }
        return {name: value for name, value in facts.items() if value}


def _nearest(ranked: Sequence[Hit], asked: _Asked, groups: set[str]) -> dict[str, tuple[int, Hit]]:
    """Return rank and hit of the most similar case of each class, none of the query's own."""
    found: dict[str, tuple[int, Hit]] = {}
    for rank, hit in enumerate(ranked, 1):
        if LABEL in hit.fields and not _is_own(hit, asked, groups):
            found.setdefault(hit.fields[LABEL], (rank, hit))
    return found


def _is_own(hit: Hit, asked: _Asked, groups: set[str]) -> bool:
    return _is_copy(hit, asked) or hit.fields.get(GROUP, "") in groups


def _is_copy(hit: Hit, asked: _Asked) -> bool:
    return bool(asked.sha256) and hit.content.partition(" ")[0] == asked.sha256

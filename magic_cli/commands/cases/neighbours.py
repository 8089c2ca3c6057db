"""Similar cases for `magic predict --neighbours`: those of split train that an index finds by a case's photos."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from magic_cli.commands.cases.build import encoder_of, hash_of, location_of, model_of
from magic_cli.commands.index import GROUP
from magic_cli.data.imaging.images import open_record
from magic_cli.data.index import open_index
from magic_cli.data.index.base import CaseIndex, Hit
from magic_cli.data.prepared import Prepared
from magic_cli.data.retrieval.queries import query_of
from magic_cli.errors import DataError, problem
from magic_cli.io.files import StrPath, sha256
from magic_cli.io.progress import log, track
from magic_cli.records import Case, ImageRecord, Neighbour
from magic_cli.training.case_encoder import CaseEncoder, Vectors
from magic_cli.training.runtime import RuntimeOptions

_MOST_PHOTOS = 4  # of a case that ask, the first ones

_SPARE = 20  # hits more than neighbours: photos of one case, and those of the case that asks


@dataclass(frozen=True)
class NeighbourOptions:
    """Where similar cases are looked for, and how many.

    Attributes:
        place: of the index: a folder, "lance:FOLDER", or "http(s)://HOST:6333/COLLECTION".
        ckpt: the model that built it; None: the one that its folder keeps.
        count: how many neighbours a case has.
        weights: folder of Hugging Face checkpoints; None: as in training.
        runtime: device and cache.
    """

    place: str
    ckpt: StrPath | None = None
    count: int = 10
    weights: StrPath | None = None
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)


def find_neighbours(
    cases: Iterable[Case], prepared: Prepared, options: NeighbourOptions
) -> tuple[dict[str, tuple[Neighbour, ...]], int]:
    """Return the most similar answered cases of split train for each case that has a photo, and how many are unknown.

    A case asks with its first photos, and with its words where the model composes both; the score of a photo in the
    index is the mean over the photos that ask. A case never finds itself, a case of its group, or a copy of its photos.
    Photos in the index that are none of an answered case of split train are unknown; they are left out.

    Args:
        cases: those that ask, of any split.
        prepared: the dataset, whose split train has the answers.
        options: the index.

    Raises:
        ConfigError: there is no model that reads the index. DataError: there is no index, another model built it, or
            it has none of these cases.
    """
    with open_index(location_of(options.place)) as index:
        gallery = _Gallery(index, _answered(prepared), options.count)
        unknown = gallery.unknown(options.place)
        path = model_of(options.place, index.info, options.ckpt)
        index.check_model(sha256(path))
        encoder = encoder_of(path, None, options.weights, options.runtime)[0]
        asking = [(case, photos) for case in cases if (photos := _photos(case, prepared))]
        found = {case.case_id: gallery.nearest(encoder, case, photos) for case, photos in track(asking, "neighbours")}
    if unknown:
        log(f"note: {unknown:,} photos of the index are of no answered case of split train; they are left out")
    return found, unknown


def _answered(prepared: Prepared) -> dict[str, Case]:
    """Return the case of every photo of split train whose case has answers."""
    cases = (case for case in prepared.cases_of("train") if case.answers is not None)
    return {image: case for case in cases for image in case.image_ids}


def _photos(case: Case, prepared: Prepared) -> list[ImageRecord]:
    records = (prepared.images[image] for image in case.image_ids if image in prepared.images)
    return [record for record in records if record.path is not None][:_MOST_PHOTOS]


@dataclass(frozen=True, eq=False)
class _Gallery:
    """An index, the cases by the ids of its photos, and how many neighbours a case has."""

    index: CaseIndex
    cases: Mapping[str, Case]
    count: int

    def unknown(self, place: str) -> int:
        """Return how many photos of the index are of no such case; raises DataError if all are."""
        ids = self.index.contents()
        number = sum(name not in self.cases for name in ids)
        if number == len(ids):
            got = f"{number:,} photos, none of an answered case of split train"
            raise DataError(problem(place, got, "those of this dataset", "magic index build PLACE --data prepared"))
        return number

    def nearest(self, encoder: CaseEncoder, case: Case, photos: Sequence[ImageRecord]) -> tuple[Neighbour, ...]:
        """Return the neighbours of a case, the most similar one first; () if there are no others."""
        words = query_of(case) if encoder.needs_photo else ""
        asked = [encoder.query(open_record(photo), words, self.index.info.beta) for photo in photos]
        mean = np.stack([query.vector for query in asked]).mean(0, dtype=np.float32)  # its scores are the mean scores
        own = _Own(case, hash_of(_group(case)), frozenset(photo.content_key for photo in photos))
        return self._ranked(mean, asked[0].weight, own)

    def _ranked(self, query: Vectors, scale: float, own: "_Own") -> tuple[Neighbour, ...]:
        asked, most = 2 * self.count + _SPARE, len(self.index)
        while True:
            best: dict[str, Neighbour] = {}
            for hit in self.index.search(query[None], min(asked, most))[0]:
                case = self.cases.get(hit.id)
                if case is not None and case.answers is not None and not own.has(hit, case):
                    neighbour = Neighbour(case.case_id, hit.id, float(hit.score) / scale, case.answers)
                    best.setdefault(case.case_id, neighbour)
            if len(best) >= self.count or asked >= most:
                return tuple(best.values())[: self.count]
            asked *= 4


@dataclass(frozen=True, eq=False)
class _Own:
    """The case that asks, the hash of its group, and the contents of its photos."""

    case: Case
    group: str
    contents: frozenset[str]

    def has(self, hit: Hit, case: Case) -> bool:
        """Return whether a hit is of this case, of its group, or a copy of one of its photos."""
        is_own = case.case_id == self.case.case_id or _group(case) == _group(self.case)
        return is_own or hit.fields.get(GROUP) == self.group or hit.content.partition(" ")[0] in self.contents


def _group(case: Case) -> str:
    return case.group_id or case.case_id

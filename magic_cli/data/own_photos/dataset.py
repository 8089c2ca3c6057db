"""Own photos as the prepared dataset that they would make, in memory: what `magic predict` reads instead of one."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from magic_cli.data.issues import IssueLog, counted
from magic_cli.data.manifest import PrepareManifest, PrepareSettings
from magic_cli.data.own_photos.files import OwnPhoto, list_photos
from magic_cli.data.own_photos.texts import CaseText, read_texts
from magic_cli.data.preparation.counts import Counts
from magic_cli.data.preparation.photos import PhotoFacts, Reader
from magic_cli.data.prepared import Prepared
from magic_cli.data.questions import QuestionSchema
from magic_cli.data.sources.source import RawCase, RawPhoto
from magic_cli.errors import DataError, first_lines, printable
from magic_cli.io.files import StrPath
from magic_cli.io.progress import track
from magic_cli.records import Case, ImageRecord

SPLIT = "test"  # of all own photos

_NO_TEXT = CaseText()


@dataclass(frozen=True)
class OwnPhotos(Prepared):
    """Photos of files and folders; all are of split test, upright, and without masks and answers.

    Attributes:
        shown: the path of each photo as it was given, by image id.
        orientations: the EXIF orientation, 2 to 8, of each photo that is not stored upright, by image id.
        unreadable: a line for each photo that is left out.
        notes: what else is to be said.
    """

    shown: Mapping[str, str] = field(default_factory=dict)
    orientations: Mapping[str, int] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def open_own_photos(
    images: Sequence[StrPath], text: str | None, questions: QuestionSchema, out: Path, has_cases: bool
) -> OwnPhotos:
    """Find photos, read all of each once as `magic prepare` does, and return those that can be read.

    Photos with an EXIF orientation are turned upright, as `magic prepare` turns photos without masks.

    Args:
        images: files and folders (own_photos/files.py says which photos make a case).
        text: about the cases (own_photos/texts.py); None for none.
        questions: the closed questions to answer; none for other tasks.
        out: the folder of results, which is not looked into.
        has_cases: whether photos are answered case by case, so that it is told how many cases they are.

    Raises:
        DataError: no photo, none that can be read, or a text that cannot be used. ConfigError: one text for several
            cases.
    """
    issues = IssueLog()
    photos = list_photos(images, out.resolve(), issues)
    rows = IssueLog()
    texts = {} if text is None else read_texts(text, photos, rows)
    facts = dict(_read(photos, issues))
    where = Path(images[0])
    if not facts:
        raise DataError(first_lines(issues.lines(), where))
    kept = [photo for photo in photos if photo.image_id in facts]
    cases = {case.case_id: case for case in _cases(kept, texts)}
    records = {photo.image_id: _record(photo, facts[photo.image_id]) for photo in kept}
    counts = Counts()
    for case in cases.values():
        counts.add_case(case)
    for record in records.values():
        counts.add_image(record)
    settings = PrepareSettings(merge="or", prompt="qa", responses=True, source="photos")
    orientations = {name: fact.size.orientation for name, fact in facts.items() if fact.size.orientation != 1}
    return OwnPhotos(
        root=where,
        manifest=replace(PrepareManifest.of_counts(settings, counts.by_split()), problems=tuple(issues.lines())),
        questions=questions,
        cases=cases,
        images=records,
        sha256=hashlib.sha256("".join(record.sha256 for record in records.values()).encode()).hexdigest(),
        shown={photo.image_id: photo.shown for photo in kept},
        orientations=orientations,
        unreadable=tuple(issues.lines()),
        notes=(*issues.notes, *rows.lines(), *rows.notes, *_notes(facts, cases, has_cases)),
    )


def _read(photos: Sequence[OwnPhoto], issues: IssueLog) -> Iterator[tuple[str, PhotoFacts]]:
    """Yield the facts about each photo that can be read."""
    shown = {photo.path: printable(photo.shown) for photo in photos}
    raw = (RawCase(Case(p.case_id, SPLIT, ()), (RawPhoto(p.image_id, p.path),)) for p in photos)
    reader = Reader(shown.__getitem__, None, Path(), "or")
    for case in track(reader.read(raw), "reading photos", len(photos)):
        for facts in case.photos:
            if isinstance(facts, DataError):
                issues.add_loss(facts.problems[0], "images")
            else:
                yield facts.image_id, facts


def _cases(photos: Sequence[OwnPhoto], texts: Mapping[str, CaseText]) -> Iterator[Case]:
    images: dict[str, list[str]] = {}
    for photo in photos:
        images.setdefault(photo.case_id, []).append(photo.image_id)
    for name, ids in images.items():
        said = texts.get(name, _NO_TEXT)
        yield Case(name, SPLIT, tuple(ids), said.texts, said.question, said.answer, group_id=name)


def _record(photo: OwnPhoto, facts: PhotoFacts) -> ImageRecord:
    height, width = facts.size.upright
    upright = facts.size.orientation != 1
    return ImageRecord(
        photo.image_id, photo.case_id, SPLIT, photo.path, height, width, upright=upright, sha256=facts.sha256
    )


def _notes(facts: Mapping[str, PhotoFacts], cases: Mapping[str, Case], has_cases: bool) -> Iterator[str]:
    odds = Counter(fact.size.odd for fact in facts.values() if fact.size.odd)
    for odd, number in sorted(odds.items()):
        yield f"{counted(number, 'photo is', 'photos are')} {odd}"
    largest = max(cases.values(), key=lambda case: len(case.image_ids))
    if has_cases and len(largest.image_ids) > 1:
        many = f"; the largest, {largest.case_id}, has {len(largest.image_ids)}" if len(cases) > 1 else ""
        total = counted(len(cases), "case", "cases")
        yield f"{len(facts)} photos are {total}, as photos of one folder are one case{many}"

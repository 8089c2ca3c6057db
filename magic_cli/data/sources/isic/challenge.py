"""The ISIC challenges 2016 to 2020: photos, lesion masks of Part 1, truth of Part 3, metadata, official parts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from magic_cli.data.issues import IssueLog, counted
from magic_cli.data.names import key_of
from magic_cli.data.sources.cells import flag, image_id_of
from magic_cli.data.sources.csv_rows import Row, note_unknown, tables_with
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.isic.classes import NO_DIAGNOSIS, Diagnosis
from magic_cli.data.sources.isic.facts import facts
from magic_cli.data.sources.isic.parts import strictest
from magic_cli.data.sources.isic.photos import PhotoFiles, PhotoIndex, first_photo, index_photos, is_isic_id
from magic_cli.data.sources.isic.tables import ATTRIBUTES, TARGET, IsicTable, challenge_tables
from magic_cli.data.sources.source import (
    CONCEPTS,
    LABEL_PATH,
    LESION,
    PATIENT,
    RawCase,
    RawDataset,
    RawPhoto,
    ReadOptions,
    Source,
)
from magic_cli.data.sources.source import SOURCE as COLLECTION
from magic_cli.errors import DataError, problem, redact_key, shorten
from magic_cli.records import Case

_CONCEPTS = {  # ISIC 2018, task 2
    "globules": "globules",
    "milia_like_cyst": "milia-like cysts",
    "negative_network": "negative network",
    "pigment_network": "pigment network",
    "streaks": "streaks",
}

_NO_CLASS = ("image has no class", "images have no class")

_SEVERAL_PARTS = (
    "image is of several official parts: test counts before valid, valid before train",
    "images are of several official parts: test counts before valid, valid before train",
)

_SEVERAL_YEARS = (
    "image has a class in several challenges: that of the newest is used",
    "images have a class in several challenges: that of the newest is used",
)

_COPIES = (
    "photo is there again, in another part or format: one of them is used",
    "photos are there again, in other parts or formats: one of each is used",
)

_DICOM = ("DICOM file is not used: photos are read as JPEG", "DICOM files are not used: photos are read as JPEG")

_CHECK = "check --data and --source"

_LICENCES = {2016: "CC0 1.0", 2017: "CC0 1.0", 2018: "CC BY-NC 4.0", 2019: "CC BY-NC 4.0", 2020: "CC BY-NC 4.0"}


class IsicChallenge(Source):
    """The ISIC challenges as challenge.isic-archive.com and Kaggle distribute them, one year or several."""

    name = "isic-challenge"
    title = "ISIC challenges 2016 to 2020"
    origin = "https://challenge.isic-archive.com/data/"
    licence = "CC0 1.0 (2016, 2017), CC BY-NC 4.0 (2018 to 2020)"
    expected = "*_GroundTruth.csv or train.csv; ISIC_*.jpg; ISIC_*_segmentation.png; *_metadata.csv; attributes.csv"

    def find(self, files: SourceFiles) -> str:
        """Return the first truth table; else metadata that only a challenge has, else a photo in a folder of one."""
        tables = challenge_tables(files, IssueLog())
        evidence = next((table.table.path for table in tables if table.is_evidence), "")
        return evidence or ("" if _has_others(files) else first_photo(files))

    def read(self, files: SourceFiles, options: ReadOptions) -> RawDataset:  # noqa: ARG002  nothing to choose
        """Return the dataset; its tables are joined here, as they are many for one image.

        Raises:
            DataError: no image, or a damaged table.
        """
        tables = challenge_tables(files, files.issues)
        join = _Join(files, index_photos(files))
        for table in tables:
            if table.kind != ATTRIBUTES:
                join.add(table)
        join.add_photos()
        for table in tables:
            if table.kind == ATTRIBUTES:
                join.add(table)
        if not join.images:
            raise DataError(
                [*files.issues.problems, problem(files.root, "no image of a challenge", self.expected, _CHECK)]
            )
        join.note(tables)
        inputs = files.digests(*(table.table.path for table in tables))
        return RawDataset(self.name, files.root, join.cases(), files.issues, inputs, total=len(join.images))


SOURCE = IsicChallenge()


def _has_others(files: SourceFiles) -> bool:
    """Return whether there are tables of other datasets of ISIC, whose photos are named in the same way."""
    return bool(tables_with(files, "isic_id") or tables_with(files, "dx"))


@dataclass(slots=True)
class _Image:
    """What the tables say of an image. `year` is that of the newest challenge that it is of."""

    image_id: str
    where: str
    diagnosis: Diagnosis = NO_DIAGNOSIS
    year: int = 0
    splits: set[str] = field(default_factory=set)
    attributes: dict[str, str] = field(default_factory=dict)


class _Join:
    """The images of all tables by `key_of` their id."""

    def __init__(self, files: SourceFiles, index: PhotoIndex) -> None:
        self.files, self.issues, self.index = files, files.issues, index
        self.images: dict[str, _Image] = {}
        self._refused: set[str] = set()
        self._again = 0
        self._unmatched: dict[str, int] = {}

    def add(self, table: IsicTable) -> None:
        """Read a table; of two rows for an image the first counts, of two tables the newer challenge."""
        note_unknown(table.table, table.known, self.issues)
        seen: set[str] = set()
        for row in table.table.rows(self.issues):
            image_id = image_id_of(row.get(table.image) or "")
            key = key_of(image_id)
            if not key or key in seen:
                got = f"{redact_key(image_id)} twice" if key else "no image id"
                remedy = "remove one row; the first is used" if key else "complete the row"
                self.issues.add_loss(
                    problem(row.where, got, "each image once, by its id", remedy), "" if key else "cases"
                )
                continue
            seen.add(key)
            if table.kind == ATTRIBUTES and key not in self.images:
                self._unmatched[table.table.name] = self._unmatched.get(table.table.name, 0) + (
                    key not in self._refused
                )
                continue
            self._add_row(table, row, key, image_id)

    def _add_row(self, table: IsicTable, row: Row, key: str, image_id: str) -> None:
        try:
            diagnosis = table.diagnosis(row)
        except DataError as error:
            if key not in self._refused:
                self.issues.add_loss(error.problems[0], "cases")
            self._refused.add(key)
            return
        image = self.images.setdefault(key, _Image(image_id, row.where))
        if diagnosis.label is not None:
            self._again += image.diagnosis.label is not None and image.year != table.year
            image.diagnosis = diagnosis
        image.year = max(image.year, table.year)
        image.splits |= {table.split} - {""}
        own = (*table.about, *(table.classes if table.kind == TARGET else ()))
        image.attributes |= facts(row, own)
        if table.kind == ATTRIBUTES:
            image.attributes |= _concepts(row, table.about)

    def add_photos(self) -> None:
        """Add the images that no table names, and what the folders of photos say.

        Beside another dataset of ISIC, only a folder that names a challenge says that a photo is of one.
        """
        has_others = _has_others(self.files)
        for key, files in self.index.images.items():
            if not files.photo or (has_others and key not in self.images and not files.year):
                continue
            name = self.files.name(files.photo)
            image = self.images.setdefault(key, _Image(PurePath(files.photo).stem, name))
            image.year = max(image.year, files.year)
            image.splits |= files.splits
        for key in self._refused:
            self.images.pop(key, None)

    def cases(self) -> Iterator[RawCase]:
        """Yield the cases by image id; splits are left open where the source has its training part only."""
        has_parts = self._has_parts()
        for _, image in sorted(self.images.items()):
            split = strictest(image.splits) if has_parts else ""
            yield self._case(image, split)

    def _has_parts(self) -> bool:
        return any(image.splits & {"valid", "test"} for image in self.images.values())

    def _case(self, image: _Image, split: str) -> RawCase:
        attributes = dict(image.attributes)
        if image.year:
            attributes[COLLECTION] = f"ISIC {image.year}"
        if image.diagnosis.path:
            attributes[LABEL_PATH] = image.diagnosis.path
        case = Case(
            image.image_id,
            split,
            (image.image_id,),
            label=image.diagnosis.label,
            attributes=attributes,
            group_id=attributes.get(PATIENT) or attributes.get(LESION, ""),
            licence=_LICENCES.get(image.year, ""),
        )
        files = self.index.images.get(key_of(image.image_id), PhotoFiles())
        photo = files.photo or ("" if is_isic_id(image.image_id) else self.files.photo(f"{image.image_id}.jpg"))
        masks = {"ann0": files.mask} if files.mask else {}
        return RawCase(case, (RawPhoto(image.image_id, photo, masks),) if photo else (), image.where)

    def note(self, tables: Sequence[IsicTable]) -> None:
        """Note what is not used, and what the parts are."""
        index, issues = self.index, self.issues
        alone = sorted(files.mask for files in index.images.values() if not files.photo and files.mask)
        if alone:
            names = shorten(map(self.files.name, alone), 3)
            got = counted(len(alone), "mask without its photo", "masks without their photos")
            issues.add_loss(problem(names, got, "ISIC_*.jpg of the same id", "copy the photos"), "masks", len(alone))
        if not self._has_parts() and any(image.splits for image in self.images.values()):
            issues.note("all images are of the official training part; the other parts are not here")
        used = {table.table.path for table in tables}
        unused = [self.files.name(path) for path in self.files.named("*.csv", "*.tsv", "*.tab") if path not in used]
        images = self.images.values()
        lines = (
            (sum(image.diagnosis.label is None for image in images), *_NO_CLASS),
            (sum(len(image.splits) > 1 for image in images), *_SEVERAL_PARTS),
            (self._again, *_SEVERAL_YEARS),
            (index.copies, *_COPIES),
            (index.superpixels, "superpixel file is not used", "superpixel files are not used"),
            (len(self.files.named("*.dcm")), *_DICOM),
            (len(unused), f"table is not used ({shorten(unused)})", f"tables are not used ({shorten(unused, 6)})"),
        )
        for number, single, several in lines:
            if number:
                issues.note(counted(number, single, several))
        if index.features:
            kinds = ", ".join(f"{number:,} {kind}" for kind, number in sorted(index.features.items()))
            issues.note(f"files of features (Part 2) are not used: {kinds}")
        for name, number in self._unmatched.items():
            issues.note(f"{name}: {counted(number, 'row is about another image', 'rows are about other images')}")


def _concepts(row: Row, columns: Sequence[str]) -> Mapping[str, str]:
    """Return what is seen of the five dermoscopic attributes of ISIC 2018; {} if none of them is stated."""
    flags = {column: flag(row.get(column)) for column in columns if column in _CONCEPTS}
    if all(seen is None for seen in flags.values()):
        return {}
    return {CONCEPTS: "; ".join(_CONCEPTS[column] for column, seen in flags.items() if seen)}

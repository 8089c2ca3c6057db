"""MILK10k: lesions with a clinical close-up and a dermoscopic photo each, eleven classes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from magic_cli.data.issues import counted
from magic_cli.data.names import key_of
from magic_cli.data.sources.cells import image_id_of
from magic_cli.data.sources.csv_rows import CsvTable, note_unknown, open_csv, tables_with
from magic_cli.data.sources.files import SourceFiles, innermost_split
from magic_cli.data.sources.isic.classes import MILK_DIAGNOSES, NO_DIAGNOSIS, Diagnosis, one_hot
from magic_cli.data.sources.isic.facts import stated, with_canonical
from magic_cli.data.sources.source import (
    LABEL_PATH,
    LONGEST_ATTRIBUTE,
    RawCase,
    RawDataset,
    RawPhoto,
    ReadOptions,
    Source,
)
from magic_cli.errors import DataError, problem, redact_key
from magic_cli.records import Case

MILK_COLUMNS = ("lesion_id", "image_type", "isic_id", "skin_tone_class")  # an export of the archive lacks the last

_ABOUT = (
    *("isic_id", "image_type", "attribution", "copyright_license", "image_manipulation", "age_approx", "sex"),
    *("skin_tone_class", "site", "anatom_site_general", "concomitant_biopsy", "diagnosis_confirm_type"),
)

_CONCEPTS = "MONET_"  # begins the columns in which a model, MONET, says how much of a concept is seen

_CODES = tuple(MILK_DIAGNOSES)


class Milk10k(Source):
    """MILK10k: 5,240 lesions, two photos each. Its skin tone classes go from 0, dark, to 5: no Fitzpatrick types."""

    name = "milk10k"
    title = "MILK10k"
    origin = "https://doi.org/10.34970/648456"
    licence = "CC BY-NC 4.0"
    expected = "MILK10k_Training_Metadata.csv, _GroundTruth.csv and _Supplement.csv; ISIC_*.jpg"

    def find(self, files: SourceFiles) -> str:
        """Return the first metadata table: one with lesion_id, image_type, isic_id and skin_tone_class."""
        return next(iter(tables_with(files, *MILK_COLUMNS)), "")

    def read(self, files: SourceFiles, options: ReadOptions) -> RawDataset:  # noqa: ARG002  nothing to choose
        """Return the dataset; its tables are joined here, as each lesion has two rows.

        Raises:
            DataError: no metadata table, or a damaged table.
        """
        metadata = [open_csv(path, files) for path in tables_with(files, *MILK_COLUMNS)]
        if not metadata:
            got, expected = "no metadata of MILK10k", f"a CSV with {', '.join(MILK_COLUMNS)}"
            raise DataError(problem(files.root, got, expected, "check --data and --source"))
        truth = [open_csv(path, files) for path in tables_with(files, "lesion_id", *_CODES)]
        others = [open_csv(path, files) for path in _supplements(files)]
        join = _Join(files)
        for read, group in ((join.add_metadata, metadata), (join.add_truth, truth), (join.add_supplement, others)):
            for table in group:
                read(table)
        join.note()
        inputs = files.digests(*(table.path for table in (*metadata, *truth, *others)))
        return RawDataset(self.name, files.root, join.cases(), files.issues, inputs, total=len(join.lesions))


SOURCE = Milk10k()


def _supplements(files: SourceFiles) -> list[str]:
    paths = dict.fromkeys((*tables_with(files, "lesion_id"), *tables_with(files, "isic_id")))
    return [path for path in paths if "supplement" in PurePath(path).name.casefold()]


@dataclass(slots=True)
class _Lesion:
    """A lesion: its rows by image id, in the order of the table."""

    lesion_id: str
    where: str
    split: str
    images: dict[str, dict[str, str]] = field(default_factory=dict)
    diagnosis: Diagnosis = NO_DIAGNOSIS
    attributes: dict[str, str] = field(default_factory=dict)


class _Join:
    """The lesions of all tables by `key_of` their id."""

    def __init__(self, files: SourceFiles) -> None:
        self.files, self.issues = files, files.issues
        self.lesions: dict[str, _Lesion] = {}
        self._refused: set[str] = set()
        self._lesion_of: dict[str, str] = {}  # by image
        self._unmatched: dict[str, int] = {}

    def add_metadata(self, table: CsvTable) -> None:
        """Add the images of a table to their lesions."""
        about = [column for column in table.columns if column in _ABOUT or column.startswith(_CONCEPTS)]
        note_unknown(table, frozenset(("lesion_id", *about)), self.issues)
        for row in table.rows(self.issues):
            lesion_id, written = row.get("lesion_id"), row.get("isic_id")
            if lesion_id is None or written is None:
                remedy = "complete the row"
                self.issues.add_loss(problem(row.where, "no id", "a lesion_id and an isic_id", remedy), "cases")
                continue
            image_id, key = image_id_of(written), key_of(lesion_id)
            if self._lesion_of.setdefault(key_of(image_id), key) != key or (
                key in self.lesions and image_id in self.lesions[key].images
            ):
                got = f"{redact_key(image_id)} twice"
                self.issues.add_loss(problem(row.where, got, "each image once", "remove one row; the first is used"))
                continue
            lesion = self.lesions.setdefault(key, _Lesion(lesion_id, row.where, innermost_split(table.name)))
            cells = {column: stated(row, column) for column in about}
            lesion.images[image_id] = {column: value for column, value in cells.items() if value is not None}

    def add_truth(self, table: CsvTable) -> None:
        """Read the class of each lesion."""
        note_unknown(table, frozenset(("lesion_id", *_CODES)), self.issues)
        for row in table.rows(self.issues):
            key = key_of(row.get("lesion_id") or "")
            lesion = self.lesions.get(key)
            if lesion is None or lesion.diagnosis.label is not None:
                self._count(table)
                continue
            try:
                lesion.diagnosis = one_hot(row, _CODES, MILK_DIAGNOSES)
            except DataError as error:
                self.issues.add_loss(error.problems[0], "cases")
                self._refused.add(key)

    def add_supplement(self, table: CsvTable) -> None:
        """Join further columns, by lesion or by image."""
        columns = [column for column in table.columns if column not in ("lesion_id", "isic_id")]
        for row in table.rows(self.issues):
            key = key_of(row.get("lesion_id") or "") or self._lesion_of.get(key_of(row.get("isic_id") or ""), "")
            lesion = self.lesions.get(key)
            if lesion is None:
                self._count(table)
                continue
            cells = ((column, stated(row, column)) for column in columns)
            lesion.attributes |= {column: value for column, value in cells if value is not None}

    def _count(self, table: CsvTable) -> None:
        self._unmatched[table.name] = self._unmatched.get(table.name, 0) + 1

    def note(self) -> None:
        """Note what is odd, and forget lesions whose class is damaged."""
        for key in self._refused:
            del self.lesions[key]
        for name, count in self._unmatched.items():
            rows = counted(count, "row is about no lesion", "rows are about no lesion")
            self.issues.note(f"{name}: {rows} of the metadata, or a repeated one")
        others = sum(len(lesion.images) != 2 for lesion in self.lesions.values())
        if others:
            lesions = counted(others, "lesion has", "lesions have")
            self.issues.note(f"{lesions} another number of photos than two")
        if not self._has_parts():
            self.issues.note("all lesions are of the official training part; the test part is not here")

    def _has_parts(self) -> bool:
        return any(lesion.split in ("valid", "test") for lesion in self.lesions.values())

    def cases(self) -> Iterator[RawCase]:
        """Yield a case for each lesion, its photos in the order of the metadata."""
        has_parts = self._has_parts()
        for lesion in self.lesions.values():
            yield self._case(lesion, lesion.split if has_parts else "")

    def _case(self, lesion: _Lesion, split: str) -> RawCase:
        rows = list(lesion.images.values())
        attributes = with_canonical({"lesion_id": lesion.lesion_id, **_together(rows), **lesion.attributes})
        if lesion.diagnosis.path:
            attributes[LABEL_PATH] = lesion.diagnosis.path
        found = ((image_id, self.files.photo(f"{image_id}.jpg")) for image_id in lesion.images)
        case = Case(
            lesion.lesion_id,
            split,
            tuple(lesion.images),
            label=lesion.diagnosis.label,
            attributes=attributes,
            group_id=lesion.lesion_id,
            licence="; ".join(dict.fromkeys(row["copyright_license"] for row in rows if "copyright_license" in row)),
        )
        photos = tuple(RawPhoto(image_id, photo) for image_id, photo in found if photo)
        return RawCase(case, photos, lesion.where)


def _together(rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the columns of a lesion's photos: a value that they share once, others in the order of the photos."""
    columns = dict.fromkeys(column for row in rows for column in row)
    values = {column: [row.get(column, "") for row in rows] for column in columns}
    return {
        column: each[0] if len(set(each)) == 1 else "; ".join(each)[:LONGEST_ATTRIBUTE]
        for column, each in values.items()
    }

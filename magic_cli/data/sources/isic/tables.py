"""The tables of the ISIC challenges 2016 to 2020: what kind each is, told by its columns, and the class of a row."""

import re
from dataclasses import dataclass
from pathlib import PurePath

from magic_cli.data.issues import IssueLog
from magic_cli.data.sources.csv_rows import CsvTable, Row, columns_of, open_csv, tables_with
from magic_cli.data.sources.files import SourceFiles, innermost_split
from magic_cli.data.sources.isic.classes import DIAGNOSES, NO_DIAGNOSIS, UNKNOWN, Diagnosis, is_one, one_hot
from magic_cli.data.sources.isic.facts import stated
from magic_cli.data.sources.isic.parts import year_of
from magic_cli.data.sources.source import label_path
from magic_cli.errors import DataError, problem

_IMAGE_COLUMNS = ("image_id", "image", "image_name")

_ID_COLUMNS = (*_IMAGE_COLUMNS, "isic_id")

_HEADLESS = ("image", "class")  # the columns of 2016, which have no names

_HEADLESS_CELLS = (r"(?i:ISIC_\d+(?:\.jpe?g)?)", r"(?i:benign|malignant|[01](?:\.0)?)")

_CODES = (*DIAGNOSES, UNKNOWN)

_PAIR = ("melanoma", "seborrheic_keratosis")  # 2017; a nevus where both are 0

_TARGET = ("diagnosis", "benign_malignant", "target")  # 2020

_ABOUT = (
    *("age_approximate", "age_approx", "sex", "anatom_site_general", "anatom_site_general_challenge"),
    *("patient_id", "patient", "lesion_id", "diagnosis_confirm_type"),
)

BENIGN_MALIGNANT, PAIR, ONE_HOT, TARGET = "2016", "2017", "one-hot", "2020"
METADATA, ATTRIBUTES = "metadata", "attributes"
_ONLY_HERE = ("age_approximate", "anatom_site_general_challenge")  # columns that no other dataset has

_TRUTHS = (BENIGN_MALIGNANT, PAIR, ONE_HOT, TARGET)


@dataclass(frozen=True, slots=True)
class IsicTable:
    """A table of a challenge: its kind, the column of the image id, the year of its challenge (0: unknown), its part.

    `classes` are the columns that give the class, `about` those that become attributes.
    """

    table: CsvTable
    kind: str
    image: str
    year: int
    split: str
    classes: tuple[str, ...] = ()
    about: tuple[str, ...] = ()

    @property
    def is_truth(self) -> bool:
        """Whether rows give a class."""
        return self.kind in _TRUTHS

    @property
    def is_evidence(self) -> bool:
        """Whether the columns are those of a challenge and of nothing else."""
        return self.is_truth or any(column in self.about for column in _ONLY_HERE)

    @property
    def known(self) -> frozenset[str]:
        """The columns that are used."""
        return frozenset((self.image, *self.classes, *self.about))

    def diagnosis(self, row: Row) -> Diagnosis:
        """Return the class of a row.

        Raises:
            DataError: its cells are no class; one line.
        """
        if self.kind == BENIGN_MALIGNANT:
            return _benign_malignant(row, self.classes[0])
        if self.kind == PAIR:
            return _pair(row)
        if self.kind == ONE_HOT:
            return one_hot(row, self.classes, DIAGNOSES)
        return _target(row) if self.kind == TARGET else NO_DIAGNOSIS


def challenge_tables(files: SourceFiles, issues: IssueLog) -> list[IsicTable]:
    """Return the tables of challenges below a root: by year, truth before what else is said about its images.

    Those that cannot be read are problems.
    """
    tables = []
    for path in tables_with(files):
        columns = columns_of(path)
        is_headless = len(columns) == 2 and all(map(re.fullmatch, _HEADLESS_CELLS, columns))
        if not is_headless and not any(column in columns for column in _ID_COLUMNS):
            continue
        try:
            table = open_csv(path, files, _HEADLESS if is_headless else ())
            tables.append(_headless(table) if is_headless else _kind(table, files))
        except DataError as error:
            issues.add_loss(error.problems[0])
    known = [table for table in tables if table is not None]
    return sorted(known, key=lambda table: (not table.is_truth, table.kind == ATTRIBUTES, table.year, table.table.name))


def _headless(table: CsvTable) -> IsicTable:
    return IsicTable(table, BENIGN_MALIGNANT, _HEADLESS[0], 2016, innermost_split(table.name), _HEADLESS[1:])


def _kind(table: CsvTable, files: SourceFiles) -> IsicTable | None:
    columns = table.columns
    name = f"{files.root.name}/{table.name}" if year_of(files.root.name) else table.name
    year, split = year_of(name), innermost_split(table.name)
    if "attributes" in PurePath(table.path).stem.casefold() and columns[0] in _ID_COLUMNS:
        return IsicTable(table, ATTRIBUTES, columns[0], 0, "", (), columns[1:])
    image = next((column for column in _IMAGE_COLUMNS if column in columns), "")
    if not image or "dx" in columns:
        return None  # not of a challenge, or HAM10000
    codes = tuple(code for code in _CODES if code in columns)
    about = tuple(column for column in _ABOUT if column in columns)
    if table.has(*_PAIR) and _is_binary(table, _PAIR):
        return IsicTable(table, PAIR, image, 2017, split, _PAIR, about)
    if len(codes) >= 3 and _is_binary(table, codes):
        return IsicTable(table, ONE_HOT, image, year or (2018 if "AKIEC" in codes else 2019), split, codes, about)
    if table.has("benign_malignant", "target") or ("target" in columns and _ONLY_HERE[1] in columns):
        used = tuple(column for column in _TARGET if column in columns)
        return IsicTable(table, TARGET, image, year or 2020, split, used, about)
    if not about:
        return None
    return IsicTable(table, METADATA, image, year or _year_of_metadata(columns), split, (), about)


def _year_of_metadata(columns: tuple[str, ...]) -> int:
    if "age_approximate" in columns:
        return 2017
    if "diagnosis_confirm_type" in columns:
        return 2018
    return 2020 if "patient_id" in columns else 2019


def _is_binary(table: CsvTable, columns: tuple[str, ...]) -> bool:
    """Return whether the first row holds 0, 1 or nothing: else these are predictions, not truth."""
    try:
        row = next(table.rows(IssueLog()), None)
    except DataError:
        return False
    return row is not None and all(row.get(column) in (None, "0", "1", "0.0", "1.0") for column in columns)


def _benign_malignant(row: Row, column: str) -> Diagnosis:
    """Return the class of 2016, which the test part writes as 0.0 and 1.0."""
    value = stated(row, column)
    if value is None:
        return NO_DIAGNOSIS
    word = value.casefold()
    if word not in ("benign", "malignant"):
        word = "malignant" if is_one(value, row, "the class") else "benign"
    return Diagnosis(word, word)


def _pair(row: Row) -> Diagnosis:
    if all(row.get(column) is None for column in _PAIR):
        return NO_DIAGNOSIS
    chosen = [column for column in _PAIR if is_one(row.get(column), row, column)]
    if len(chosen) > 1:
        raise DataError(problem(row.where, "1 for both classes", "1 for at most one", "fix the row"))
    label = chosen[0] if chosen else "nevus"
    return Diagnosis(label, label.replace("_", " "))


def _target(row: Row) -> Diagnosis:
    """Return the class of 2020, benign or malignant; the diagnosis, unknown for most, is the narrower one."""
    target = row.get("target")
    flagged = None if target is None else "malignant" if is_one(target, row, "target") else "benign"
    word = stated(row, "benign_malignant")
    word = None if word is None else word.casefold()
    if word and flagged and word != flagged:
        raise DataError(
            problem(row.where, f"target {target} for {word}", "1 for malignant, 0 for benign", "fix the row")
        )
    label, narrow = word or flagged, stated(row, "diagnosis")
    return Diagnosis(label, label_path([label, narrow]))

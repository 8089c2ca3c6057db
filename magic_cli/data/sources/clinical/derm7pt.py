"""Derm7pt: dermoscopic and clinical photos with the seven-point checklist (doi 10.1109/JBHI.2018.2824327).

A case is a row of meta.csv with two photos, the dermoscopic one first. The official splits are row numbers of meta.csv
from 0, not `case_num`. Of 20 diagnoses, six are melanomas: the label is one of 15 classes, in which these are one.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from magic_cli.data.issues import IssueLog
from magic_cli.data.sources.cells import number
from magic_cli.data.sources.clinical.cases import open_table, own_columns, photos_of
from magic_cli.data.sources.csv_rows import CsvTable, Row, note_unknown, open_csv, tables_with
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.source import (
    CONCEPTS,
    LABEL_PATH,
    LESION,
    SEX,
    SITE,
    RawCase,
    RawDataset,
    RawPhoto,
    ReadOptions,
    Source,
    label_path,
)
from magic_cli.errors import problem, shorten
from magic_cli.records import SPLITS, Case

_MARKS = ("case_num", "diagnosis", "derm", "clinic")

_CHECKLIST = {  # column to its values, "absent" first
    "pigment_network": ("absent", "typical", "atypical"),
    "streaks": ("absent", "regular", "irregular"),
    "pigmentation": (
        "absent",
        *("diffuse regular", "diffuse irregular", "localized regular", "localized irregular"),
    ),
    "regression_structures": ("absent", "blue areas", "white areas", "combinations"),
    "dots_and_globules": ("absent", "regular", "irregular"),
    "blue_whitish_veil": ("absent", "present"),
    "vascular_structures": (
        "absent",
        *("arborizing", "comma", "hairpin", "within regression", "wreath", "dotted", "linear irregular"),
    ),
}

_OTHERS = ("elevation", "location", "sex", "level_of_diagnostic_difficulty", "management", "seven_point_score", "notes")

_COLUMNS = ("case_num", "case_id", "diagnosis", *_CHECKLIST, *_OTHERS, "derm", "clinic")

_MELANOMAS = (
    *("melanoma", "melanoma (in situ)", "melanoma (less than 0.76 mm)", "melanoma (0.76 to 1.5 mm)"),
    *("melanoma (more than 1.5 mm)", "melanoma metastasis"),
)

_NEVI = tuple(f"{kind} nevus" for kind in ("blue", "clark", "combined", "congenital", "dermal", "recurrent"))

_FIVE = {  # the five classes of the paper: abbreviation to its name and the diagnoses in it
    "BCC": ("basal cell carcinoma", ("basal cell carcinoma",)),
    "NEV": ("nevus", (*_NEVI, "reed or spitz nevus")),
    "MEL": ("melanoma", _MELANOMAS),
    "MISC": ("miscellaneous", ("dermatofibroma", "lentigo", "melanosis", "miscellaneous", "vascular lesion")),
    "SK": ("seborrheic keratosis", ("seborrheic keratosis",)),
}

_CLASS = {diagnosis: short for short, (_, diagnoses) in _FIVE.items() for diagnosis in diagnoses}

_RETRIEVAL = {"NEV": "nevus", "MEL": "mel", "SK": "bkl"}  # of 888 cases; melanosis is bkl too


class Derm7pt(Source):
    """Derm7pt: a case is a row, a group its lesion."""

    name = "derm7pt"
    title = "Derm7pt, seven-point checklist"
    origin = "https://derm.cs.sfu.ca"
    licence = "on request, for research"
    expected = "release_v0/meta/meta.csv and {train,valid,test}_indexes.csv; photos in release_v0/images/"

    def find(self, files: SourceFiles) -> str:
        """Return the table whose rows name a dermoscopic and a clinical photo."""
        return next(iter(tables_with(files, *_MARKS)), "")

    def read(self, files: SourceFiles, options: ReadOptions) -> RawDataset:  # noqa: ARG002  nothing to choose
        """Return the dataset with its official splits.

        Raises:
            DataError: no such table.
        """
        table = open_table(files, "meta.csv", *_MARKS)
        note_unknown(table, frozenset({*_COLUMNS, "", "Unnamed: 0"}), files.issues)
        indexes = _index_tables(table, files)
        splits = _splits(indexes, files.issues)
        inputs = files.digests(table.path, *(index.path for index in indexes.values()))
        return RawDataset(self.name, files.root, _cases(table, splits, files), files.issues, inputs)


SOURCE = Derm7pt()


def diagnosis_attributes(diagnosis: str) -> dict[str, str]:
    """Return the classes of a diagnosis with 15, five and three classes, and its LABEL_PATH; {} if it is not known.

    Of the three classes of retrieval studies, bkl is seborrheic keratosis and melanosis; other diagnoses have none.
    """
    known = " ".join(diagnosis.casefold().split())
    short = _CLASS.get(known)
    if short is None:
        return {}
    name = _FIVE[short][0]
    fifteen = "melanoma" if short == "MEL" else known
    three = "bkl" if known == "melanosis" else _RETRIEVAL.get(short)
    path = label_path([name, fifteen, known])
    classes = {"diagnosis_15": fifteen, "diagnosis_5": short, LABEL_PATH: path}
    return {**classes, "diagnosis_3": three} if three else classes


def _index_tables(table: CsvTable, files: SourceFiles) -> dict[str, CsvTable]:
    """Return the table of row numbers of each split, that beside the table of cases where there are several."""
    indexes = {}
    for split in SPLITS:
        paths = files.named(f"{split}_indexes*.csv", f"{split}_indices*.csv", f"{split}_idx*.csv")
        paths.sort(key=lambda path: Path(path).parent != Path(table.path).parent)
        if paths:
            indexes[split] = open_csv(paths[0], files)
    missing = [f"{split}_indexes.csv" for split in SPLITS if split not in indexes]
    if missing:
        line = problem(table.name, f"no {shorten(missing)}", "the official splits beside it", "copy them there")
        files.issues.add_loss(line) if indexes else files.issues.note(line)
    return indexes


def _splits(indexes: Mapping[str, CsvTable], issues: IssueLog) -> dict[int, str]:
    """Return the split of each row number."""
    splits: dict[int, str] = {}
    for split, table in indexes.items():
        column = "indexes" if table.has("indexes") else table.columns[-1]
        for row in table.rows(issues):
            value = number(row.get(column))
            if value is None or value < 0 or value != int(value):
                issues.add_loss(problem(row.where, "no row number", "a whole number from 0", "fix the row; left out"))
            elif splits.setdefault(int(value), split) != split:
                got, expected = f"row {value:.0f}", f"it in {splits[int(value)]} alone"
                issues.add_loss(problem(row.where, got, expected, "it stays in that split"))
    return splits


def _numbered(table: CsvTable, issues: IssueLog) -> Iterator[tuple[int, Row]]:
    """Yield the rows with their numbers from 0; rows that the table leaves out have numbers too."""
    own = IssueLog()
    for position, row in enumerate(table.rows(own)):
        yield position + own.left_out["cases"], row
    for line in own.problems:
        issues.add_loss(line)
    issues.left_out += own.left_out
    issues.notes += own.notes


def _cases(table: CsvTable, splits: Mapping[int, str], files: SourceFiles) -> Iterator[RawCase]:
    issues = files.issues
    odd: Counter[str] = Counter()
    outside = last = 0
    for last, row in _numbered(table, issues):
        image_ids, photos = photos_of(files, [row.get("derm"), row.get("clinic")])
        if row.get("case_num") is None or not image_ids:
            got = "no case_num" if image_ids else "no photo"
            line = problem(row.where, got, "case_num, and derm or clinic", "complete the row; left out")
            issues.add_loss(line, "cases")
            continue
        odd.update(_odd_values(row))
        outside += bool(splits) and last not in splits
        yield _case(row, splits.get(last, ""), image_ids, photos)
    beyond = sum(row > last for row in splits)
    if beyond:
        got = f"row numbers in the official splits beyond its {last + 1:,} rows: {beyond:,}"
        issues.add_loss(problem(table.name, got, "the table of the release", "do not sort or cut it"))
    if outside:
        issues.note(f"{table.name}: rows in none of the official splits: {outside:,}")
    for column, count in odd.items():
        issues.note(f"{table.name}: values of {column} that the release does not have: {count:,}; they stay as written")


def _odd_values(row: Row) -> Iterator[str]:
    for column, values in _CHECKLIST.items():
        value = row.get(column)
        if value is not None and value.casefold() not in values:
            yield column
    diagnosis = row.get("diagnosis")
    if diagnosis is not None and not diagnosis_attributes(diagnosis):
        yield "diagnosis"


def _case(row: Row, split: str, image_ids: tuple[str, ...], photos: tuple[RawPhoto, ...]) -> RawCase:
    attributes = own_columns(row, _COLUMNS)
    case_num, diagnosis = attributes["case_num"], attributes.get("diagnosis")
    attributes[LESION] = case_num
    if diagnosis:
        attributes |= diagnosis_attributes(diagnosis)
    if (sex := attributes.get("sex", "").casefold()) in {"male", "female"}:
        attributes[SEX] = sex
    if site := row.get("location"):
        attributes[SITE] = site
    asked = {column: value for column in _CHECKLIST if (value := attributes.get(column))}
    if asked:
        attributes[CONCEPTS] = "; ".join(
            concept for column, value in asked.items() if (concept := _concept(column, value))
        )
    case = Case(
        case_id=case_num,
        split=split,
        image_ids=image_ids,
        label=attributes.get("diagnosis_15", diagnosis),
        attributes=attributes,
        group_id=case_num,
        licence=Derm7pt.licence,
    )
    return RawCase(case, photos, row.where)


def _concept(column: str, value: str) -> str:
    """Return what is seen, such as "atypical pigment network"; "" if it is absent."""
    name = column.replace("_", " ").replace("blue whitish", "blue-whitish")
    if value.casefold() == "absent":
        return ""
    return name if value.casefold() == "present" else f"{value} {name}"

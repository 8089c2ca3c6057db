"""SCIN, Skin Condition Image Network: photos and answers of volunteers, labelled by dermatologists (arXiv 2402.18545).

Two tables are joined by `case_id`, a signed 64-bit number that is text here: as a float it would lose digits. A flag
that is empty was not chosen, which is not "no": it is absent. The label is the condition with the highest weight, the
first of those that share it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from magic_cli.data.issues import IssueLog
from magic_cli.data.sources.cells import flag, identifier, texts, weights
from magic_cli.data.sources.clinical.cases import open_table, own_columns, photos_of, table_named
from magic_cli.data.sources.csv_rows import CsvTable, Row, note_unknown, open_csv, tables_with
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.source import (
    AGE_BAND,
    CONCEPTS,
    LABEL_PATH,
    LONGEST_ATTRIBUTE,
    SEX,
    SITE,
    SKIN_TYPE,
    RawCase,
    RawDataset,
    ReadOptions,
    Source,
)
from magic_cli.errors import DataError, problem
from magic_cli.records import Case

_MARKS = ("case_id", "image_1_path")

_WEIGHTS = "weighted_skin_condition_label"

_LISTS = re.compile(r"dermatologist_skin_condition_(?:on_)?(?:label_name|confidence)")

_PATHS = ("image_1_path", "image_2_path", "image_3_path")

_TEXTURES, _BODY_PARTS = "textures_", "body_parts_"

_FLAGS = (_TEXTURES, _BODY_PARTS, "condition_symptoms_", "other_symptoms_", "race_ethnicity_")

_OF_CASES = re.compile(
    r"source|release|year|age_group|sex_at_birth|fitzpatrick_skin_type|combined_race|related_category"
    rf"|condition_duration|image_[123]_shot_type|(?:{'|'.join(_FLAGS)}).+"
)

_OF_LABELS = re.compile(
    rf"{_WEIGHTS}|dermatologist_(?:gradable_for_\w+|fitzpatrick_skin_type_label_[1-9]|skin_condition_\w+)"
    r"|gradable_for_\w+|monk_skin_tone_label_\w+"
)

_READER_TYPES = re.compile(r"dermatologist_fitzpatrick_skin_type_label_[1-9]")

_FLOAT = re.compile(r"[+-]?\d{16,}\.0*")  # a float has 15 to 17 digits, an id up to 19


@dataclass(frozen=True, slots=True)
class Labels:
    """What dermatologists said about a case; no label where none of them could name a condition."""

    label: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


NO_LABELS = Labels()


class Scin(Source):
    """SCIN: a case has one to three photos."""

    name = "scin"
    title = "SCIN, Skin Condition Image Network"
    origin = "https://github.com/google-research-datasets/scin"
    licence = "SCIN Data Use License"
    expected = "scin_cases.csv and scin_labels.csv; photos in dataset/images/"

    def find(self, files: SourceFiles) -> str:
        """Return the table with cases and the paths of their photos."""
        return next(iter(tables_with(files, *_MARKS)), "")

    def read(self, files: SourceFiles, options: ReadOptions) -> RawDataset:  # noqa: ARG002  nothing to choose
        """Return the dataset; without a table of labels, its cases have none.

        Raises:
            DataError: no table of cases.
        """
        table = open_table(files, "scin_cases.csv", *_MARKS)
        tables = [table]
        if not table.has(_WEIGHTS):  # both tables may have been joined to one
            path = table_named(files, "scin_labels.csv", "case_id", _WEIGHTS)
            tables += [open_csv(path, files)] if path else []
        for each in tables:
            known = {column for column in each.columns if _OF_CASES.fullmatch(column) or _OF_LABELS.fullmatch(column)}
            note_unknown(each, frozenset({*known, "case_id", *_PATHS, "", "Unnamed: 0"}), files.issues)
        labels = _labels(tables[1], files.issues) if len(tables) > 1 else {}
        if len(tables) == 1 and not table.has(_WEIGHTS):
            line = problem(table.name, "no scin_labels.csv", "the conditions of its cases", "copy it beside this table")
            files.issues.add_loss(line)
        inputs = files.digests(*(each.path for each in tables))
        return RawDataset(self.name, files.root, _cases(table, labels, files), files.issues, inputs)


SOURCE = Scin()


def _case_id(row: Row, issues: IssueLog, what: str) -> str:
    """Return the id of a row, "" if there is none that can be trusted, which is a problem."""
    try:
        case_id = identifier(row.get("case_id"), row.where) or ""
        if not case_id or _FLOAT.fullmatch(case_id):
            got = "a case_id that was a float" if case_id else "no case_id"
            remedy = "take the table as it was published; left out"
            raise DataError(problem(row.where, got, "a whole number of up to 19 digits", remedy))
    except DataError as error:
        issues.add_loss(error.problems[0], what)
        return ""
    return case_id


def _labels(table: CsvTable, issues: IssueLog) -> dict[str, Labels]:
    own = IssueLog()  # a row of labels is no case: what is lost is counted otherwise
    labels = {}
    for row in table.rows(own):
        case_id = _case_id(row, own, "")
        if case_id:
            labels[case_id] = _labels_of(row, table, own)
    for line in own.problems:
        issues.add_loss(line)
    issues.notes += own.notes
    return labels


def _labels_of(row: Row, table: CsvTable, issues: IssueLog) -> Labels:
    """Return the label of a row, and its cells; one that is no list or dict is a problem, and is absent."""
    columns = [column for column in table.columns if _OF_LABELS.fullmatch(column)]
    attributes = own_columns(row, columns)
    for column in columns:
        if column in attributes and _LISTS.fullmatch(column):
            try:
                attributes[column] = "; ".join(texts(row.get(column), row.where))[:LONGEST_ATTRIBUTE]
            except DataError as error:
                issues.add_loss(error.problems[0])
                attributes[column] = ""
    try:
        by_condition = weights(row.get(_WEIGHTS), row.where)
    except DataError as error:
        issues.add_loss(error.problems[0])
        by_condition = {}
        del attributes[_WEIGHTS]
    label = max(by_condition, key=by_condition.__getitem__, default=None)
    if label:
        attributes[LABEL_PATH] = label
    return Labels(label, {column: text for column, text in attributes.items() if text})


def _cases(table: CsvTable, labels: dict[str, Labels], files: SourceFiles) -> Iterator[RawCase]:
    own = [column for column in table.columns if _OF_CASES.fullmatch(column)]
    has_labels = table.has(_WEIGHTS)
    with_labels = unlabelled = 0
    for row in table.rows(files.issues):
        case_id = _case_id(row, files.issues, "cases")
        if not case_id:
            continue
        image_ids, photos = photos_of(files, map(row.get, _PATHS))
        if not image_ids:
            line = problem(row.where, "no photo", "image_1_path", "complete the row; left out")
            files.issues.add_loss(line, "cases")
            continue
        said = _labels_of(row, table, files.issues) if has_labels else labels.pop(case_id, None)
        with_labels += said is not None
        said = said or NO_LABELS
        unlabelled += said.label is None
        case = Case(
            case_id=case_id,
            split="",
            image_ids=image_ids,
            label=said.label,
            attributes={**own_columns(row, own), **said.attributes, **_facts(row, table, said)},
            licence=Scin.licence,
        )
        yield RawCase(case, photos, row.where)
    if unlabelled and with_labels:
        files.issues.note(f"cases without label: {unlabelled:,}; no dermatologist named a condition")
    if labels:
        got = f"labels of cases that are not there: {len(labels):,}"
        files.issues.add_loss(problem(table.name, got, "the cases of the same release", "take both tables from one"))


def _facts(row: Row, table: CsvTable, said: Labels) -> dict[str, str]:
    """Return the attributes that all datasets name alike; the skin type is the volunteer's own, else the readers'."""
    facts = {}
    sex = (row.get("sex_at_birth") or "").casefold()
    if sex in {"male", "female"}:
        facts[SEX] = sex
    if band := _age_band(row.get("age_group") or ""):
        facts[AGE_BAND] = band
    if parts := _chosen(row, table, _BODY_PARTS):
        facts[SITE] = "; ".join(parts)
    if textures := _chosen(row, table, _TEXTURES):
        facts[CONCEPTS] = "; ".join(textures)
    readers = sorted(
        skin_type
        for column, text in said.attributes.items()
        if _READER_TYPES.fullmatch(column) and (skin_type := _skin_type(text))
    )
    skin_type = _skin_type(row.get("fitzpatrick_skin_type") or "") or (readers or [""])[(len(readers) - 1) // 2]
    if skin_type:
        facts[SKIN_TYPE] = skin_type
    return facts


def _skin_type(text: str) -> str:
    """Return "1" to "6" of FST1 to FST6, "" for anything else, such as NONE_SELECTED."""
    match = re.fullmatch(r"(?:FST)?\s*([1-6])(?:\.0)?", text, re.I)
    return match[1] if match else ""


def _age_band(text: str) -> str:
    """Return "40-49" of AGE_40_TO_49 and "80+" of AGE_80_OR_ABOVE, "" for anything else, such as AGE_UNKNOWN."""
    match = re.fullmatch(r"AGE_(\d+)_(?:TO_(\d+)|OR_\w+)", text, re.I)
    return "" if match is None else f"{match[1]}-{match[2]}" if match[2] else f"{match[1]}+"


def _chosen(row: Row, table: CsvTable, prefix: str) -> list[str]:
    columns = (column for column in table.columns if column.startswith(prefix))
    return [column.removeprefix(prefix).replace("_", " ") for column in columns if flag(row.get(column))]

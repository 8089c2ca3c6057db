"""PAD-UFES-20: smartphone photos of six diagnoses with what the patient was asked (doi 10.17632/zr7vgbcyr2.1).

A blank cell was not asked, "UNK" was asked and not known: blank cells are absent, "UNK" stays. Eleven columns are blank
together, in 804 rows of the release that hold no cancer, so that their absence tells the label: they are counted.
"""

import re
from collections.abc import Iterator

from magic_cli.data.sources.cells import number
from magic_cli.data.sources.clinical.cases import TableSource, own_columns, photos_of
from magic_cli.data.sources.csv_rows import CsvTable, Row
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.source import (
    AGE,
    LABEL_PATH,
    LESION,
    PATIENT,
    SEX,
    SITE,
    SKIN_TYPE,
    RawCase,
    label_path,
)
from magic_cli.errors import problem
from magic_cli.records import Case

_MARKS = ("img_id", "diagnostic", "patient_id")

_ASKED_TOGETHER = (
    *("smoke", "drink", "background_father", "background_mother", "pesticide", "gender", "skin_cancer_history"),
    *("cancer_history", "has_piped_water", "has_sewage_system", "fitspatrick"),  # sic
)

_OTHERS = ("region", "diameter_1", "diameter_2", "itch", "grew", "hurt", "changed", "bleed", "elevation", "biopsed")

_COLUMNS = ("patient_id", "lesion_id", "age", *_ASKED_TOGETHER, *_OTHERS, "diagnostic", "img_id")

_DIAGNOSES = {  # code to its group in the paper, and its name
    "BCC": ("skin cancer", "basal cell carcinoma"),
    "SCC": ("skin cancer", "squamous cell carcinoma"),
    "MEL": ("skin cancer", "melanoma"),
    "ACK": ("skin disease", "actinic keratosis"),
    "NEV": ("skin disease", "nevus"),
    "SEK": ("skin disease", "seborrheic keratosis"),
}

_SPELLINGS = {"BRASIL": "BRAZIL"}  # a country that the table writes in two ways

_IMAGE = re.compile(r"(?P<patient>PAT_\d+)_(?P<lesion>\d+)_\d+", re.I)


class PadUfes20(TableSource):
    """PAD-UFES-20: a case is a photo, a group a patient."""

    name = "pad-ufes-20"
    title = "PAD-UFES-20"
    origin = "https://data.mendeley.com/datasets/zr7vgbcyr2/1"
    licence = "CC BY 4.0"
    expected = "metadata.csv; photos PAT_*.png in images/imgs_part_1 to imgs_part_3"
    usual = "metadata.csv"
    marks = _MARKS
    known = frozenset(_COLUMNS)

    def cases(self, table: CsvTable, files: SourceFiles) -> Iterator[RawCase]:
        """Yield a case per photo."""
        return _cases(table, files)


SOURCE = PadUfes20()


def _cases(table: CsvTable, files: SourceFiles) -> Iterator[RawCase]:
    rows = not_asked = cancers = respelled = 0
    has_questions = table.has(*_ASKED_TOGETHER)
    for row in table.rows(files.issues):
        rows += 1
        if has_questions and not any(map(row.get, _ASKED_TOGETHER)):
            not_asked += 1
            cancers += _DIAGNOSES.get(row.get("diagnostic") or "", ("", ""))[0] == "skin cancer"
        if row.get("img_id") is None:
            got = "no img_id"
            line = problem(row.where, got, "PAT_<patient>_<lesion>_<n>.png", "complete the row; left out")
            files.issues.add_loss(line, "cases")
            continue
        respelled += any(row.get(column) in _SPELLINGS for column in ("background_father", "background_mother"))
        yield _case(row, files)
    if not_asked:
        share = f"{not_asked:,} of {rows:,} rows, {cancers:,} of them cancers"
        files.issues.note(
            f"{table.name}: not asked for {len(_ASKED_TOGETHER)} columns, gender and fitspatrick among them: {share}; "
            "that they are missing hints at the label"
        )
    if respelled:
        files.issues.note(f"{table.name}: BRASIL is read as BRAZIL, as other rows have it; rows: {respelled:,}")


def _case(row: Row, files: SourceFiles) -> RawCase:
    image_ids, photos = photos_of(files, [row.get("img_id")])
    code = row.get("diagnostic")
    attributes = {column: _SPELLINGS.get(text, text) for column, text in own_columns(row, _COLUMNS).items()}
    named = _IMAGE.match(image_ids[0])
    patient = row.get("patient_id") or (named["patient"].upper() if named else "")
    lesion = row.get("lesion_id") or (named["lesion"] if named else None)
    if patient:
        attributes[PATIENT] = patient
    if patient and lesion:
        attributes[LESION] = f"{patient}_{lesion}"  # a lesion's number is its own only within a patient
    attributes |= _facts(row)
    if code in _DIAGNOSES:
        attributes[LABEL_PATH] = label_path(_DIAGNOSES[code])
    case = Case(
        case_id=image_ids[0],
        split="",  # the parts are those of a download, no split
        image_ids=image_ids,
        label=code,
        attributes=attributes,
        group_id=patient,
        licence=PadUfes20.licence,
    )
    return RawCase(case, photos, row.where)


def _facts(row: Row) -> dict[str, str]:
    """Return the attributes that all datasets name alike."""
    facts = {}
    age, skin_type = row.get("age"), number(row.get("fitspatrick"))
    if number(age) is not None:
        facts[AGE] = str(age)
    sex = (row.get("gender") or "").casefold()
    if sex in {"male", "female"}:
        facts[SEX] = sex
    if site := row.get("region"):
        facts[SITE] = site
    if skin_type in {1, 2, 3, 4, 5, 6}:
        facts[SKIN_TYPE] = f"{skin_type:.0f}"
    return facts

"""Diverse Dermatology Images (DDI): 656 photos with biopsy-proven diagnoses (doi 10.1126/sciadv.abq6147)."""

from collections.abc import Iterator

from magic_cli.data.sources.cells import flag, number
from magic_cli.data.sources.clinical.cases import TableSource, own_columns, photos_of
from magic_cli.data.sources.csv_rows import CsvTable, Row
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.source import (
    LABEL_PATH,
    SKIN_TYPE,
    RawCase,
    label_path,
)
from magic_cli.errors import problem
from magic_cli.records import Case

MARKS = ("DDI_file", "skin_tone")

COLUMNS = ("DDI_ID", "DDI_file", "skin_tone", "malignant", "malignancy(malig=1)", "disease")

LICENCE = "Stanford University Dataset Research Use Agreement"

_PAIRS = {12.0: "12", 34.0: "34", 56.0: "56"}  # two Fitzpatrick types each: a code, not a number


class Ddi(TableSource):
    """DDI: a case is a photo."""

    name = "ddi"
    title = "DDI, Diverse Dermatology Images"
    origin = "https://ddi-dataset.github.io/"
    licence = LICENCE
    expected = "ddi_metadata.csv; photos 000001.png, ... beside it or in images/"
    usual = "ddi_metadata.csv"
    marks = MARKS
    known = frozenset({*COLUMNS, "", "Unnamed: 0"})

    def cases(self, table: CsvTable, files: SourceFiles) -> Iterator[RawCase]:
        """Yield a case per photo."""
        return _cases(table, files)


SOURCE = Ddi()


def label_and_attributes(row: Row) -> tuple[str | None, dict[str, str]]:
    """Return the disease of a row, or "malignant" or "benign" where none is named, and its attributes."""
    attributes = own_columns(row, COLUMNS)
    pair = _PAIRS.get(number(row.get("skin_tone")) or 0.0)
    if pair:
        attributes |= {"skin_tone": pair, SKIN_TYPE: pair}
    malignant = flag(row.get("malignant") or row.get("malignancy(malig=1)"))
    kind = None if malignant is None else "malignant" if malignant else "benign"
    disease = row.get("disease")
    if kind or disease:
        attributes[LABEL_PATH] = label_path([kind, disease])
    return disease or kind, attributes


def _cases(table: CsvTable, files: SourceFiles) -> Iterator[RawCase]:
    for row in table.rows(files.issues):
        image_ids, photos = photos_of(files, [row.get("DDI_file")])
        if not image_ids:
            line = problem(row.where, "no DDI_file", "a name such as 000001.png", "complete the row; left out")
            files.issues.add_loss(line, "cases")
            continue
        label, attributes = label_and_attributes(row)
        case = Case(image_ids[0], "", image_ids, label=label, attributes=attributes, licence=LICENCE)
        yield RawCase(case, photos, row.where)

"""The classes of ISIC datasets, written as codes in their tables, in full: as the challenges and papers define them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from magic_cli.data.sources.cells import number
from magic_cli.data.sources.csv_rows import Row
from magic_cli.errors import DataError, problem, shorten

# ISIC 2018 and 2019 (https://challenge.isic-archive.com/data/); HAM10000 writes them in lower case
DIAGNOSES = {
    "MEL": "melanoma",
    "NV": "melanocytic nevus",
    "BCC": "basal cell carcinoma",
    "AKIEC": "actinic keratosis or intraepithelial carcinoma",
    "AK": "actinic keratosis",
    "BKL": "benign keratosis",
    "DF": "dermatofibroma",
    "VASC": "vascular lesion",
    "SCC": "squamous cell carcinoma",
}

UNKNOWN = "UNK"  # none of the other classes; a class of its own in ISIC 2019

# the eleven classes of MILK10k (https://doi.org/10.34970/648456)
MILK_DIAGNOSES = {
    **{code: DIAGNOSES[code] for code in ("AKIEC", "BCC", "BKL", "DF", "MEL", "NV")},
    "BEN_OTH": "other benign proliferation",
    "INF": "inflammatory or infectious condition",
    "MAL_OTH": "other malignant proliferation",
    "SCCKA": "squamous cell carcinoma or keratoacanthoma",
    "VASC": "vascular lesion or hemorrhage",
}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A class as the source words it, None if it is not stated, and its path from the widest class, "" without."""

    label: str | None = None
    path: str = ""


NO_DIAGNOSIS = Diagnosis()


def one_hot(row: Row, codes: Sequence[str], names: Mapping[str, str]) -> Diagnosis:
    """Return the class of a row whose columns `codes` hold 0 and a single 1; none if all of them are missing.

    Raises:
        DataError: another number than 0 and 1, no 1 or several; one line.
    """
    values = {code: row.get(code) for code in codes}
    if all(value is None for value in values.values()):
        return NO_DIAGNOSIS
    chosen = [code for code, value in values.items() if is_one(value, row, code)]
    if len(chosen) != 1:
        got = shorten(chosen) if chosen else "no class"
        raise DataError(problem(row.where, got, "1 for one class, 0 for the others", "fix the row"))
    return Diagnosis(chosen[0], names.get(chosen[0], ""))


def is_one(value: str | None, row: Row, column: str) -> bool:
    """Return whether a cell is 1, such as "1.0".

    Raises:
        DataError: it is neither 0 nor 1; one line.
    """
    value_as_number = number(value)
    if value_as_number not in (0.0, 1.0):
        got = "no value" if value is None else "a number between" if value_as_number is not None else "text"
        raise DataError(problem(row.where, f"{got} for {column}", "0 or 1", "fix the row"))
    return value_as_number == 1.0

"""What to do with a dataset that no adapter knows: its tables with their columns, and a `--map` that could fit."""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from magic_cli.data.issues import IssueLog
from magic_cli.data.names import PHOTO_SUFFIXES
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.generic.tables import open_table, table_paths
from magic_cli.errors import DataError, MagicError, printable, shorten

_LIKELY = {  # keys of --map to the names of columns that they may be, the first that fits
    "image": r"(?:image|img|file)(?:_?(?:id|path|file|name)s?)?|isic_id|md5hash|path|photo|foto|bild",
    "label": r"label|dx|diagnos[ie]s(?:_?label)?|diagnos(?:e|tic)|disease(?:_label)?|class(?:_?name)?|category|target",
    "text": r"caption|text|description|report|history|note|truncated_caption|caption_\w+|befund",
    "id": r"case_?id|encounter_?id|record_?id|study_?id",
    "group": r"group(?:_?id)?|patient(?:_?id)?|subject(?:_?id)?|lesion_?id",
    "split": r"split|partition|subset|set|fold",
    "mask": r"mask(?:_?(?:path|file|name))?|segmentation(?:_?(?:path|file))?",
    "licence": r"(?:copyright_)?licen[cs]e",
    "age": r"age(?:_?approx(?:imate)?|_years)?|alter",
    "sex": r"sex|gender|geschlecht",
    "site": r"(?:body_?|anatom_?)?site(?:_general)?|(?:body_?)?location|locali[sz]ation|lokalisation|region",
    "skin_type": r"(?:fitzpatrick|fitspatrick)(?:_?(?:scale|skin_?type))?|skin_?(?:type|tone)|fst",
}

_MOST = 5  # tables


def suggestions(files: SourceFiles) -> list[str]:
    """Return a line per table, at most five, with its columns, and the first `--map` that could fit."""
    lines: list[str] = []
    example = ""
    for path in table_paths(files)[:_MOST]:
        try:
            table = open_table(path, files)
            first = next(table.rows(IssueLog()), None)
        except (MagicError, OSError) as error:
            lines += error.problems[:1] if isinstance(error, DataError) else []
            continue
        columns = [column or "(unnamed)" for column in table.columns]
        lines.append(printable(f"{table.name}: columns {shorten(columns, 30)}"))
        example = example or likely_map(table.columns, first.cells if first else {})
    if example:
        lines.append(f"such as: magic prepare --data {files.root} --map {example}")
    return lines


def likely_map(columns: Sequence[str], first: Mapping[str, str]) -> str:
    """Return a `--map` for columns by their names, "" where none is an image by its name or by its cell in `first`.

    >>> likely_map(["file_name", "dx", "patient_id", "notes"], {})
    'image=file_name,label=dx,group=patient_id'
    """
    found: dict[str, str] = {}
    for key, pattern in _LIKELY.items():
        for column in columns:
            if column not in found.values() and re.fullmatch(pattern, column.strip(), re.I) and "," not in column:
                found[key] = column
                break
    if "image" not in found:
        named = [column for column in columns if PurePath(first.get(column, "")).suffix.lower() in PHOTO_SUFFIXES]
        if not named:
            return ""
        found = {"image": named[0], **{key: column for key, column in found.items() if column != named[0]}}
    text = ",".join(f"{key}={column}" for key, column in found.items())
    return f"'{text}'" if re.search(r"[^\w=,.+-]", text) else text

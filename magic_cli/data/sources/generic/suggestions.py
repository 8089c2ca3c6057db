"""What to do with a dataset that no adapter knows: its tables with their columns, and a `--map` that could fit."""

import re
from collections.abc import Sequence

from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.generic.tables import open_table, table_paths
from magic_cli.errors import DataError, MagicError, printable, shorten

_LIKELY = {  # keys of --map to the names of columns that they may be, the first that fits
    "image": r"(?:image|img)(?:_?(?:id|path|file|name)s?)?|isic_id|md5hash|file(?:_?(?:name|path)s?)?|path|photo",
    "label": r"label|dx|diagnos[ie]s(?:_?label)?|diagnostic|disease(?:_label)?|class(?:_?name)?|category|target",
    "text": r"caption|text|description|report|history|note|truncated_caption|caption_\w+",
    "id": r"case_?id|encounter_?id|record_?id|study_?id",
    "group": r"group(?:_?id)?|patient(?:_?id)?|subject(?:_?id)?|lesion_?id",
    "split": r"split|partition|subset|set|fold",
    "mask": r"mask(?:_?(?:path|file|name))?|segmentation(?:_?(?:path|file))?",
    "licence": r"(?:copyright_)?licen[cs]e",
    "age": r"age(?:_?approx(?:imate)?|_years)?",
    "sex": r"sex|gender",
    "site": r"(?:body_?|anatom_?)?site(?:_general)?|(?:body_?)?location|locali[sz]ation|region",
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
        except (MagicError, OSError) as error:
            lines += error.problems[:1] if isinstance(error, DataError) else []
            continue
        columns = [column or "(unnamed)" for column in table.columns]
        lines.append(printable(f"{table.name}: columns {shorten(columns, 30)}"))
        example = example or likely_map(table.columns)
    if example:
        lines.append(f"such as: magic prepare --data {files.root} --map {example}")
    return lines


def likely_map(columns: Sequence[str]) -> str:
    """Return a `--map` for columns by their names, "" where none is an image.

    >>> likely_map(["file_name", "dx", "patient_id", "notes"])
    'image=file_name,label=dx,group=patient_id'
    """
    found: dict[str, str] = {}
    for key, pattern in _LIKELY.items():
        for column in columns:
            if column not in found.values() and re.fullmatch(pattern, column.strip(), re.I) and "," not in column:
                found[key] = column
                break
    if "image" not in found:
        return ""
    text = ",".join(f"{key}={column}" for key, column in found.items())
    return f"'{text}'" if re.search(r"[^\w=,.+-]", text) else text

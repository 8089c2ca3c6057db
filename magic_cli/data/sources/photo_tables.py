"""Gold of photos in a CSV table as peers publish it: a label, a caption, or concepts as 0 and 1, per photo.

Columns are told by their names, in any case (the release of MAKE, SkinCAP, SkinCon, PanDerm):
  - the photo: `image_path`, `filename`, `image`, `ImageID`, ...; in a table of concepts, else the first column;
  - its class: `label`, a name or a number, with the name in `diag` if there is one (PanDerm, MAKE);
  - its text: `caption_zh_polish_en` (SkinCAP), `truncated_caption`, `caption`, `text`, ...;
  - its concepts (SkinCon, MONET's meta.csv): every other column that holds only 0, 1 and nothing;
  - its patient, and its part of the dataset: `patient_id`, `group`, ..., and `split`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from magic_cli.data.gold import CONCEPT_TABLE
from magic_cli.data.issues import IssueLog
from magic_cli.data.names import IMAGE_COLUMNS, PAIR_TABLES
from magic_cli.data.pair_gold import PairGold, prepared_pair_gold
from magic_cli.data.prepared import MANIFEST, open_prepared
from magic_cli.data.prompts import fold
from magic_cli.data.shards.dataset import is_sharded, open_shards
from magic_cli.data.shards.pair_record import GROUPS
from magic_cli.data.sources.cells import SPLIT_WORDS, present
from magic_cli.data.sources.csv_rows import Row, open_csv
from magic_cli.errors import DataError, first_lines, printable, problem, redact, shorten

LABEL_COLUMNS = ("label", "class", "diagnosis", "target", "dx")

NAME_COLUMNS = ("diag", "diagnosis", "disease", "class_name", "label_name")

TEXT_COLUMNS = ("caption_zh_polish_en", "truncated_caption", "caption_en", "caption", "text", "report", "description")

GROUP_COLUMNS = (*GROUPS, "lesion_id", "case_id")

_NUMBERS = ("", "id", "index", "fold")  # columns that number rows

_FLAGS = {"0": False, "0.0": False, "1": True, "1.0": True, "false": False, "true": True}


@dataclass(frozen=True)
class _Columns:
    """The columns of a table by what they hold; "" for none."""

    image: str
    label: str
    name: str
    text: str
    group: str
    split: str
    concepts: tuple[str, ...]


def open_pair_gold(path: Path, split: str) -> PairGold:
    """Return the gold of photos in a prepared dataset, in shards, in a table, or in a folder with MONET's meta.csv.

    Raises:
        DataError: it is none of these, has no class, concept or text, or cannot be read.
    """
    table = path / CONCEPT_TABLE if path.is_dir() else path
    if (path / MANIFEST).is_file():
        gold = prepared_pair_gold(open_prepared(path), split)
    elif is_sharded(path):
        gold = prepared_pair_gold(open_shards(path)[0], split)
    elif table.is_file() and table.suffix.casefold() in PAIR_TABLES:
        gold = read_pair_table(table, split)
    else:
        got = "no such file or folder" if not path.exists() else "no gold of photos"
        expected = f"a prepared dataset, a CSV table or a folder with {CONCEPT_TABLE}"
        raise DataError(problem(printable(path), got, expected, "check the path"))
    if not len(gold):
        remedy = "choose another --split, or a dataset that has them"
        raise DataError(problem(gold.source, "no photo with a class, a concept or a text", "some", remedy))
    return gold


def read_pair_table(path: Path, split: str) -> PairGold:
    """Return the gold in a CSV table.

    Args:
        path: of the table.
        split: rows of other splits are left out, if the table has a column `split`.

    Raises:
        DataError: no column for the photo, or none for what is known of it; a photo twice; a label without a value; a
            concept that is neither 0 nor 1; no row of the split. Up to 20 rows are named.
    """
    source, issues = printable(path), IssueLog()
    table = open_csv(str(path), None)
    rows = list(table.rows(issues))
    lines = issues.lines()
    if lines:
        raise DataError(first_lines(lines, source))
    columns = _told(table.columns, rows, source)
    wanted = _of_split(rows, columns.split, split, source)
    ids = dict(_ids(wanted, columns.image, lines))
    known = tuple(fold(name) for name in columns.concepts)
    seen = {image: _concepts(row, columns, lines) for image, row in ids.items()} if known else {}
    labels = dict(_labels(ids, columns, lines))
    if lines:
        raise DataError(first_lines(lines, source))
    numbered = bool(labels) and not columns.name and all(label.isdigit() for label in labels.values())
    texts = {image: fold(said) for image, row in ids.items() if columns.text and (said := row.get(columns.text))}
    groups = {image: (columns.group and row.get(columns.group)) or image for image, row in ids.items()}
    return PairGold(
        source,
        classes=labels,
        concepts={image: yes for image, (yes, _) in seen.items()},
        texts=texts,
        groups=groups,
        unknown={image: blank for image, (_, blank) in seen.items() if blank},
        known_concepts=known,
        is_numbered=numbered,
        is_closed=not columns.text and not (known and labels),
        notes=_notes(columns, issues),
    )


def _notes(columns: _Columns, issues: IssueLog) -> tuple[str, ...]:
    if columns.group:
        return tuple(issues.notes)
    missing = "no column tells patients apart (patient_id, group); photos are resampled as if each were of another one"
    return (*issues.notes, f"{missing}, so intervals may be too narrow")


def _told(names: Sequence[str], rows: Sequence[Row], source: str) -> _Columns:
    """Return what the columns hold; raises DataError if there is no photo, or nothing known of it."""
    folded = {name.strip().casefold(): name for name in reversed(names)}

    def first(wanted: Sequence[str], *taken: str) -> str:
        return next((folded[name] for name in wanted if name in folded and folded[name] not in taken), "")

    image, label, text = first(IMAGE_COLUMNS), first(LABEL_COLUMNS), first(TEXT_COLUMNS)
    name, group = first(NAME_COLUMNS, label), first(GROUP_COLUMNS)
    split = first(("split",))
    others = [name for name in names if name.casefold() not in _NUMBERS and not name.startswith("Unnamed: ")]
    others = [column for column in others if column not in (image, label, text, name, group, split)]
    if not image and not label and not text and len(others) > 1:
        image, *others = others  # a table of concepts: its first column, under any name
    if label or text:
        others = [column for column in others if _is_flag(column, rows)]
    if not image or not (label or text or others):
        expected = "a column for the photo (image_path, filename) and one for its label, caption or concepts (0/1)"
        got = f"columns {shorten(names)}"
        raise DataError(problem(source, got, expected, "rename the columns"))
    return _Columns(image, label, name if label else "", text, group, split, tuple(others))


def _is_flag(column: str, rows: Sequence[Row]) -> bool:
    cells = [cell for row in rows if (cell := row.get(column)) is not None]
    return bool(cells) and all(cell.casefold() in _FLAGS for cell in cells)


def _of_split(rows: Sequence[Row], column: str, split: str, source: str) -> Sequence[Row]:
    if not rows:
        raise DataError(problem(source, "no rows", "a row per photo", "check the file"))
    if not column:
        return rows
    of_row = [(row.get(column) or "").casefold() for row in rows]
    found = [row for row, name in zip(rows, of_row, strict=True) if SPLIT_WORDS.get(name) == split]
    if not found:
        got = f"no row of split {split!r} (its column {column!r} has {shorten(map(redact, sorted(set(of_row))))})"
        raise DataError(problem(source, got, "one or more", "choose another --split, or remove the column"))
    return found


def _ids(rows: Sequence[Row], column: str, lines: list[str]) -> Iterator[tuple[str, Row]]:
    met: set[str] = set()
    for row in rows:
        image = row.get(column)
        if image is None or image in met:
            got = "no photo" if image is None else f"{redact(image)} twice"
            lines.append(problem(row.where, got, "one row per photo", "remove the row"))
        else:
            met.add(image)
            yield image, row


def _labels(ids: Mapping[str, Row], columns: _Columns, lines: list[str]) -> Iterator[tuple[str, str]]:
    for image, row in ids.items() if columns.label else ():
        label = (columns.name and row.get(columns.name)) or row.get(columns.label)
        if label is None:
            lines.append(problem(row.where, "no label", "a class", "fill it in, or remove the row"))
        else:
            whole, _, rest = label.partition(".")  # pandas writes 3.0 where some labels are missing
            yield image, whole if whole.isdigit() and rest.strip("0") == "" else fold(label.replace("_", " "))


def _concepts(row: Row, columns: _Columns, lines: list[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the concepts that a row says are seen, and those of which it says nothing."""
    yes, blank = [], []
    for column in columns.concepts:
        cell = present(row.cells.get(column))
        flag = None if cell is None else _FLAGS.get(cell.casefold())
        if cell is not None and flag is None:
            lines.append(problem(f"{row.where}:{column}", redact(cell), "0, 1 or nothing", "fix the cell"))
        if flag is None:
            blank.append(fold(column))
        elif flag:
            yes.append(fold(column))
    return frozenset(yes), frozenset(blank)

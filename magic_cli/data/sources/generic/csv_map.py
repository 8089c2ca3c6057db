"""The adapter of any table: `--map` says which column is the photo, the class, the text, the patient."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath

import numpy as np

from magic_cli.data.issues import IssueLog
from magic_cli.data.sources import cells
from magic_cli.data.sources.csv_rows import Row, note_unknown
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.generic.mapping import ColumnMap, resolve
from magic_cli.data.sources.generic.mask_files import MaskFiles
from magic_cli.data.sources.generic.photos import case_id_of, free_id, names_in, photos_of
from magic_cli.data.sources.generic.row_facts import FactReader
from magic_cli.data.sources.generic.suggestions import suggestions
from magic_cli.data.sources.generic.tables import Table, open_table, table_paths
from magic_cli.data.sources.source import LONGEST_ATTRIBUTE, RAW, RawCase, RawDataset, RawPhoto, ReadOptions, Source
from magic_cli.errors import ConfigError, DataError, problem, redact_key, shorten
from magic_cli.records import Case

_EXPECTED = "--map image=COLUMN,... (see examples/datasets.md)"


class CsvMap(Source):
    """Any CSV or JSON table whose columns `--map` names."""

    name = "csv"
    title = "any table, by --map"
    origin = "yours"
    licence = "as its column licence= says"
    expected = "one CSV, TSV or JSON table, and photos; --map image=COLUMN,label=COLUMN,..."

    def find(self, files: SourceFiles) -> str:  # noqa: ARG002
        """Return "": a table of unknown columns is read only where `--map` says how."""
        return ""

    def read(self, files: SourceFiles, options: ReadOptions) -> RawDataset:
        """Return the dataset.

        Raises:
            ConfigError: no `--map`, or one that names unknown columns.
            DataError: no table, several, or one that cannot be read.
        """
        if not options.mapping:
            raise ConfigError([problem("--source csv", "no --map", _EXPECTED, "add it"), *suggestions(files)])
        table = _table(files, options.mapping)
        columns = resolve(options.mapping, table.columns, table.name)
        if not columns.of("image") and not any(key.partition(".")[0] == "text" for key in columns.columns):
            raise ConfigError(problem("--map", shorten(columns.columns), "image= or text=", "add one of them"))
        if not columns.of("image") and not columns.of("id"):
            raise ConfigError(problem("--map", "no image= and no id=", "id=, which names the cases", "add it"))
        rows = _Rows(table, columns, files)
        return RawDataset(
            source=self.name,
            root=files.root,
            cases=rows.cases(),
            issues=files.issues,
            inputs=files.digests(table.path),
            asks_in_text=any(key.partition(".")[0] == "text" for key in columns.columns),
        )


SOURCE = CsvMap()


def _table(files: SourceFiles, mapping: Mapping[str, str]) -> Table:
    """Return the table that `table=` names, or the only one that has the columns.

    Raises:
        ConfigError, DataError: none or several.
    """
    paths = table_paths(files)
    if "table" in mapping:
        return open_table(_named(mapping["table"], paths, files), files)
    if not paths:
        raise DataError(problem(files.root, "no CSV or JSON table", "one", "check --data"))
    fitting = [path for path in paths if _fits(path, files, mapping)]
    if len(fitting) > 1 or (not fitting and len(paths) > 1):
        have = fitting or paths
        got = f"{len(have)} tables" + (" with these columns" if fitting else ", none of which has all columns of --map")
        lines = suggestions(files) if not fitting else []
        remedy = f"choose with --map table={files.name(have[0])},..."
        raise ConfigError([problem(files.root, f"{got}: {shorten(map(files.name, have))}", "one", remedy), *lines])
    return open_table((fitting or paths)[0], files)


def _named(written: str, paths: Sequence[str], files: SourceFiles) -> str:
    name = written.replace("\\", "/").removeprefix("./")
    named = [path for path in paths if path in (name, str(files.root / name))]
    named = named or [path for path in paths if PurePath(path).name == name]
    if len(named) != 1:
        got = f"{len(named) or 'no'} such file{'s' * (len(named) > 1)} below {files.root}"
        have = shorten(map(files.name, paths), 20) or "a table, of which there is none"
        raise ConfigError(problem(f"--map table={written}", got, have, "give its path below --data"))
    return named[0]


def _fits(path: str, files: SourceFiles, mapping: Mapping[str, str]) -> bool:
    try:
        resolve(mapping, open_table(path, files).columns, "")
    except (ConfigError, DataError, OSError):
        return False
    return True


class _Rows:
    """The rows of a table, gathered to cases by their ids."""

    def __init__(self, table: Table, columns: ColumnMap, files: SourceFiles) -> None:
        self.table, self.columns, self.files, self.issues = table, columns, files, files.issues
        self.masks = MaskFiles(files)
        self.facts = FactReader(columns, table.name, files.issues)

    def cases(self) -> Iterator[RawCase]:
        """Yield the cases; rows with the same id wait for the last of them, all others pass by."""
        note_unknown(self.table, self.columns.used, self.issues)
        left = self._repeated()
        waiting: dict[str, list[RawCase]] = {}
        for row in self.table.rows(self.issues):
            case_id = self._id_or_line(row)
            raw = self._read(row, case_id) if case_id else None
            mark = hash(case_id)
            if raw and mark not in left:
                yield raw
            if mark not in left:
                continue
            left[mark] -= 1
            if raw:
                waiting.setdefault(case_id, []).append(raw)
            if not left[mark] and case_id in waiting:
                yield self._merged(waiting.pop(case_id))
        yield from (self._merged(parts) for parts in waiting.values())
        self.facts.note()
        self.masks.note()

    def _repeated(self) -> dict[int, int]:
        """Return how many rows have each id that several have, by its hash: eight bytes per row are kept."""
        marks = array("q")
        for row in self.table.rows(IssueLog()):
            try:
                case_id = self._id(row)
            except DataError:
                continue
            if case_id:
                marks.append(hash(case_id))
        values, counts = np.unique(np.frombuffer(marks, np.int64), return_counts=True)
        return {int(mark): int(count) for mark, count in zip(values[counts > 1], counts[counts > 1], strict=True)}

    def _id_or_line(self, row: Row) -> str:
        try:
            case_id = self._id(row)
        except DataError as error:
            self.issues.add_loss(error.problems[0], "cases")
            return ""
        if not case_id:
            column = self.columns.one("id") or shorten(self.columns.of("image"))
            self.issues.add_loss(problem(row.where, f"no {column}", "one", "complete the row; left out"), "cases")
        return case_id

    def _id(self, row: Row) -> str:
        column = self.columns.one("id")
        if column:
            return cells.identifier(row.get(column), row.where) or ""
        names = names_in(row, self.columns.of("image"))
        return case_id_of(names[0], self.files) if names else ""

    def _read(self, row: Row, case_id: str) -> RawCase | None:
        try:
            facts = self.facts.read(row)
            names = names_in(row, self.columns.of("image"))
            masks = names_in(row, self.columns.of("mask"))
        except DataError as error:
            self.issues.add_loss(error.problems[0], "cases")
            return None
        image_ids, photos = photos_of(self.files, names, masks, row.where, self.issues)
        if not self.columns.of("mask"):
            photos = tuple(replace(photo, masks=self.masks.of(photo.image_id, photo.path)) for photo in photos)
        case = Case(
            case_id=case_id,
            split=facts.split,
            image_ids=image_ids,
            texts=facts.texts,
            label=facts.label,
            attributes=facts.attributes,
            group_id=facts.group,
            licence=facts.licence,
        )
        return RawCase(case, photos, row.where)

    def _merged(self, parts: Sequence[RawCase]) -> RawCase:
        """Return one case of the rows with its id: photos and texts in order; where rows differ, the first decides."""
        first = parts[0]
        if len(parts) == 1:
            return first
        image_ids, photos = _photos_together(parts)
        case = replace(
            first.case,
            image_ids=image_ids,
            texts=texts_together(part.case.texts for part in parts),
            label=self._agreed("label", parts, [part.case.label or "" for part in parts]) or None,
            split=self._agreed("split", parts, [part.case.split for part in parts]),
            group_id=self._agreed("group", parts, [part.case.group_id for part in parts]),
            licence=self._agreed("licence", parts, [part.case.licence for part in parts]),
            attributes=attributes_together([part.case.attributes for part in parts]),
        )
        return replace(first, case=case, photos=photos)

    def _agreed(self, name: str, parts: Sequence[RawCase], values: Sequence[str]) -> str:
        """Return the first value; a row with another one is a problem."""
        first = next(filter(None, values), "")
        differing = [part.where for part, value in zip(parts, values, strict=True) if value and value != first]
        if differing:
            got = f"another {name} of {redact_key(parts[0].case.case_id)} than in {parts[0].where}"
            self.issues.add_loss(problem(differing[0], got, "the same", "fix the rows; the first is used"))
        return first


def _photos_together(parts: Sequence[RawCase]) -> tuple[tuple[str, ...], tuple[RawPhoto, ...]]:
    ids: list[str] = []
    photos: dict[str, RawPhoto] = {}
    for part in parts:
        own = {photo.image_id: photo for photo in part.photos}
        for image_id in part.case.image_ids:
            photo = own.get(image_id)
            if photo and photo.path in photos:
                known = photos[photo.path]
                masks = dict.fromkeys([*known.masks.values(), *photo.masks.values()])
                photos[photo.path] = replace(known, masks={f"ann{number}": mask for number, mask in enumerate(masks)})
                continue
            name = free_id(image_id, ids) if photo else image_id
            if name not in ids:
                ids.append(name)
            if photo:
                photos[photo.path] = replace(photo, image_id=name)
    return tuple(ids), tuple(photos.values())


def texts_together(parts: Iterable[Mapping[str, Mapping[str, str]]]) -> dict[str, dict[str, str]]:
    """Return the raw texts of several rows by language, each text once, a line each."""
    together: dict[str, dict[str, None]] = {}
    for texts in parts:
        for lang, text in texts.get(RAW, {}).items():
            together.setdefault(lang, {})[text] = None
    return {RAW: {lang: "\n".join(lines) for lang, lines in together.items()}} if together else {}


def attributes_together(parts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the attributes of several rows, different values joined by semicolons, at most 1,000 characters."""
    together: dict[str, dict[str, None]] = {}
    for attributes in parts:
        for name, value in attributes.items():
            together.setdefault(name, {})[value] = None
    return {name: "; ".join(values)[:LONGEST_ATTRIBUTE] for name, values in together.items()}

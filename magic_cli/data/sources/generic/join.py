"""`--join FILE`: facts about photos or cases from a second table, for any dataset."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from magic_cli.data.names import key_of
from magic_cli.data.sources import cells
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.generic.csv_map import attributes_together, texts_together
from magic_cli.data.sources.generic.mapping import resolve
from magic_cli.data.sources.generic.row_facts import FactReader, RowFacts
from magic_cli.data.sources.generic.tables import Table, open_table
from magic_cli.data.sources.source import RawCase, RawDataset
from magic_cli.errors import ConfigError, DataError, problem, redact_key, shorten
from magic_cli.io.files import sha256


def join(dataset: RawDataset, path: Path, mapping: Mapping[str, str], files: SourceFiles) -> RawDataset:
    """Return the dataset with what a second table says about its photos or cases.

    Rows are matched by the name of a photo, else by the id of a case. Their cells become attributes under the names of
    the columns; what `mapping` names besides (age, site, label, ...) fills what the dataset itself leaves open.

    Args:
        dataset: as an adapter returns it.
        path: of the table: as given, or below the data folder.
        mapping: of the table, as `mapping.parse_mapping` returns it; "id" is its key, by default the first column.
        files: of the dataset.

    Raises:
        ConfigError: unknown columns, or keys that a joined table does not have.
        DataError: no such table, or none at all.
    """
    table = open_table(_located(path, files), files)
    refused = [key for key in mapping if key in ("image", "mask", "table")]
    if refused:
        remedy = "leave it out; id= names the column of the photo or case"
        raise ConfigError(problem("--join", f"--map {refused[0]}=", "columns of the joined table", remedy))
    key = mapping.get("id") or next(filter(None, table.columns))
    columns = resolve({"attribute": "*", **mapping, "id": key}, table.columns, table.name)
    digest = {table.name: sha256(Path(table.path))}
    joiner = _Joiner(dataset, table, key, FactReader(columns, table.name, dataset.issues))
    return replace(dataset, cases=joiner.cases(), inputs={**dataset.inputs, **digest})


def _located(path: Path, files: SourceFiles) -> str:
    for candidate in (path, files.root / path):
        if candidate.is_file():
            return str(candidate.resolve())
    raise DataError(
        problem(f"--join {path}", "no such file", "a table, by its path or by that below --data", "check it")
    )


class _Joiner:
    def __init__(self, dataset: RawDataset, table: Table, key: str, facts: FactReader) -> None:
        self.dataset, self.table, self.key, self.facts = dataset, table, key, facts
        self.issues = dataset.issues
        self.rows: dict[str, RowFacts] = {}
        self.used: set[str] = set()
        self.cases_without = 0

    def cases(self) -> Iterator[RawCase]:
        """Yield the cases; say at the end what was not matched."""
        self._read()
        for raw in self.dataset.cases:
            yield self._joined(raw)
        self.facts.note()
        rows = [key for key in self.rows if key not in self.used]
        line = f"{self.table.name}: {len(self.used):,} rows joined by {self.key or 'the first column'}"
        if rows:
            line += f"; {len(rows):,} belong to no case ({shorten(map(redact_key, rows), 3)})"
        if self.cases_without:
            line += f"; {self.cases_without:,} cases have no row"
        self.issues.note(line)
        if not self.used and self.rows:
            got = f"{len(self.rows):,} rows, of which none has the name of a photo or the id of a case"
            remedy = "name the column that has it with --map id=COLUMN"
            self.issues.add_loss(problem(self.table.name, got, f"such names in column {self.key}", remedy))

    def _read(self) -> None:
        for row in self.table.rows(self.issues):
            try:
                written = cells.identifier(row.get(self.key), row.where)
                key = key_of(cells.image_id_of(written or ""))
                if not key:
                    raise DataError(problem(row.where, f"no {self.key}", "one", "complete the row"))
                if key in self.rows:
                    got = f"{redact_key(written)} twice"
                    raise DataError(problem(row.where, got, "once", "remove one row; the first is used"))
                self.rows[key] = self.facts.read(row)
            except DataError as error:
                self.issues.add_loss(error.problems[0])

    def _joined(self, raw: RawCase) -> RawCase:
        case = raw.case
        keys = dict.fromkeys(map(key_of, (*case.image_ids, case.case_id)))
        found = [key for key in keys if key in self.rows]
        if not found:
            self.cases_without += 1
            return raw
        self.used.update(found)
        facts = [self.rows[key] for key in found]
        texts = texts_together(fact.texts for fact in facts)
        return replace(
            raw,
            case=replace(
                case,
                attributes={**attributes_together([fact.attributes for fact in facts]), **case.attributes},
                texts={**texts, **case.texts},
                label=case.label or next((fact.label for fact in facts if fact.label), None),
                split=case.split or next((fact.split for fact in facts if fact.split), ""),
                group_id=case.group_id or next((fact.group for fact in facts if fact.group), ""),
                licence=case.licence or next((fact.licence for fact in facts if fact.licence), ""),
            ),
        )

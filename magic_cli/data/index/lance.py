"""A case index in LanceDB (extra `index`): several processes may write, every change is a version that is there or not.

Each field has three columns, named by its position: its text, its number, and whether it is one. Nothing is NULL, so
that conditions have two truth values: a missing text is "" (no case keeps an empty one).
"""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.index.base import CaseIndex, Hit, IndexedCase, IndexInfo, in_batches, rounding, widening
from magic_cli.data.index.where import And, Equals, In, Missing, Not, Or, Range, Where, number_of
from magic_cli.errors import DataError, ExtraError, problem
from magic_cli.io.json_files import json_text

if TYPE_CHECKING:
    import lancedb
    import pyarrow as pa

TABLE, REBUILD = "cases", "rebuild"

_METADATA = b"magic"

_BATCH = 500  # ids in one condition

_MOST_VERSIONS = 64  # writes become slow with many: then small files are merged

_KEPT = timedelta(hours=1)  # of older versions, for those who read them


def _lancedb() -> Any:
    try:
        import lancedb
    except ImportError:
        remedy = "pip install lancedb, or name a folder without `lance:`"
        raise ExtraError(f"LanceDB indexes need lancedb, which is not installed; {remedy}") from None
    return lancedb


def _connect(folder: str) -> "lancedb.db.DBConnection":
    if "://" not in folder and Path(folder).exists() and not Path(folder).is_dir():
        raise DataError(problem(f"lance:{folder}", "a file", "a folder", "choose another place"))
    # an interval of 0: each look sees what other processes have written
    return _lancedb().connect(folder, read_consistency_interval=timedelta(0))


class LanceIndex(CaseIndex):
    """The case index in a table of LanceDB.

    Raises:
        ExtraError: lancedb is not installed.
        DataError: there is no such table, or it is none of ours.
    """

    def __init__(self, folder: str, name: str = TABLE) -> None:
        if not _is_there(folder, name):
            raise DataError(problem(f"lance:{folder}", "no table of cases", "a case index", _BUILD))
        self._db = _connect(folder)
        self._folder, self._name = folder, name
        with _reading(folder):
            self._table = self._db.open_table(name)
        # the model's checksum is in the metadata of the table, so that no copy can lose it
        metadata = (self._table.schema.metadata or {}).get(_METADATA, b"null")
        super().__init__(f"lance:{folder}", IndexInfo.from_json(json.loads(metadata), f"lance:{folder}"))

    def __len__(self) -> int:
        with _reading(self._folder):
            return int(self._table.count_rows())

    def contents(self) -> dict[str, str]:
        """Return the content hash of every case by its id."""
        with _reading(self._folder):
            rows = self._table.search().select(["id", "content"]).limit(max(1, len(self))).to_arrow()
        return dict(zip(rows["id"].to_pylist(), rows["content"].to_pylist(), strict=True))

    def compact(self) -> None:
        """Merge small files and remove all older versions; who reads one of them must search again."""
        with catch_warnings():
            simplefilter("ignore", UserWarning)  # of just that
            self._table.optimize(cleanup_older_than=timedelta(0))

    def publish(self) -> None:
        """Make a rebuilt table the next version of the older one, at once."""
        if self._name == TABLE:
            return
        rows = self._table.search().limit(max(1, len(self))).to_batches(1024)
        self._db.create_table(TABLE, data=rows, schema=self._table.schema, mode="overwrite")
        self._db.drop_table(self._name)
        self._name, self._table = TABLE, self._db.open_table(TABLE)

    def close(self) -> None:
        """Nothing is held open."""

    def _put(self, cases: Sequence[IndexedCase], vectors: NDArray[np.float32]) -> None:
        merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        merge.execute(_rows(self.info, self._table.schema, cases, vectors))
        if len(self._table.list_versions()) > _MOST_VERSIONS:
            self._table.optimize(cleanup_older_than=_KEPT)

    def _drop(self, ids: Sequence[str]) -> int:
        before = len(self)
        for part in in_batches(ids, _BATCH):
            self._table.delete(f"id IN ({', '.join(map(_text, part))})")
        return before - len(self)

    def _nearest(self, queries: NDArray[np.float32], k: int, where: Where | None) -> list[list[Hit]]:
        condition = None if where is None else _sql(where, {name: i for i, name in enumerate(self.info.fields)})
        rows = len(self) if where is None else int(self._table.count_rows(condition))
        if not rows:
            return [[] for _ in queries]

        def near(query: NDArray[np.float32]) -> list[Hit]:
            margin = 2 * rounding(query, self.info, in_half=True)
            return widening(lambda most: self._fetch(query, min(most, rows + 1), condition), min(k, rows), margin)

        with _reading(self._folder):
            return [near(query) for query in queries]

    def _texts(self, field: str, where: Where | None) -> list[str]:
        places = {name: i for i, name in enumerate(self.info.fields)}
        column = f"text{places[field]}"
        search = self._table.search().select([column])
        search = search if where is None else search.where(_sql(where, places))
        with _reading(self._folder):
            texts: list[str] = search.limit(max(1, len(self))).to_arrow()[column].to_pylist()
        return texts

    def _fetch(self, query: NDArray[np.float32], most: int, condition: str | None) -> list[Hit]:
        search = self._table.search(query, vector_column_name="vector").distance_type("dot")
        search = search.bypass_vector_index()  # exact, even if somebody made an index of the table
        if condition is not None:
            search = search.where(condition, prefilter=True)
        table = search.limit(most).to_arrow()
        flat = table["vector"].combine_chunks().values.to_numpy(zero_copy_only=False)
        vectors = flat.astype(np.float32).reshape(table.num_rows, -1)
        texts = [table[f"text{i}"].to_pylist() for i in range(len(self.info.fields))]
        hits = []
        for row, (case, content, thumb, distance) in enumerate(
            zip(*(table[name].to_pylist() for name in ("id", "content", "thumb", "_distance")), strict=True)
        ):
            fields = {name: texts[i][row] for i, name in enumerate(self.info.fields) if texts[i][row]}
            # Lance's distance of "dot" is 1 minus the inner product
            hits.append(Hit(case, 1 - distance, fields, vectors[row], content, thumb))
        return hits


_BUILD = "build one with `magic index build`"


@contextmanager
def _reading(folder: str) -> Iterator[None]:
    """Raise what the engine says of damaged files as a DataError."""
    try:
        yield
    except (RuntimeError, ValueError):
        remedy = "restore the folder from a copy, or build the index again"
        raise DataError(problem(f"lance:{folder}", "files that lancedb cannot read", "a table", remedy)) from None


def _tables(db: "lancedb.db.DBConnection") -> set[str]:
    listed = db.list_tables()
    return set(getattr(listed, "tables", listed))


def _schema(info: IndexInfo) -> "pa.Schema":
    import pyarrow as pa

    value = pa.float16() if info.dtype == "float16" else pa.float32()
    columns = [pa.field(name, pa.string(), nullable=False) for name in ("id", "content", "thumb")]
    columns.append(pa.field("vector", pa.list_(value, info.width), nullable=False))
    for i in range(len(info.fields)):
        columns += [
            pa.field(f"text{i}", pa.string(), nullable=False),
            pa.field(f"number{i}", pa.float64(), nullable=False),
            pa.field(f"is_number{i}", pa.bool_(), nullable=False),
        ]
    return pa.schema(columns, metadata={_METADATA: json_text(info.to_json()).encode()})


def _rows(
    info: IndexInfo, schema: "pa.Schema", cases: Sequence[IndexedCase], vectors: NDArray[np.float32]
) -> "pa.Table":
    import pyarrow as pa

    columns: list[pa.Array] = [pa.array([getattr(case, name) for case in cases]) for name in ("id", "content", "thumb")]
    flat = pa.array(np.ascontiguousarray(vectors, np.dtype(info.dtype)).reshape(-1))
    columns.append(pa.FixedSizeListArray.from_arrays(flat, info.width))
    for name in info.fields:
        texts = [case.fields.get(name, "") for case in cases]
        numbers = [number_of(text) for text in texts]
        columns += [
            pa.array(texts, pa.string()),
            pa.array([number or 0.0 for number in numbers], pa.float64()),
            pa.array([number is not None for number in numbers], pa.bool_()),
        ]
    return pa.Table.from_arrays(columns, schema=schema)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _sql(where: Where, column: dict[str, int]) -> str:
    """Return a condition in SQL, in which nothing is NULL."""
    match where:
        case And(parts):
            return "(" + " AND ".join(_sql(part, column) for part in parts) + ")"
        case Or(parts):
            return "(" + " OR ".join(_sql(part, column) for part in parts) + ")"
        case Not(part):
            return f"(NOT {_sql(part, column)})"
        case Missing(field):
            return f"(text{column[field]} = '')"
        case Equals(field, value):
            return f"(text{column[field]} <> '' AND text{column[field]} = {_text(value)})"
        case In(field, values):
            return f"(text{column[field]} <> '' AND text{column[field]} IN ({', '.join(map(_text, values))}))"
        case Range(field):
            return _sql_range(column[field], where)


def _sql_range(column: int, bounds: Range) -> str:
    parts = [f"is_number{column}"]
    if math.isfinite(bounds.low):
        parts.append(f"number{column} {'>' if bounds.above else '>='} CAST('{bounds.low!r}' AS DOUBLE)")
    if math.isfinite(bounds.high):
        parts.append(f"number{column} {'<' if bounds.below else '<='} CAST('{bounds.high!r}' AS DOUBLE)")
    return f"({' AND '.join(parts)})"


def has_lance(folder: str) -> bool:
    """Return whether there is a table of cases."""
    return _is_there(folder, TABLE)


def _is_there(folder: str, name: str) -> bool:
    """Return whether there is a table; lancedb would make the folder in which it looks."""
    _lancedb()
    return ("://" in folder or Path(folder).is_dir()) and name in _tables(_connect(folder))


def create_lance(folder: str, info: IndexInfo, name: str = TABLE) -> LanceIndex:
    """Make an empty index.

    Raises:
        DataError: there is one already.
    """
    db = _connect(folder)
    if name in _tables(db):
        remedy = "add to it with `magic index add`, or choose another folder"
        raise DataError(problem(f"lance:{folder}", "a folder with a case index", "a new one", remedy))
    db.create_table(name, schema=_schema(info))
    return LanceIndex(folder, name)


def rebuild_lance(folder: str, info: IndexInfo) -> LanceIndex:
    """Begin a new index beside the older one, which is searched until `publish`; go on with one begun so."""
    db = _connect(folder)
    if TABLE not in _tables(db):
        raise DataError(problem(f"lance:{folder}", "no table of cases", "a case index", _BUILD))
    if REBUILD in _tables(db):
        begun = LanceIndex(folder, REBUILD)
        if begun.info.is_same(info):
            return begun
        db.drop_table(REBUILD)
    return create_lance(folder, info, REBUILD)


def lance_folder(location: str) -> str:
    """Return the folder, or the URI of an object store, of a location "lance:FOLDER"."""
    folder = location.removeprefix("lance:")
    return folder if "://" in folder else str(Path(folder))

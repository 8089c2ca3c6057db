"""A Parquet file of pairs: photos as bytes or as paths, texts in columns; read by row groups, never as a whole.

The columns of texts are those of `pair_record`, "text" and "txt" included. A photo is in a column of bytes, or of
structs with bytes (Hugging Face datasets), or a column of paths below the folder names its file. A photo that is asked
for brings its row group into a small cache, so that an order by windows (training/permutation.py) reads each once.
"""

import hashlib
import os
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from magic_cli.data.issues import IssueLog, by_kind
from magic_cli.data.shards.pair_record import PairRecord, pair_record
from magic_cli.data.shards.shard import Shard, ShardPhoto
from magic_cli.data.shards.shard_index import ROW, ShardFacts, ShardIndex, group_hash, load_index, save_index, stamp
from magic_cli.errors import DataError, ExtraError, first_lines, printable, problem
from magic_cli.records import PackedPhoto

_BYTES = ("image", "jpg", "jpeg", "png", "webp", "img", "photo", "image_bytes", "bytes", "content")

_PATHS = ("filename", "image_path", "path", "file_name", "file", "image", "photo")

_CAPTIONS = ("text", "txt")

_KEPT = 512 << 20  # bytes of row groups with photos that a process keeps

REMEDY = "pip install pyarrow"


@dataclass(frozen=True, slots=True)
class ParquetPhoto(ShardPhoto):
    """A photo in a row of a Parquet file."""

    row: int

    @property
    def key(self) -> str:
        """The digest of the file, and the row."""
        return f"{self.digest}#{self.row}"

    def read(self) -> bytes:
        """Return its bytes; raises DataError."""
        data = _table(self.path, os.getpid()).photo(self.row)
        if not data:
            raise DataError(problem(self.name, "no photo", "the bytes of one", "leave out the row"))
        return data


@dataclass(frozen=True)
class ParquetShard(Shard):
    """The pairs of a Parquet file; `folder` is that of the dataset, below which paths of photos are."""

    window: ClassVar[int] = 4
    folder: str = ""

    def read(self, row: int, key: str) -> tuple[PairRecord, str, PackedPhoto | None]:  # noqa: ARG002  its number tells
        """Return what a pair says, and the file of its photo, or the Parquet file and the row in it."""
        number, table = self.index.places(row)[0], _table(self.path, os.getpid())
        where, cells = f"{self.name}:{number + 1}", table.texts(number)
        record = _record(cells, where)
        if table.bytes_column:
            return record, self.path, ParquetPhoto(self.path, where, self.index.facts.digest, number)
        return record, _photo_path(cells, table.path_column, self.path, self.folder), None


def open_parquet(path: Path, name: str, folder: Path) -> ParquetShard:
    """Return the pairs of a Parquet file; its texts are read once, row group by row group, if there is no index yet.

    Raises:
        DataError: it is damaged or has no column of photos; one line.
        ExtraError: pyarrow is not installed.
    """
    _pyarrow()
    try:
        index = load_index(path)
        if index is None:
            index = save_index(path, _indexed(_table(str(path), os.getpid()), path, name, str(folder)))
    except (DataError, ExtraError):
        raise
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueError
        line = problem(name, f"a damaged Parquet file ({type(error).__name__})", "a whole one", "download it again")
        raise DataError(line) from None
    return ParquetShard(str(path), name, index, str(folder))


def _pyarrow() -> Any:
    """Return the module pyarrow.parquet."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise ExtraError(f"Parquet files need pyarrow, which is not installed; {REMEDY}") from None
    return parquet


@lru_cache(maxsize=64)
def _table(path: str, _process: int) -> "_Table":
    """Return an open file; each process has its own."""
    return _Table(path)


class _Table:
    """An open Parquet file, with the row groups that were asked for last."""

    def __init__(self, path: str) -> None:
        self.file = _pyarrow().ParquetFile(path)
        schema = self.file.schema_arrow
        kinds = {column: str(schema.field(column).type) for column in schema.names}
        self.bytes_column = next((c for c in _BYTES if "binary" in kinds.get(c, "")), "")
        self.path_column = next((c for c in _PATHS if kinds.get(c, "").endswith("string")), "")
        self.text_columns = [c for c in schema.names if "binary" not in kinds[c]]
        self._texts: OrderedDict[int, list[dict[str, object]]] = OrderedDict()
        self._photos: OrderedDict[int, Any] = OrderedDict()

    @cached_property
    def starts(self) -> list[int]:
        """The first row of each row group, and the number of rows."""
        meta = self.file.metadata
        sizes = [meta.row_group(number).num_rows for number in range(meta.num_row_groups)]
        return [0, *np.cumsum(sizes).tolist()]

    def _group(self, row: int) -> int:
        return int(np.searchsorted(self.starts, row, "right")) - 1

    def rows(self, group: int) -> list[dict[str, object]]:
        """Return the columns without photos of a row group."""
        return list(self.file.read_row_group(group, self.text_columns, use_threads=False).to_pylist())

    def texts(self, row: int) -> Mapping[str, object]:
        """Return the columns without photos of a row."""
        group = self._group(row)
        if group not in self._texts:
            self._texts[group] = self.rows(group)
            while len(self._texts) > 16:
                self._texts.popitem(last=False)
        self._texts.move_to_end(group)
        return self._texts[group][row - self.starts[group]]

    def photo(self, row: int) -> bytes:
        """Return the bytes of a photo, b"" for none."""
        group = self._group(row)
        if group not in self._photos:
            self._photos[group] = self.file.read_row_group(group, [self.bytes_column], use_threads=False).column(0)
            while len(self._photos) > 1 and sum(column.nbytes for column in self._photos.values()) > _KEPT:
                self._photos.popitem(last=False)
        self._photos.move_to_end(group)
        return _bytes(self._photos[group][row - self.starts[group]])

    def lacks_photos(self, group: int) -> bool:
        """Return whether some rows of a row group may have no photo, as its statistics say or do not say."""
        meta = self.file.metadata.row_group(group)
        for number in range(meta.num_columns):
            column = meta.column(number)
            if column.path_in_schema in (self.bytes_column, f"{self.bytes_column}.bytes"):
                return column.statistics is None or bool(column.statistics.null_count)
        return True


def _bytes(cell: Any) -> bytes:
    value = cell.as_py()
    found = value.get("bytes") if isinstance(value, dict) else value
    return found if isinstance(found, bytes) else b""


def _record(cells: Mapping[str, object], where: str) -> PairRecord:
    caption = next((text for name in _CAPTIONS if isinstance(text := cells.get(name), str)), None)
    return pair_record(cells, None if cells.get("caption") else caption, where)


def _photo_path(cells: Mapping[str, object], column: str, table: str, folder: str) -> str:
    """Return the path of a photo, below the folder of the table or of the dataset; "" if there is none."""
    written = str(cells.get(column) or "").replace("\\", "/")
    if not written or ".." in written.split("/") or "\0" in written:
        return ""
    places = (os.path.join(base, written.lstrip("/")) for base in (os.path.dirname(table), folder))  # noqa: PTH118, PTH120
    return next((place for place in places if os.path.isfile(place)), "")  # noqa: PTH113  hundreds of thousands


def _indexed(table: _Table, path: Path, name: str, folder: str) -> ShardIndex:
    size, mtime = stamp(path)
    if not table.bytes_column and not table.path_column:
        expected = f"a column of photos: {', '.join(_BYTES[:3])} as bytes, or {', '.join(_PATHS[:3])} as paths"
        raise DataError(problem(name, "no such column", expected, "rename it"))
    issues, skipped, digest = IssueLog(), Counter[str](), hashlib.sha256(str(size).encode())
    rows: list[tuple[int, ...]] = []
    keys, blocks = bytearray(), []
    for group in range(table.file.metadata.num_row_groups):
        before = len(rows)
        for number, record in _records(table, group, (name, folder, str(path)), issues, skipped):
            keys += str(number).encode()
            digest.update(repr((number, record)).encode("utf-8", "replace"))
            rows.append((number, 0, 0, 0, 0, 0, len(keys), group_hash(record.group)))
        blocks.append(len(rows) - before)
    lines = tuple(first_lines(by_kind(issues.lines()), name))
    facts = ShardFacts(size, mtime, digest.hexdigest(), len(rows), blocks, dict(skipped), lines)
    return ShardIndex(facts, np.array(rows, ROW), np.frombuffer(bytes(keys), np.uint8))


def _records(
    table: _Table, group: int, place: Sequence[str], issues: IssueLog, skipped: Counter[str]
) -> Iterator[tuple[int, PairRecord]]:
    """Yield the rows of a row group that make pairs; list and count the others."""
    name, folder, path = place
    checks = bool(table.bytes_column) and table.lacks_photos(group)
    for number, cells in enumerate(table.rows(group), table.starts[group]):
        where = printable(f"{name}:{number + 1}")
        try:
            record = _record(cells, where)
        except DataError as error:
            issues.add_loss(error.problems[0])
            skipped["with damaged texts"] += 1
            continue
        if table.bytes_column:
            has_photo = not checks or bool(table.photo(number))
        else:
            has_photo = bool(_photo_path(cells, table.path_column, path, folder))
        if has_photo and record.is_pair:
            yield number, record
        else:
            skipped["without any text" if has_photo else "without a photo"] += 1

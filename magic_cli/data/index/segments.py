"""Rows of a folder's index that were added together: vectors mapped from a .npy file, cases from JSON lines."""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.index.base import IndexedCase, IndexInfo, largest_score
from magic_cli.data.index.where import And, Equals, In, Missing, Not, Or, Range, Where, number_of
from magic_cli.errors import DataError, problem
from magic_cli.io.files import write_atomic
from magic_cli.io.json_files import write_jsonl

_REMEDY = "restore the folder from a copy, or build the index again"

_LINES = 4096  # lines that are parsed at once

_IN_CACHE, _MULTIPLIED = 128, 4096  # float16 rows that are widened, and multiplied, at once


class Segment:
    """Rows that were written together; they never change.

    Args:
        folder: that of the index.
        name: of its files, without their endings.
        rows: how many there must be.
        info: that of the index.
        dead: numbers of the rows that were deleted or replaced since.

    Raises:
        FileNotFoundError: it is no longer there: another process compacted the index.
        DataError: the files are damaged.
    """

    def __init__(self, folder: Path, name: str, rows: int, info: IndexInfo, dead: NDArray[np.int64]) -> None:
        self.name = name
        self.rows = rows
        self._file, self._info = folder / f"{name}.npy", info
        self.vectors = _mapped(self._file, (rows, info.width), np.dtype(info.dtype))
        self.cases = _cases(folder / f"{name}.jsonl", rows)
        self.alive = np.ones(rows, bool)
        self.alive[dead] = False
        self._texts: dict[str, NDArray[np.object_]] = {}
        self._numbers: dict[str, NDArray[np.float64]] = {}

    def with_dead(self, dead: NDArray[np.int64]) -> None:
        """Mark rows as deleted, all others as not."""
        alive = np.ones(self.rows, bool)
        alive[dead] = False
        self.alive = alive

    def texts(self, field: str) -> NDArray[np.object_]:
        """Return a field of every row, "" where it is missing; object (rows,)."""
        if field not in self._texts:
            self._texts[field] = np.array([case.fields.get(field, "") for case in self.cases], object)
        return self._texts[field]

    def numbers(self, field: str) -> NDArray[np.float64]:
        """Return a field of every row as a number, NaN where it is none; float64 (rows,)."""
        if field not in self._numbers:
            values = (number_of(text) for text in self.texts(field))
            self._numbers[field] = np.array([np.nan if value is None else value for value in values], np.float64)
        return self._numbers[field]

    def mask(self, where: Where) -> NDArray[np.bool_]:
        """Return which rows fulfil a condition, deleted ones included; bool (rows,). Equal to `where.matches`."""
        match where:
            case And(parts):
                return reduce(np.logical_and, map(self.mask, parts))
            case Or(parts):
                return reduce(np.logical_or, map(self.mask, parts))
            case Not(part):
                return ~self.mask(part)
            case Missing(field):
                return np.asarray(self.texts(field) == "", bool)
            case Equals(field, value):
                return np.asarray((self.texts(field) == value) & (value != ""), bool)
            case In(field, values):
                wanted = {value for value in values if value}
                return np.fromiter((text in wanted for text in self.texts(field)), bool, self.rows)
            case Range(field, low, high, above, below):
                numbers = self.numbers(field)  # comparisons with NaN are false
                return (numbers > low if above else numbers >= low) & (numbers < high if below else numbers <= high)

    def scores(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return inner products in float32, (queries, rows); float32 vectors are multiplied where they are mapped.

        Raises:
            DataError: one is above what unit vectors can have, or NaN: the file was damaged.
        """
        scores = np.empty((len(queries), self.rows), np.float32)
        for start, block in self._blocks():
            step = len(block)
            # a vector for one query, and this order for several, are the fast ways of BLAS
            scores[:, start : start + step] = block @ queries[0] if len(queries) == 1 else (block @ queries.T).T
        most = largest_score(queries, self._info)
        if scores.size and not (scores.max() <= most and scores.min() >= -most):  # NaN is in neither range
            raise DataError(problem(self._file, "values that are no unit vectors", "those that were added", _REMEDY))
        return scores

    def _blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield float32 vectors with the number of their first row: all as mapped, float16 ones some thousands at once.

        They are widened in blocks that fit the processor's cache, into a larger one, as each product of BLAS waits for
        all of its threads. A block is overwritten by the next.
        """
        if self.vectors.dtype == np.float32:
            yield 0, widened(self.vectors)
            return
        wide = np.empty((min(self.rows, _MULTIPLIED), self.vectors.shape[1]), np.float32)
        for start in range(0, self.rows, len(wide)):
            block = self.vectors[start : start + len(wide)]
            for row in range(0, len(block), _IN_CACHE):
                wide[row : row + len(block[row : row + _IN_CACHE])] = widened(block[row : row + _IN_CACHE])
            yield start, wide[: len(block)]


def widened(vectors: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return finite float16 values as float32, exactly; float32 ones as they are.

    The bits of exponent and fraction are moved to their places and the exponent is corrected by a multiplication, which
    takes a third of the time of numpy's conversion.
    """
    if vectors.dtype == np.float32:
        return vectors.view(np.float32)
    bits = vectors.view(np.int16).astype(np.int32)  # keeps the sign in the highest bits
    bits <<= 13
    bits &= np.int32(~0x70000000)  # copies of the sign, where the longer exponent is 0
    wide = bits.view(np.float32)
    wide *= np.float32(2.0**112)
    return wide


def write_segment(
    folder: Path, name: str, cases: Sequence[IndexedCase], info: IndexInfo, blocks: Iterable[NDArray[np.generic]]
) -> None:
    """Write the files of a segment; vectors come in blocks (rows, width), so that not all must be in memory.

    Raises:
        DataError: the disk is full.
    """
    dtype = np.dtype(info.dtype)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (len(cases), info.width)}

    def write(file: IO[bytes]) -> None:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype).data)

    write_atomic(folder / f"{name}.npy", write)
    write_jsonl(folder / f"{name}.jsonl", map(_row, cases))


def read_dead(path: Path, sizes: Sequence[int]) -> NDArray[np.int64]:
    """Return the deleted rows that a file lists, of segments of these sizes: number of the segment, and row.

    Returns:
        int64 (rows, 2).

    Raises:
        FileNotFoundError: it is no longer there.
        DataError: it is damaged.
    """
    try:
        dead = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise DataError(problem(path, f"no rows ({error})", "those that were deleted", _REMEDY)) from None
    if dead.ndim != 2 or dead.shape[1] != 2 or dead.dtype != np.int64:
        raise DataError(problem(path, f"{dead.dtype} of shape {dead.shape}", "int64 of shape (rows, 2)", _REMEDY))
    rows: NDArray[np.int64] = dead
    segments = np.array(sizes, np.int64)
    known = rows[(rows[:, 0] >= 0) & (rows[:, 0] < len(segments))]
    if len(known) < len(rows) or (known[:, 1] < 0).any() or (known[:, 1] >= segments[known[:, 0]]).any():
        raise DataError(problem(path, "rows that no segment has", "those that were deleted", _REMEDY))
    return rows


def _row(case: IndexedCase) -> dict[str, object]:
    return {"id": case.id, "content": case.content, "thumb": case.thumb, "fields": dict(case.fields)}


def _mapped(path: Path, shape: tuple[int, int], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise DataError(problem(path, f"no vectors ({error})", f"{shape[0]} of {shape[1]} values", _REMEDY)) from None
    if vectors.shape != shape or vectors.dtype != dtype:
        got = f"{vectors.dtype} of shape {vectors.shape}"
        raise DataError(problem(path, got, f"{dtype} of shape {shape}", _REMEDY))
    plain: NDArray[np.generic] = np.asarray(vectors)  # a slice of a memmap takes longer to make than one of an array
    return plain


def _cases(path: Path, rows: int) -> list[IndexedCase]:
    """Read the cases of a segment; equal values share one text."""
    shared: dict[str, str] = {}
    cases: list[IndexedCase] = []
    try:
        for row in _rows(path):
            fields = {name: shared.setdefault(text, text) for name, text in row["fields"].items()}
            texts = (row["id"], row["content"], row["thumb"])
            if not {type(text) for text in (*texts, *fields.values())} <= {str}:
                raise TypeError
            cases.append(IndexedCase(texts[0], fields, texts[1], texts[2]))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        got = f"something else than a case after about {len(cases)} of them"
        raise DataError(problem(path, got, f"{rows} cases", _REMEDY)) from None
    if len(cases) != rows:
        raise DataError(problem(path, f"{len(cases)} cases", str(rows), _REMEDY))
    return cases


def _rows(path: Path) -> Iterator[Any]:
    """Yield the value of each line; thousands are parsed at once, which takes a third of the time."""
    with path.open("rb") as file:
        while lines := list(islice(file, _LINES)):
            yield from json.loads(b"[" + b",".join(lines) + b"]")

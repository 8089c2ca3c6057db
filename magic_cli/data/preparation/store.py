"""Cases and photos between reading and writing, in a temporary database, so that memory does not grow with them."""

import json
import pickle
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.imaging.fingerprint import NO_FINGERPRINT, THUMB
from magic_cli.data.names import key_of
from magic_cli.data.preparation.photos import PhotoFacts
from magic_cli.data.prepared import case_of_row, case_row
from magic_cli.data.sources.source import LABEL_PATH
from magic_cli.errors import DataError, problem
from magic_cli.io.json_files import json_text
from magic_cli.records import Case

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE names (key BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID;
CREATE TABLE cases (number INTEGER PRIMARY KEY, id TEXT, split TEXT, group_id TEXT, label TEXT, row TEXT);
CREATE TABLE photos (number INTEGER PRIMARY KEY, owner INTEGER, name TEXT, sha256 TEXT, hash INTEGER, thumbnail BLOB,
                     facts BLOB, is_plain INTEGER);
CREATE INDEX not_plain ON photos (number) WHERE NOT is_plain;
"""

_TOGETHER = 256  # cases that are written at a time

_ALL_PHOTOS = """SELECT owner, id, facts, photos.number FROM photos JOIN cases ON cases.number = owner
ORDER BY photos.number"""

_NOT_PLAIN = _ALL_PHOTOS.replace("ORDER", "WHERE NOT is_plain ORDER")


class Stored(NamedTuple):
    """A photo: the number of its case in the store, the case's id, the facts about it, and its own number."""

    owner: int
    case_id: str
    facts: PhotoFacts
    number: int


class CaseStore:
    """Cases and photos, numbered from 0 in the order in which they come.

    The database has no name: SQLite puts what exceeds its cache into a file that the system removes, whatever happens.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("")
        self._database.executescript(_TABLES)
        self.cases = self.photos = 0
        self._new_cases: list[tuple[object, ...]] = []
        self._new_photos: list[tuple[object, ...]] = []
        self.classes: set[str] = set()  # labels and paths of labels, as the source words them

    def __enter__(self) -> "CaseStore":
        """Return the store itself; it is gone after the block."""
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Forget everything.

        Raises:
            DataError: the database could not grow.
        """
        self._database.close()
        if isinstance(error, sqlite3.OperationalError):
            remedy = "free space, or set TMPDIR to a folder that has it"
            raise DataError(problem("temporary files", str(error), "room for all cases", remedy)) from None

    def claim(self, name: str, kind: str) -> bool:
        """Return whether a name is the first of its kind as names are compared (`key_of`), and remember it."""
        row = (_key(name, kind),)
        return self._database.execute("INSERT OR IGNORE INTO names VALUES (?, 1)", row).rowcount == 1

    def free_name(self, name: str, kind: str) -> str:
        """Return a name, with a number behind it if it is not the first of its kind, and remember it."""
        free = name
        while not self.claim(free, kind):
            row = (_key(name, kind),)
            self._database.execute("UPDATE names SET number = number + 1 WHERE key = ?", row)
            ((number,),) = self._database.execute("SELECT number FROM names WHERE key = ?", row)
            free = f"{name}-{number}"
        return free

    def add_case(self, case: Case) -> int:
        """Add a case and return its number."""
        row = (self.cases, case.case_id, case.split, case.group_id, case.label, json_text(case_row(case)))
        self._new_cases.append(row)
        self.cases += 1
        if len(self._new_cases) >= _TOGETHER:
            self.flush()
        self.classes.update(filter(None, (case.label, case.attributes.get(LABEL_PATH))))
        return self.cases - 1

    def add_photo(self, owner: int, facts: PhotoFacts) -> int:
        """Add a photo of a case and return its number."""
        hashed, thumbnail = facts.fingerprint.hash, facts.fingerprint.thumbnail
        signed = None if hashed is None else hashed - (1 << 63)  # SQLite's integers have a sign
        kept = pickle.dumps(replace(facts, fingerprint=NO_FINGERPRINT))
        row = (self.photos, owner, facts.image_id, facts.sha256, signed, thumbnail, kept, facts.is_plain)
        self._new_photos.append(row)
        self.photos += 1
        return self.photos - 1

    def flush(self) -> None:
        """Write what was added: many rows at a time, as each time another thread may take the interpreter."""
        self._database.executemany("INSERT INTO cases VALUES (?, ?, ?, ?, ?, ?)", self._new_cases)
        self._database.executemany("INSERT INTO photos VALUES (?, ?, ?, ?, ?, ?, ?, ?)", self._new_photos)
        self._new_cases.clear()
        self._new_photos.clear()

    def _rows(self, query: str, values: tuple[str | int, ...] = ()) -> sqlite3.Cursor:
        self.flush()
        return self._database.execute(query, values)

    def each_case(self) -> Iterator[Case]:
        """Yield the cases in order."""
        for (row,) in self._rows("SELECT row FROM cases ORDER BY number"):
            yield case_of_row(json.loads(row))

    def each_photo(self, plain: bool = True) -> Iterator[Stored]:
        """Yield the photos in order, all of them or only those that are not `PhotoFacts.is_plain`."""
        for owner, case_id, facts, number in self._rows(_ALL_PHOTOS if plain else _NOT_PLAIN):
            yield Stored(owner, case_id, pickle.loads(facts), number)  # noqa: S301  written by this process

    def photo_lines(self) -> Iterator[str]:
        """Yield "NAME SHA256" of all photos, sorted."""
        query = "SELECT name || ' ' || sha256 AS line FROM photos ORDER BY line"
        yield from (line for (line,) in self._rows(query))

    def column(self, name: str) -> list[str | None]:
        """Return a column of all cases in order: "split", "group_id" or "label"; equal values are one object."""
        if name not in ("split", "group_id", "label"):
            raise ValueError(f"{name}: no such column")
        shared: dict[str | None, str | None] = {}
        rows = self._rows(f"SELECT {name} FROM cases ORDER BY number")  # noqa: S608  one of three words
        return [shared.setdefault(value, value) for (value,) in rows]

    def ids(self) -> Iterator[str]:
        """Yield the ids of all cases in order."""
        yield from (case_id for (case_id,) in self._rows("SELECT id FROM cases ORDER BY number"))

    def attribute(self, name: str) -> list[str | None]:
        """Return the value of an attribute of all cases in order, None where a case lacks it."""
        one = "(SELECT value FROM json_each(row, '$.attributes') WHERE key = ?)"
        shared: dict[str | None, str | None] = {}
        rows = self._rows(f"SELECT {one} FROM cases ORDER BY number", (name,))  # noqa: S608  no text of others
        return [shared.setdefault(value, value) for (value,) in rows]

    def attribute_names(self) -> list[str]:
        """Return the names of all attributes that a case has, sorted."""
        query = "SELECT DISTINCT key FROM cases, json_each(row, '$.attributes') ORDER BY key"
        return [name for (name,) in self._rows(query)]

    def owners(self) -> NDArray[np.int64]:
        """Return the number of the case of each photo, (photos,)."""
        rows = self._rows("SELECT owner FROM photos ORDER BY number")
        return np.fromiter((owner for (owner,) in rows), np.int64, self.photos)

    def photo_name(self, number: int) -> str:
        """Return the id of a photo."""
        return str(self._rows("SELECT name FROM photos WHERE number = ?", (number,)).fetchone()[0])

    def case_name(self, number: int) -> str:
        """Return the id of a case."""
        return str(self._rows("SELECT id FROM cases WHERE number = ?", (number,)).fetchone()[0])

    def hashes(self) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Return the perceptual hash of each photo and whether it has one, both (photos,)."""
        rows = [hashed for (hashed,) in self._rows("SELECT hash FROM photos ORDER BY number")]
        values = np.fromiter(((hashed or 0) + (1 << 63) for hashed in rows), np.uint64, self.photos)
        return values, np.fromiter((hashed is not None for hashed in rows), np.bool_, self.photos)

    def thumbnails(self) -> NDArray[np.uint8]:
        """Return the grey thumbnail of each photo, (photos, 256), in a temporary file that is mapped into memory."""
        shape = (self.photos, THUMB * THUMB)
        with tempfile.TemporaryFile() as file:
            for (thumbnail,) in self._rows("SELECT thumbnail FROM photos ORDER BY number"):
                file.write(thumbnail)
            file.flush()
            return np.memmap(file, np.uint8, "r", shape=shape) if self.photos else np.zeros(shape, np.uint8)

    def digests(self) -> NDArray[np.uint8]:
        """Return the SHA-256 of each photo, (photos, 32)."""
        rows = self._rows("SELECT sha256 FROM photos ORDER BY number")
        data = b"".join(bytes.fromhex(sha256) for (sha256,) in rows)
        return np.frombuffer(data, np.uint8).reshape(self.photos, 32)


def _key(name: str, kind: str) -> bytes:
    return f"{kind}:{key_of(name)}".encode(errors="surrogatepass")  # which JSON can hold

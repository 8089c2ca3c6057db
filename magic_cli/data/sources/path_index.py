"""Paths of photos by name, in a temporary database: a dataset may have hundreds of thousands, under any names."""

import os
import sqlite3
from collections.abc import Iterable

from magic_cli.data.names import key_of

_TABLE = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE paths (key BLOB, path BLOB);
"""


class PathIndex:
    """Paths by the name of their file without suffix, as names are compared (`key_of`)."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._database = sqlite3.connect("", check_same_thread=False)
        self._database.executescript(_TABLE)
        rows = ((_key(os.path.splitext(os.path.basename(path))[0]), os.fsencode(path)) for path in paths)  # noqa: PTH119, PTH122
        self._database.executemany("INSERT INTO paths VALUES (?, ?)", rows)
        self._database.execute("CREATE INDEX by_key ON paths (key)")

    def named(self, stem: str) -> tuple[str, ...]:
        """Return the paths whose name is `stem`, in the order in which they came."""
        query = "SELECT path FROM paths WHERE key = ? ORDER BY rowid"
        return tuple(os.fsdecode(path) for (path,) in self._database.execute(query, (_key(stem),)))


def _key(stem: str) -> bytes:
    return key_of(stem).encode(errors="surrogatepass")  # names that are not UTF-8

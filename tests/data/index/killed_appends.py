"""Additions to a folder's index in forks that SIGKILL ends at points spread over all their dealings with the disk.

`python killed_appends.py FOLDER TIMES` prints how many times it was killed, and after how many the addition was there.
A process of its own, as forks need one that has started no thread.
"""

import io
import mmap
import os
import signal
import sys
from pathlib import Path

import numpy as np
from moments import Points

from magic_cli.data.index import create_index, open_index
from magic_cli.data.index.base import IndexedCase, IndexInfo, Part

ROWS = 1000


def batch(number: int) -> tuple[list[IndexedCase], np.ndarray]:
    """Return cases of which half replace those of the batch before."""
    vectors = np.random.default_rng(number).normal(size=(ROWS, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    first = number * ROWS // 2
    return [IndexedCase(f"{first + row}", {"age": "40"}, f"batch {number}") for row in range(ROWS)], vectors


def add_in_fork(folder: Path, number: int, kill: dict[str, object]) -> tuple[bool, int]:
    """Add a batch in a fork; return whether it was killed, and how many points it passed."""
    count = mmap.mmap(-1, 8)
    child = os.fork()
    if child == 0:
        try:
            points = Points(count, kill)
            for name in ("fsync", "replace", "unlink"):
                setattr(os, name, points.around(getattr(os, name)))
            watched = points.open(io.open)
            # as pathlib calls it, with all that it takes
            io.open = lambda file, mode="r", buffering=-1, encoding=None, errors=None, newline=None: watched(  # type: ignore
                file, mode, buffering=buffering, encoding=encoding, errors=errors, newline=newline
            )
            open_index(folder).add(*batch(number))
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code != 0, int.from_bytes(count[:8], "little")


def main(folder: Path, times: int) -> None:
    create_index(folder, IndexInfo("ab" * 32, (Part("image", 8),), fields=("age",))).add(*batch(0))
    points = add_in_fork(folder, 1, {})[1]
    kills, added, number = 0, 0, 2
    for at in np.linspace(1, points + 4, times).astype(int).tolist():  # an addition removes what the one before left
        before = dict(open_index(folder).contents())
        is_killed = add_in_fork(folder, number, {"signal": "SIGKILL", "at": [at]})[0]
        index = open_index(folder)
        after = before | {case.id: case.content for case in batch(number)[0]}
        assert index.contents() in (before, after), f"half an addition after a kill at point {at}"
        is_added = index.contents() == after
        cases, vectors = batch(number if is_added else number - 1)
        assert index.search(vectors[:1], 1)[0][0].id == cases[0].id
        kills, added, number = kills + is_killed, added + (is_killed and is_added), number + is_added
    index.add(*batch(number))  # what is left of the killed ones is in nobody's way
    index.compact()
    listed = [path.name for path in folder.iterdir()]
    assert len(listed) == 3, listed
    print(kills, added)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

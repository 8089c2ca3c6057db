"""How long a search takes in an index of made vectors: 1 and 64 queries, with a condition, and an addition.

    python tests/benchmarks/index.py [--rows 100000] [--width 2688] [--kinds folder lance] [--dtype T] [--times N]

Vectors have six parts of norm 1, as those of the retrieval model. The index is built in batches of 5,000, searched for
the nearest 20, and compared with a product of all vectors. Printed: the load of the machine, seconds to build and to
open, medians of searches of other queries each (`--times`), of additions of 1,000, and the highest memory.
"""

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from magic_cli.data.index import create_index, open_index
from magic_cli.data.index.base import IndexedCase, IndexInfo, Part
from magic_cli.data.index.where import parse_where

BATCH, NEAREST = 5000, 20
FIELDS = ("diagnosis", "age", "site")
CLASSES, SITES = ("nevus", "melanoma", "seborrheic keratosis"), ("back", "chest", "arm", "leg", "face")


def vectors(rng: np.random.Generator, rows: int, parts: tuple[Part, ...]) -> np.ndarray:
    """Return vectors whose parts have norm 1."""
    made = rng.standard_normal((rows, sum(part.width for part in parts)), np.float32)
    start = 0
    for part in parts:
        stretch = made[:, start : start + part.width]
        stretch /= np.linalg.norm(stretch, axis=1, keepdims=True)
        start += part.width
    return made


def cases(first: int, rows: int) -> list[IndexedCase]:
    """Return cases with three fields, of which the age may be missing."""
    return [
        IndexedCase(
            f"case{row:07d}",
            {"diagnosis": CLASSES[row % 3], "site": SITES[row % 5]} | ({"age": str(row % 90)} if row % 7 else {}),
            f"{row:064x}",
        )
        for row in range(first, first + rows)
    ]


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(kind: str, options: argparse.Namespace, work: Path) -> None:
    rng, times = np.random.default_rng(0), options.times
    width = options.width // 6
    parts = tuple(Part(f"{reach}_{level}", width, reach) for level in "lmh" for reach in ("global", "local"))
    info = IndexInfo("ab" * 32, parts, fields=FIELDS, dtype=options.dtype)
    where: str | Path = f"lance:{work / 'lance'}" if kind == "lance" else work / kind
    index = create_index(where, info)
    building = 0.0
    best: list[tuple[float, str]] = []
    asked = vectors(rng, 64 * times, parts)
    for first in range(0, options.rows, BATCH):
        made, rows = (
            vectors(rng, min(BATCH, options.rows - first), parts),
            cases(first, min(BATCH, options.rows - first)),
        )
        building += timed(lambda made=made, rows=rows: index.add(rows, made))  # type: ignore[misc]
        scores = made.astype(options.dtype).astype(np.float32) @ asked[0]
        best = sorted([*best, *zip((-scores).tolist(), (case.id for case in rows), strict=True)])[:NEAREST]
    print(f"{kind}, {options.rows} x {info.width} {options.dtype}: built in {building:.1f} s", flush=True)
    index.close()
    opening = timed(lambda: len(open_index(where)))
    index = open_index(where)
    index.search(asked[:1], NEAREST)  # the first one reads the file
    condition = parse_where("diagnosis = 'melanoma' and age >= 40 and not site in ('face')")
    loads = [os.getloadavg()[0]]
    one = [timed(lambda i=i: index.search(asked[i : i + 1], NEAREST)) for i in range(times)]  # type: ignore[misc]
    index.search(asked[:1], NEAREST, condition)
    filtered = [timed(lambda i=i: index.search(asked[i : i + 1], NEAREST, condition)) for i in range(times)]  # type: ignore[misc]
    many = [timed(lambda i=i: index.search(asked[64 * i : 64 * i + 64], NEAREST)) for i in range(times)]  # type: ignore[misc]
    hits = [hit.id for hit in index.search(asked[:1], NEAREST)[0]]
    agrees = hits == [name for _, name in best]
    more = [(cases(options.rows + 1000 * i, 1000), vectors(rng, 1000, parts)) for i in range(times)]
    added = [timed(lambda batch=batch: index.add(*batch)) for batch in more]  # type: ignore[misc]
    loads.append(os.getloadavg()[0])
    print(f"  as numpy: {'yes' if agrees else 'NO'}; open {opening:.2f} s; load {loads[0]:.1f} to {loads[1]:.1f}")
    print(
        f"  median s: 1 query {median(one):.3f}, with a condition {median(filtered):.3f}, 64 queries {median(many):.3f}"
    )
    print(f"  median s of adding 1,000: {median(added):.3f}")
    print(f"  fastest s: 1 query {min(one):.3f}, with a condition {min(filtered):.3f}, 64 queries {min(many):.3f}")
    print(f"  highest memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB, mapped files included")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=2688)
    parser.add_argument("--kinds", nargs="+", default=["folder"], choices=["folder", "lance"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16"])
    parser.add_argument("--times", type=int, default=5, help="how often each is measured")
    parser.add_argument("--work", type=Path, help="a folder on the disk to measure; default: a temporary one")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="magic-index-", dir=options.work))
    try:
        for kind in options.kinds:
            measure(kind, options, work)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()

"""How long a search takes in an index of made vectors: 1 and 64 queries, with a condition, and an addition.

    python tests/benchmarks/index.py [--rows 100000] [--width 2688] [--kinds folder lance] [--dtype T] [--times N]

Vectors have six parts of norm 1, as those of the retrieval model. The index is built in batches of 5,000, searched for
the nearest 20, and compared with a product of all vectors. Printed: seconds to build and to open, of searches of other
queries each (`--times`), and of additions of 1,000, each with the load of the machine; and the highest memory.
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


def timed(call: Callable[[int], object], times: int) -> str:
    """Call with 0, 1, …; return the median of the seconds, the fastest, and the median of the processor's seconds."""
    wall, cpu = [], []
    for number in range(times):
        start = time.perf_counter(), time.process_time()
        call(number)
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    load = os.getloadavg()[0]
    return f"median {median(wall):.3f} s, fastest {min(wall):.3f} s, CPU {median(cpu):.3f} s; load {load:.1f}"


def measure(kind: str, options: argparse.Namespace, work: Path) -> None:
    rng, times = np.random.default_rng(0), options.times
    width = options.width // 6
    parts = tuple(Part(f"{reach}_{level}", width, reach) for level in "lmh" for reach in ("global", "local"))
    info = IndexInfo("ab" * 32, parts, fields=FIELDS, dtype=options.dtype)
    where: str | Path = f"lance:{work / 'lance'}" if kind == "lance" else work / kind
    index = create_index(where, info)
    best: list[tuple[float, str]] = []
    asked = vectors(rng, 64 * times, parts)
    start = time.perf_counter()
    for first in range(0, options.rows, BATCH):
        rows = min(BATCH, options.rows - first)
        made, batch = vectors(rng, rows, parts), cases(first, rows)
        index.add(batch, made)
        scores = made.astype(options.dtype).astype(np.float32) @ asked[0]
        best = sorted([*best, *zip((-scores).tolist(), (case.id for case in batch), strict=True)])[:NEAREST]
    print(
        f"{kind}, {options.rows} x {info.width} {options.dtype}: made and added in {time.perf_counter() - start:.0f} s"
    )
    index.close()
    condition = parse_where("diagnosis = 'melanoma' and age >= 40 and not site in ('face')")
    print("  open:           ", timed(lambda _: len(open_index(where)), 1), flush=True)
    index = open_index(where)
    agrees = [hit.id for hit in index.search(asked[:1], NEAREST, None)[0]] == [name for _, name in best]
    print("  as numpy:       ", "yes" if agrees else "NO", flush=True)
    print("  1 query:        ", timed(lambda i: index.search(asked[i : i + 1], NEAREST), times), flush=True)
    index.search(asked[:1], NEAREST, condition)
    print("  with condition: ", timed(lambda i: index.search(asked[i : i + 1], NEAREST, condition), times), flush=True)
    print("  64 queries:     ", timed(lambda i: index.search(asked[64 * i : 64 * i + 64], NEAREST), times), flush=True)
    more = [(cases(options.rows + 1000 * i, 1000), vectors(rng, 1000, parts)) for i in range(times)]
    print("  addition of 1000:", timed(lambda i: index.add(*more[i]), times), flush=True)
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

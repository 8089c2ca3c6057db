"""The order of a training on up to 100 million pairs and 64 processes, walked through with nothing but numbers.

    OMP_NUM_THREADS=1 python tests/benchmarks/stream_simulation.py [--pairs N ...] [--processes N ...] [--batch 16384]

No photo is read: what is walked through is what decides what each process reads (`Views`, `WholeBatches`, state.pt).
A row is an epoch of so many pairs in shards of 10,000, begun on so many processes; at each of `--stops` random steps
the run is stopped, its state.pt is written and read, and it goes on with the next number of `--processes`. Each row is
walked through once in an order over all pairs, and once, the numbers of processes backwards, in one that mixes
`--window` shards at a time. Every step of every process is compared with that of one process that was never stopped:
process r of W has to get pairs r, r + W, r + 2W, ... of its batch. What was seen is counted in a bitmap, one bit a
pair.

    equal      steps whose processes together got exactly the batch of one process
    seen       pairs that were seen in the epoch; twice: more than once; left: less than a batch, other ones each epoch
    resume     from reading state.pt to the first batch of the process that took longest, seconds
    state      bytes of state.pt without weights and moments, which do not depend on pairs and processes
    step       CPU time of a process to compute its part of a batch, mean, milliseconds
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from magic_cli.data.lazy_samples import LazySamples
from magic_cli.records import Sample
from magic_cli.training import resume
from magic_cli.training.loader import Share, Views, WholeBatches
from magic_cli.training.resume import TrainProgress

PER_SHARD = 10_000

OWNER = {"task": "pretrain", "config": {}, "data": "made"}


class NoPhotos(LazySamples):
    """So many pairs in shards of `PER_SHARD`, none of which can be read."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def sample(self, index: int) -> Sample:
        """Refuse."""
        raise AssertionError(f"pair {index} was read")

    @property
    def blocks(self) -> Sequence[int]:
        """The pairs of each shard."""
        whole, rest = divmod(self.count, PER_SHARD)
        return [*[PER_SHARD] * whole, *([rest] if rest else [])]


@dataclass(frozen=True)
class Epoch:
    """An epoch of a run: pairs, pairs a batch, shards that are mixed at a time (0 for all), seed, number."""

    pairs: int
    batch: int
    window: int = 0
    seed: int = 0
    number: int = 0

    def batches(self, rank: int, processes: int, start: int) -> WholeBatches:
        """Return what process `rank` of `processes` goes through from a step on, as a training makes it."""
        samples = NoPhotos(self.pairs)
        views = Views(samples, self.seed, shares=[Share(self.pairs, 1.0, samples.blocks)])
        views.epoch = self.number
        found = WholeBatches(views, self.batch, 1, rank, processes, self.window)
        found.start = start
        return found

    @property
    def steps(self) -> int:
        """The steps of the epoch."""
        return self.batches(0, 1, 0).total


@dataclass
class Walk:
    """What an epoch gave: see the docstring of the module."""

    equal: int = 0
    steps: int = 0
    seen: int = 0
    twice: int = 0
    left: int = 0
    resume: float = 0.0
    state: int = 0
    seconds: float = 0.0  # of all processes together
    parts: int = 0  # batches of single processes


def walk(epoch: Epoch, parts: Sequence[tuple[int, int]], folder: Path) -> Walk:
    """Go through an epoch.

    Args:
        epoch: which.
        parts: (processes, step): until which step so many processes take part; the last one is the end.
        folder: for state.pt.
    """
    found, bitmap = Walk(steps=epoch.steps), np.zeros(-(-epoch.pairs // 8), np.uint8)
    alone = iter(epoch.batches(0, 1, 0))
    start = given = 0
    for number, (processes, end) in enumerate(parts):
        sources = [iter(epoch.batches(rank, processes, start)) for rank in range(processes)]
        if number:
            start, sources = _resumed(found, epoch, processes, folder)
        for _ in range(start, end):
            began = time.process_time()
            shares = [next(source, []) for source in sources]
            found.seconds += time.process_time() - began
            found.parts += processes
            whole = next(alone)
            found.equal += all(share == whole[rank::processes] for rank, share in enumerate(shares))
            indices = np.array([index for share in shares for index in share], np.int64)
            given += len(indices)
            np.bitwise_or.at(bitmap, indices >> 3, np.left_shift(1, indices & 7).astype(np.uint8))
        start = end
        resume.save(folder / "state.pt", OWNER, TrainProgress(epoch=epoch.number, step=start, updates=start), {})
    found.state = (folder / "state.pt").stat().st_size
    found.seen = int(np.bitwise_count(bitmap).sum())
    found.twice, found.left = given - found.seen, epoch.pairs - found.seen
    return found


def _resumed(found: Walk, epoch: Epoch, processes: int, folder: Path) -> tuple[int, list[Iterator[list[int]]]]:
    """Return the step of a state.pt, and what each process goes through from there; note how long that takes."""
    sources = []
    for rank in range(processes):
        began = time.perf_counter()
        progress, _ = resume.load(folder / "state.pt", OWNER["data"])
        source = iter(epoch.batches(rank, processes, progress.step))
        first = next(source)
        found.resume = max(found.resume, time.perf_counter() - began)
        sources.append(itertools.chain([first], source))
    return progress.step, sources


def drawn_parts(steps: int, numbers: Sequence[int], stops: int, seed: int) -> list[tuple[int, int]]:
    """Return the parts of an epoch of so many steps for `walk`: numbers of processes in turn, from step to step."""
    drawn = np.random.default_rng(seed).choice(np.arange(1, steps), min(stops, steps - 1), replace=False)
    ends = [*sorted(drawn.tolist()), steps]
    return list(zip(itertools.cycle(numbers), ends, strict=False))


def row(epoch: Epoch, parts: Sequence[tuple[int, int]], found: Walk) -> str:
    """Return a row of the table."""
    on = ", ".join(str(processes) for processes, _ in parts)
    order = f"{epoch.window} shards" if epoch.window else "all"
    counts = f"{found.equal:,} of {found.steps:,} | {found.seen:,} | {found.twice} | {found.left:,}"
    each = 1000 * found.seconds / found.parts
    return f"| {epoch.pairs:,} | {order} | {on} | {counts} | {found.resume:.3f} | {found.state:,} | {each:.2f} |"


def main() -> None:
    """Walk, print, and fail if a row is not exact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[400_000, 10_000_000, 100_000_000])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--batch", type=int, default=16_384)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--stops", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| pairs | mixed | processes | equal | seen | twice | left | resume | state | step |")
    print(f"|{'---|' * 10}")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for pairs, window, place in itertools.product(
            options.pairs, (0, options.window), range(len(options.processes))
        ):
            epoch = Epoch(pairs, options.batch, window, options.seed)
            numbers = options.processes[place:] + options.processes[:place]
            numbers = [numbers[0], *reversed(numbers[1:])] if window else numbers
            parts = drawn_parts(epoch.steps, numbers, options.stops, options.seed + place)
            found = walk(epoch, parts, Path(folder))
            print(row(epoch, parts, found), flush=True)
            wrong += found.equal != found.steps or found.twice != 0 or found.left >= options.batch
    raise SystemExit(f"{wrong} rows are not exact" if wrong else 0)


if __name__ == "__main__":
    main()

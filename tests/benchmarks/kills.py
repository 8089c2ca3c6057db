"""Kill commands at as many seeded moments as one has time for: `python tests/benchmarks/kills.py --kills 600 --seed 7`.

The trials are those of tests/faults/test_matrix.py, with other seeds: kills, limits on the size of files, two commands
at once, clocks that step back. Prints for each command how many trials of each kind were broken off, or refused beside
another process; the other kills came after the command's end.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / folder) for folder in ("faults", "builders")]

from forks import Ended  # noqa: E402
from trials import CASES, SIGNALS, Case, World  # noqa: E402

KINDS = (*SIGNALS, "full", "twice", "clock")

_SELDOM = 8  # rounds between trials of the demo, which runs ten commands, and of what is not drawn by lot


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="trials of different seeds differ")
    options = parser.parse_args()
    tried, broken, lost, start = Counter[str](), Counter[str](), Counter[str](), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        number = options.seed * 1_000_000
        while sum(tried.values()) < options.kills:
            for case in CASES[: None if number % _SELDOM == 0 else -1]:
                for kind, trial in trials(world, case, number):
                    tried[f"{case.name} {kind}"] += 1
                    try:
                        broken[f"{case.name} {kind}"] += trial().code != 0
                    except AssertionError as error:
                        lost[f"{case.name} {kind}"] += 1
                        print(f"LOST: {case.name}, {kind}, number {number}: {error}", flush=True)
            number += 1
            if number % 10 == 0 or sum(tried.values()) >= options.kills:
                show(tried, broken)
                total = f"{sum(tried.values())} trials, {sum(broken.values())} broken off or refused"
                print(f"{total}, {sum(lost.values())} with a loss, in {time.monotonic() - start:.0f} s", flush=True)
        world.forks.close()
    return int(bool(lost))


def show(tried: Counter[str], broken: Counter[str]) -> None:
    print("| command | " + " | ".join(KINDS) + " |")
    for name in [case.name for case in CASES]:
        cells = [f"{broken[f'{name} {kind}']} of {tried[f'{name} {kind}']}" for kind in KINDS]
        print(f"| `{name}` | {' | '.join('-' if cell == '0 of 0' else cell for cell in cells)} |")


def trials(world: World, case: Case, number: int) -> Iterator[tuple[str, Callable[[], Ended]]]:
    """Yield trials of a command, each with its kind; two of them seldom, as nothing in them is drawn by lot."""
    one = world.planned(case, number)
    yield one.signal, lambda: world.survive(one)
    yield "full", lambda: world.starve(case, number)
    if number % _SELDOM == 0:
        yield "twice", lambda: max(world.twice(case), key=lambda ended: ended.code)
        yield "clock", lambda: world.backwards(case)


if __name__ == "__main__":
    sys.exit(main())

"""Kill commands at as many seeded moments as one has time for: `python tests/benchmarks/kills.py --kills 600 --seed 7`.

The trials are those of tests/faults/test_matrix.py, with other seeds. Prints for each command how many trials there
were with each signal, how many of them really broke it off (the others came after its end), and what was lost.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "faults"), str(Path(__file__).parents[1])]

from trials import CASES, SIGNALS, World  # noqa: E402

_DEAR = 8  # the demo, which runs ten commands, gets one trial in as many rounds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="trials of different seeds differ")
    options = parser.parse_args()
    tried, broken, lost, start = Counter[str](), Counter[str](), Counter[str](), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        number = options.seed * 1_000_000
        while sum(tried.values()) < options.kills:
            for case in CASES[: None if number % _DEAR == 0 else -1]:
                one = world.planned(case, number)
                key = f"{case.name} {one.signal}"
                tried[key] += 1
                try:
                    ended = world.survive(one)
                    broken[key] += ended.code != 0
                except AssertionError as error:
                    lost[key] += 1
                    print(f"LOST: {one}: {error}", flush=True)
            number += 1
        world.forks.close()
    for case in CASES:
        cells = [f"{tried[key]} ({broken[key]} broken off)" for key in (f"{case.name} {name}" for name in SIGNALS)]
        print(f"{case.name:<22} {'   '.join(map('{:<22}'.format, cells))}")
    total = f"{sum(tried.values())} trials, {sum(broken.values())} broken off, {sum(lost.values())} with a loss"
    print(f"{total}, in {time.monotonic() - start:.0f} s")
    return int(bool(lost))


if __name__ == "__main__":
    sys.exit(main())

"""CPU time and peak memory of intervals and of paired comparisons, each run in its own process, imports included.

Run: python tests/benchmarks/resampling.py   (made sums of 100 encounters, as of 314 photos; median of seven runs)

"alone" is the time of a process that only imports numpy and makes the sums: what is above it is the statistics'.
Memory is what Python allocates during the call (tracemalloc, a run of its own), at 100 and at 20,000 encounters.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence

CHILD = """
import sys, time, tracemalloc
import numpy as np
from magic_cli.metrics import mask_scores
from magic_cli.metrics.answer_sets import AnswerTerms
from magic_cli.records import EncounterSums

def made(task, n, shift=0):
    # without numpy.random: its import belongs to what is measured
    noise = lambda *shape: np.modf(np.sin(np.arange(np.prod(shape)) * 12.9898 + shift) * 43758.5453)[0].reshape(shape)
    if task == "seg":
        photos = 1 + np.arange(n) % 6 if n != 100 else 3 + (np.arange(n) < 14)
        sums = np.abs(noise(n, len(mask_scores.TERMS)))
        sums[:, :4] *= photos[:, None]
        sums[:, 4], sums[:, 5:8], sums[:, 8] = photos, np.floor(sums[:, 5:8] * 1e6), 0
        ids = tuple(f"ENC{i:05}" for i in range(n))
        return EncounterSums(ids, mask_scores.MASK_SCORES, sums, lambda x: mask_scores.scores_from_sums(x, "one"))
    slots = 9 * [4] + 9 * [9] + 9 * [28]
    terms = AnswerTerms(9, tuple(slots))
    credit = np.round(np.abs(noise(n, 9)))
    found, gold = (np.abs(noise(n, 27) * np.array(slots) * (0.3 + i / 9)).astype(int) for i in (1, 2))
    names = tuple(f"figure {i}" for i in range(11))
    return EncounterSums(tuple(f"ENC{i:05}" for i in range(n)), names, terms.sums(credit, found, gold), terms.scores)

task, what, n, resamples = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
a, b = made(task, n), made(task, n, 1)
assert "numpy.random" not in sys.modules
if what == "memory":
    tracemalloc.start()
start = time.process_time()
if what != "alone":
    from magic_cli.metrics import bootstrap
    bootstrap.paired(a, b, resamples) if what == "paired" else bootstrap.intervals(a, resamples)
spent = time.process_time() - start
peak = tracemalloc.get_traced_memory()[1] / 2**20 if what == "memory" else 0
print(len(a.sums[0]), len(a.names), spent, time.process_time(), peak)
"""


def measure(task: str, what: str, n: int = 100, resamples: int = 10_000) -> list[float]:
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    words = [sys.executable, "-c", CHILD, task, what, str(n), str(resamples)]
    run = subprocess.run(words, capture_output=True, text=True, check=True, env=env)
    return [float(word) for word in run.stdout.split()]


def main(words: Sequence[str] | None = None) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    count = parser.parse_args(words).runs
    for task in ("seg", "cvqa"):
        measured = {what: [measure(task, what) for _ in range(count)] for what in ("alone", "intervals", "paired")}
        terms, figures = measured["alone"][0][:2]
        spent = {what: statistics.median(run[2] for run in runs) for what, runs in measured.items()}
        whole = {what: statistics.median(run[3] for run in runs) for what, runs in measured.items()}
        print(f"{task}: {terms:.0f} terms, {figures:.0f} figures, 100 encounters, 10,000 resamples")
        print(f"  process alone {whole['alone']:.2f} s CPU")
        for what in ("intervals", "paired"):
            print(f"  {what:<9} {spent[what]:.3f} s CPU (whole process {whole[what]:.2f} s)")
        peaks = [measure(task, "memory", 100)[4], measure(task, "memory", 20_000, 300)[4]]
        print(f"  peak {peaks[0]:.0f} MiB; {peaks[1]:.0f} MiB for 20,000 encounters, sums not counted")


if __name__ == "__main__":
    main()

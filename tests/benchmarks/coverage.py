"""How often 95 % intervals hold the true figure, on made encounters whose true figures are known.

Run: OPENBLAS_NUM_THREADS=1 python tests/benchmarks/coverage.py [SETS]   (data sets per row, 1000: about five minutes)

"ours" is magic_cli.metrics.bootstrap; the others are its alternatives. "missed" is the share of intervals that lie
wholly above / wholly below the true figure. "none" is the share of data sets without an interval (no spread: every
answer right); these are not among the others. f1 @n: macro-F1 against its mean over data sets of this size, which
is what an interval can know about; f1 against infinitely many encounters. Standard error of a 95: 0.7 of 1000 sets.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "builders"))
import encounter_sums

from magic_cli.metrics import bootstrap

SIZES, RESAMPLES = (10, 20, 30, 56, 100), 1000
Z = NormalDist().inv_cdf(0.975)
TASKS = {
    "seg": (
        encounter_sums.photos,
        encounter_sums.seg_scores,
        ("Jmax", "Jmean", "Dmax", "Dmean", "J", "D"),
        range(6),
        2000,
    ),
    "cvqa": (
        encounter_sums.answers,
        encounter_sums.ANSWERS.scores,
        ("a.60", "a.94", "a.90", "mean", "f1"),
        (0, 1, 6, 9, 10),
        400,
    ),
}


def shares(z: np.ndarray) -> np.ndarray:
    return np.array([NormalDist().cdf(one) for one in z])


def alternatives(sums: np.ndarray, figures, seed: int) -> dict[str, np.ndarray]:
    """Return (2, figures) bounds of each other method: percentile, expanded percentile (Hesterberg), BCa (Efron)."""
    n = len(sums)
    found = np.sort(
        np.concatenate([figures(b @ sums) for b in bootstrap._drawn(len(sums), max(sums.shape), RESAMPLES, seed)]), 0
    )
    value, one_out = figures(sums.sum(0)), figures(sums.sum(0) - sums)

    def quantiles(z: np.ndarray) -> np.ndarray:
        return bootstrap._quantile(found, shares(z))

    below = ((found < value - 1e-12).mean(0) + (found <= value + 1e-12).mean(0)) / 2
    bias = np.array([NormalDist().inv_cdf(min(max(share, 1e-6), 1 - 1e-6)) for share in below])
    away = one_out.mean(0) - one_out
    bend = (away**3).sum(0) / np.maximum(6 * (away**2).sum(0) ** 1.5, 1e-30)
    wide = float(bootstrap._t(Z, np.array(n - 1.0))) * np.sqrt(n / (n - 1))
    same = np.ones(value.size)
    return {
        "percentile": np.stack([quantiles(sign * Z * same) for sign in (-1, 1)]),
        "expanded": np.stack([quantiles(sign * wide * same) for sign in (-1, 1)]),
        "BCa": np.stack([quantiles(bias + (bias + s * Z) / (1 - bend * (bias + s * Z))) for s in (-1, 1)]),
    }


def simulate(task: str, n: int, count: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return (sets, 2, figures) bounds by method, and (sets, figures) values."""
    make, figures, _, kept, _ = TASKS[task]
    rng, kept = np.random.default_rng([n, 7]), list(kept)
    bounds: dict[str, list[np.ndarray]] = {}
    values = []
    for seed in range(count):
        sums = make(rng, n)
        ours = bootstrap.intervals(encounter_sums.from_table(sums, figures), RESAMPLES, seed)
        rows = alternatives(sums, figures, seed) | {"ours": np.array([[i.low, i.high] for i in ours.values()]).T}
        for name, row in rows.items():
            bounds.setdefault(name, []).append(row[:, kept])
        values.append(figures(sums.sum(0))[kept])
    return {name: np.array(rows) for name, rows in bounds.items()}, np.array(values)


def shown(numbers: np.ndarray, form: str = "{:6.1f}") -> str:
    return " ".join(form.format(number) for number in numbers)


def table(count: int) -> None:
    for task, (make, figures, names, kept, thousands) in TASKS.items():
        true = encounter_sums.truth(make, figures, thousands)[list(kept)]
        more = task == "cvqa"
        heads = [*names, "f1 @n"] if more else list(names)
        print(
            f"\n{task:<15}" + " ".join(f"{name:>6}" for name in heads) + "\n" + f"{'true':<15}" + shown(true, "{:6.3f}")
        )
        for n in SIZES:
            bounds, values = simulate(task, n, count)
            goal = np.append(true, values.mean(0)[-1]) if more else true
            there = ~np.isnan(bounds["ours"][:, 0])
            for name, rows in bounds.items():
                low, high = (np.where(there, rows[:, side], np.nan) for side in (0, 1))
                if more:
                    low, high = (np.column_stack([side, side[:, -1]]) for side in (low, high))
                given = np.maximum((~np.isnan(low)).sum(0), 1)
                missed = [100 * (low > goal).sum(0) / given, 100 * (high < goal).sum(0) / given]
                print(f"{n:3d} {name:<11}" + shown(100 - missed[0] - missed[1]))
                if name == "ours":
                    print(f"{'':4}{'missed':<11}" + " ".join(f"{a:.1f}/{b:.1f}" for a, b in zip(*missed, strict=True)))
                    print(f"{'':4}{'none':<11}" + shown(100 * (1 - there.mean(0))), flush=True)


def pairs(count: int) -> None:
    """Print the coverage of paired differences, and how often p <= 0.05 where both systems are alike."""
    print("\npaired (two systems whose photos differ by their own noise only): coverage of 0, and p <= 0.05, in %")
    print(" " * 7 + " ".join(f"{name:>13}" for name in TASKS["seg"][2]))
    for n in (10, 30, 56):
        rng, held, small = np.random.default_rng([n, 8]), [], []
        for seed in range(count):
            base, one, other = (encounter_sums.photos(rng, n) for _ in range(3))
            a, b = (encounter_sums.from_table(base + more, encounter_sums.seg_scores) for more in (one, other))
            found = bootstrap.paired(a, b, 500, seed).values()
            held.append([d.low <= 0 <= d.high for d in found])
            small.append([d.p <= 0.05 for d in found])
        cells = zip(100 * np.mean(held, 0), 100 * np.mean(small, 0), strict=True)
        print(f"{n:3d}    " + " ".join(f"{a:6.1f} {b:6.1f}" for a, b in cells), flush=True)


def main(words: Sequence[str] | None = None) -> None:
    """Parse, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=int, nargs="?", default=1000, help="data sets per row")
    sets = parser.parse_args(words).sets
    table(sets)
    pairs(sets)


if __name__ == "__main__":
    main()

"""What scoring masks costs: `magic score`, reading every file once, and a plain reference, paired in one run.

    python tests/benchmarks/scoring.py [--rounds 5] [--workers 2]

Draws 40 photos' masks of 0.5 to 12 megapixels (3 annotators and a prediction each), raw and zlib, into a temporary
folder. Each round runs every program once, as a process of its own, start-up included; CPU time (user + system) and
peak memory are the process's own. Goals: `magic score` at most 1.8 times reading (raw), 2.0 times (zlib), 150 MiB.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

IMAGES, ANNOTATORS, SMALLEST, LARGEST = 40, 3, 0.5, 12.0
KINDS: dict[str, dict[str, Any]] = {"raw": {}, "zlib": {"compression": "zlib"}}
READ = """
import sys
from pathlib import Path
import numpy, tifffile
print(sum(numpy.size(tifffile.imread(path)) for path in sorted(Path(sys.argv[1]).rglob("*.tiff"))))
"""


def draw(root: Path, images: int, options: dict[str, Any]) -> None:
    """Write elliptic lesions, each annotator's and the prediction another one."""
    import numpy as np
    import tifffile

    rng = np.random.default_rng(0)
    for folder in ("masks_refs", "masks_preds"):
        (root / folder).mkdir(parents=True)
    for n in range(images):
        pixels = SMALLEST * (LARGEST / SMALLEST) ** (n / max(images - 1, 1)) * 1e6
        height = round((pixels * 3 / 4) ** 0.5)
        width = round(pixels / height)
        rows, columns = np.ogrid[:height, :width]
        centre, radii = rng.uniform(0.35, 0.65, 2), rng.uniform(0.1, 0.3, 2)
        for k in range(ANNOTATORS + 1):
            (y, x), (a, b) = centre + rng.normal(0, 0.02, 2), radii * rng.uniform(0.9, 1.1, 2)
            inside = ((rows / height - y) / a) ** 2 + ((columns / width - x) / b) ** 2 <= 1
            name = f"IMG_ENC{n // 2:05}_{n % 2 + 1:05}_mask_"
            path = f"masks_refs/{name}ann{k}.tiff" if k < ANNOTATORS else f"masks_preds/{name}sys.tiff"
            tifffile.imwrite(root / path, inside.astype(np.uint8), **options)


def reference(root: Path) -> dict[str, float]:
    """The official formulas written down plainly: int64, every file read twice, all pixels of the majority kept."""
    import numpy as np
    import tifffile

    def read(path: Path) -> Any:
        return tifffile.imread(path).flatten().astype(np.int64)

    means: dict[str, list[float]] = {name: [] for name in ("jaccard_max", "jaccard_mean", "dice_max", "dice_mean")}
    pooled_found, pooled_gold = [], []
    for path in sorted((root / "masks_preds").iterdir()):
        golds = sorted((root / "masks_refs").glob(path.name.replace("sys.tiff", "ann?.tiff")))
        jaccards, dices = [], []
        for gold in golds:
            f, g = read(path), read(gold)
            both, total = int((f * g).sum()), int(f.sum() + g.sum())
            jaccards.append(both / (total - both))
            dices.append(2 * both / total)
        for name, values in (("jaccard", jaccards), ("dice", dices)):
            means[f"{name}_max"].append(max(values))
            means[f"{name}_mean"].append(sum(values) / len(values))
        votes = sum(read(gold) for gold in golds)
        pooled_gold.append((votes >= np.ceil(len(golds) / 2)).astype(np.int64))
        pooled_found.append(read(path))
    tp = fp = fn = 0
    for f, g in zip(pooled_found, pooled_gold, strict=True):
        tp, fp, fn = tp + int((f * g).sum()), fp + int((f * (1 - g)).sum()), fn + int(((1 - f) * g).sum())
    figures = {name.replace("_", "_meanof"): sum(values) / len(values) for name, values in means.items()}
    return figures | {"jaccard": tp / (tp + fp + fn), "dice": 2 * tp / (2 * tp + fp + fn)}


def run(command: Sequence[str]) -> tuple[float, float, float, str]:
    """Run a process; return its CPU seconds, peak MiB, wall seconds and output."""
    with tempfile.TemporaryFile() as out:
        start = time.perf_counter()
        child = os.posix_spawn(
            command[0], list(command), dict(os.environ), file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1)]
        )
        _, status, usage = os.wait4(child, 0)
        wall = time.perf_counter() - start
        if status:
            raise SystemExit(f"failed: {' '.join(command)}")
        out.seek(0)
        text = out.read().decode()
    scale = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / scale, wall, text


def official(text: str) -> dict[str, float]:
    official_scores: dict[str, float] = json.loads(text)["systems"][0]["reports"][0]["official"]
    return official_scores


def compare(root: Path, rounds: int, workers: int) -> None:
    """Print a line a program: medians, and the median of the paired ratios to reading."""
    here, python = str(Path(__file__).resolve()), sys.executable
    score = [python, "-m", "magic_cli", "score", str(root / "masks_preds"), str(root / "masks_refs"), "--json"]
    programs = {"read once": [python, "-c", READ, str(root)], "magic score": score}
    if workers > 1:
        programs[f"magic score --workers {workers}"] = [*score, "--workers", str(workers)]
    programs["plain reference"] = [python, here, "--reference", str(root)]
    found: dict[str, list[tuple[float, float, float, str]]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, command in programs.items():
            found[name].append(run(command))
    expected, figures = json.loads(found["plain reference"][0][3]), official(found["magic score"][0][3])
    worst = max(abs(figures[name] - value) for name, value in expected.items())
    for name, results in found.items():
        cpu, memory, wall = (statistics.median(column) for column in zip(*(r[:3] for r in results), strict=True))
        ratios = [r[0] / base[0] for r, base in zip(results, found["read once"], strict=True)]
        print(
            f"{root.name:<5} {name:<24} CPU {cpu:6.2f} s = {statistics.median(ratios):5.2f} x reading "
            f"({min(ratios):.2f}..{max(ratios):.2f})   wall {wall:6.2f} s   peak {memory:5.0f} MiB"
        )
    print(f"{root.name:<5} greatest difference from the plain reference: {worst:.1e}")


def main() -> None:
    """Draw, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--reference", type=Path, help="print the plain figures of a folder (used by the comparison)")
    parser.add_argument("--draw", type=Path, help="draw into a folder named after its kind (used by the comparison)")
    options = parser.parse_args()
    if options.draw:
        draw(options.draw, options.images, KINDS[options.draw.name])
        return
    if options.reference:
        print(json.dumps(reference(options.reference)))
        return
    with tempfile.TemporaryDirectory() as folder:
        for root in (Path(folder) / kind for kind in KINDS):
            # in a process of its own: a child's peak memory is never below its parent's
            run([sys.executable, str(Path(__file__).resolve()), "--draw", str(root), "--images", str(options.images)])
            compare(root, options.rounds, options.workers)


if __name__ == "__main__":
    main()

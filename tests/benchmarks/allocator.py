"""EfficientNet-Lite0 on the CPU with and without training.devices.keep_memory, in turn, each in its own process.

Run: python tests/benchmarks/allocator.py   (prints ms per photo, median of the pairs, and the ratio)
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence

CHILD = """
import sys, time, torch
from magic_cli.training.devices import keep_memory
from magic_cli.models.efficientnet_lite import Lite0
if sys.argv[1] == "keep":
    keep_memory()
encoder = Lite0(256, "pyramid")
photos = torch.zeros(16, 3, 256, 256, dtype=torch.uint8)
times = []
for _ in range(6):
    start = time.perf_counter()
    with torch.inference_mode():
        encoder.eval()(photos)
    times.append(time.perf_counter() - start)
print(sorted(times[1:])[2] / 16 * 1000)
"""


def measure(mode: str) -> float:
    run = subprocess.run([sys.executable, "-c", CHILD, mode], capture_output=True, text=True, check=True)
    return float(run.stdout)


def main(words: Sequence[str] | None = None) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    pairs = [(measure("plain"), measure("keep")) for _ in range(parser.parse_args(words).pairs)]
    plain, keep = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"plain {plain:.1f} ms per photo, keep_memory {keep:.1f} ms, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()

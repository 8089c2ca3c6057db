"""Readers of files against mutated files: every refusal is a MagicError, no memory beyond a limit, no time beyond one.

    python tests/benchmarks/fuzz.py --seconds 60                all readers, a minute each
    python tests/benchmarks/fuzz.py --only tiff --seed 7        one of them; --keep DIR keeps what was found
    python tests/benchmarks/fuzz.py --engine atheris            led by the code that is reached (pip install atheris)

Without atheris the same seed tries the same files in the same order. Each finding becomes a case of tests/faults/.
"""

import argparse
import importlib
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

READERS = ("tiff", "photo", "zip", "answers", "tables", "dataset", "checkpoint")
SLOWEST = 10.0
INSTRUMENTED = ["magic_cli", "tifffile", "PIL", "zipfile", "json"]


@dataclass
class Tally:
    """What came of the files that one reader was given: `found` has a line for each kind of finding."""

    keep: Callable[[bytes, str], None]
    tried: int = 0
    refused: int = 0
    found: dict[str, str] = field(default_factory=dict)

    def read(self, reader: Any, data: bytes) -> None:
        """Give a file to the reader."""
        from magic_cli.errors import MagicError

        line, start = "", time.monotonic()
        try:
            reader.read(data)
        except MagicError as error:
            self.refused += 1
            if not all(text.isprintable() for text in error.problems):
                line = "a line that is not printable"
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            line = f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}: {error!s:.100}"
        self.tried += 1
        if time.monotonic() - start > SLOWEST:
            line = f"took {time.monotonic() - start:.0f} s"
        kind = line.split(": ")[0]
        if line and kind not in self.found:
            self.found[kind] = line
            self.keep(data, kind)

    def told(self, name: str) -> list[str]:
        """Return the lines to print."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        first = f"{name:<11}{self.tried:>9,} executions, {self.refused:>8,} refused, {len(self.found)} findings"
        return [f"{first}, {peak:.1f} GB at most", *(f"    {line}" for line in self.found.values())]


def by_chance(name: str, seconds: float, seed: int, tally: Tally) -> None:
    """Read mutated files until the time is over."""
    reader = _reader(name)
    rng, end = random.Random(seed), time.monotonic() + seconds  # noqa: S311
    while time.monotonic() < end:
        tally.read(reader, reader.make(rng))


def by_coverage(name: str, seconds: float, seed: int, tally: Tally) -> NoReturn:
    """Let libFuzzer choose and change the files, by the code they reach; ends the process, as libFuzzer does."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        reader = _reader(name)
    folder = Path(tempfile.mkdtemp())
    rng, end = random.Random(seed), time.monotonic() + seconds  # noqa: S311
    for number in range(50):
        (folder / str(number)).write_bytes(reader.make(rng) if number >= len(reader.seeds) else reader.seeds[number])

    def one(data: bytes) -> None:
        tally.read(reader, data)
        if time.monotonic() > end:
            print("\n".join(tally.told(name)), flush=True)
            os._exit(min(1, len(tally.found)))

    def changed(data: bytes, most: int, number: int) -> bytes:
        # Bytes alone rarely make other valid JSON: half of the changes are the reader's own.
        drawn = random.Random(number)  # noqa: S311
        made: bytes = reader.make(drawn) if drawn.random() < 0.5 else atheris.Mutate(data, most)
        return made[:most]

    options = [f"-seed={seed}", "-max_len=65536", "-rss_limit_mb=0", "-print_final_stats=0", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(folder)], one, custom_mutator=changed)
    atheris.Fuzz()
    raise SystemExit


def _reader(name: str) -> Any:
    sys.path.insert(0, str(Path(__file__).parent))
    return importlib.import_module("fuzz_readers").READERS[name](Path(tempfile.mkdtemp()) / name)


def main(words: Sequence[str] | None = None) -> int:
    """Run each reader in a process of its own; return 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=60, help="a reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", default="chance", choices=("chance", "atheris"))
    parser.add_argument("--only", nargs="*", default=list(READERS), choices=READERS)
    parser.add_argument("--keep", type=Path, help="folder for files that were found")
    parser.add_argument("--memory", type=float, default=6, help="GB of address space; beyond it, a MemoryError")
    given = parser.parse_args(words)
    if len(given.only) > 1:
        rest = list(words if words is not None else sys.argv[1:])
        runs = [subprocess.run([sys.executable, __file__, *rest, "--only", name], check=False) for name in given.only]
        return max(run.returncode for run in runs)
    (name,) = given.only
    resource.setrlimit(resource.RLIMIT_AS, (int(given.memory * 1e9), resource.RLIM_INFINITY))

    def keep(data: bytes, kind: str) -> None:
        if given.keep:
            given.keep.mkdir(parents=True, exist_ok=True)
            (given.keep / f"{name}-{abs(hash(kind)) % 10**6}").write_bytes(data)

    tally = Tally(keep)
    (by_coverage if given.engine == "atheris" else by_chance)(name, given.seconds, given.seed, tally)
    print("\n".join(tally.told(name)), flush=True)
    return min(1, len(tally.found))


if __name__ == "__main__":
    sys.exit(main())

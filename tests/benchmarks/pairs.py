"""Training from tars at scale: pairs are made, indexed, and read through the loader of a training, without a model.

    OMP_NUM_THREADS=1 python tests/benchmarks/pairs.py [--pairs 413369] [--limit N] [--large 5000] [--work DIR]

Tars of 1,000 pairs each: a JPEG of 64 x 64 pixels (one of 1,000 distinct ones), a text, and a JSON object with MAKE's
columns, all drawn by seeded code; `--large` pairs of 224 x 224 pixels as well. Each row of the table is a process of
its own:

    index      all tars are read once, their indexes written; then opened again with these
    read       photos decoded for an encoder of their size and texts parsed, batches of 256 in the computed order;
               `--limit` pairs at most (all with two workers); MiB of the process and its workers after 10, 50 and
               100 %: what is their own (anonymous), and what counts with mapped files (resident)
    resume     from nothing in memory to the first batch of the middle of an epoch, imports apart
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from magic_cli.config import Config
from magic_cli.data.lazy_samples import blocks_of
from magic_cli.data.pairs import pair_samples
from magic_cli.data.shards.dataset import open_shards
from magic_cli.models.efficientnet_lite import Lite0
from magic_cli.records import Sample
from magic_cli.tasks.encoding import photo_item
from magic_cli.training.loader import Share, Views, WholeBatches, batches_of, loader_for
from magic_cli.training.task_model import Batch, TaskModel

PER_SHARD, PHOTOS, BATCH = 1000, 1000, 256

WORDS = "the skin of this patient shows a red round itchy area that grew slowly within some weeks and bleeds at times"


def jpegs(side: int) -> list[bytes]:
    """Return distinct JPEGs of coarse noise."""
    rng, found = np.random.default_rng(7), []
    for _ in range(PHOTOS):
        coarse = Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8))
        buffer = io.BytesIO()
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
        found.append(buffer.getvalue())
    return found


def columns(number: int) -> dict[str, object]:
    """Return the columns of a pair as MAKE's release has them."""
    words = WORDS.split()
    turned = words[number % len(words) :] + words[: number % len(words)]
    sentences = [f"{' '.join(turned)} {number}", " ".join(turned[::-1])]
    return {
        "caption": f"{'. '.join(sentences)}.",
        "truncated_caption": sentences[0],
        "ontology_caption": "This is a skin photo diagnosed as inflammatory, psoriasis.",
        "visual_concept_caption": "This skin photo shows plaque, scale.",
        **{f"subcaption_{place}": text for place, text in enumerate(sentences, 1)},
        "sub_caption_mask": "[1, 1, 0, 0, 0, 0, 0, 0]",
        "knowledge_masks": "[1, 1, 1]",
    }


def make(root: Path, pairs: int, side: int) -> None:
    """Write tars, unless they are there."""
    if root.is_dir():
        return
    part = root.with_suffix(".part")
    part.mkdir(parents=True, exist_ok=True)
    photos = jpegs(side)
    for first in range(0, pairs, PER_SHARD):
        with tarfile.open(part / f"train-{first // PER_SHARD:06}.tar", "w") as tar:
            for number in range(first, min(first + PER_SHARD, pairs)):
                row = columns(number)
                text = str(row["caption"]).encode()
                parts = {"jpg": photos[number % PHOTOS], "json": json.dumps(row).encode(), "txt": text}
                for suffix, data in parts.items():
                    member = tarfile.TarInfo(f"{number:09}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    part.rename(root)


@dataclass(frozen=True)
class Memory:
    """MiB of a process and its children: their own, and with mapped files; shared pages count once per process."""

    own: float
    resident: float


def memory() -> Memory:
    """Return what this process and its children take now; where the system does not tell, the highest so far."""
    status = Path("/proc/self/status")
    if not status.is_file():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return Memory(peak, peak)
    me = os.getpid()
    children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
    own = resident = 0
    for process in (str(me), *children):
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        fields = {name: value for name, _, value in (line.partition(":") for line in lines)}
        own += int(fields.get("RssAnon", "0 kB").split()[0])
        resident += int(fields.get("VmRSS", "0 kB").split()[0])
    return Memory(own / 1024, resident / 1024)


@dataclass(frozen=True)
class PairBatch(Batch):
    """Pixels (B, 3, S, S) uint8, and the texts of each pair."""

    pixels: torch.Tensor
    texts: list[tuple[str, ...]]


class Collate(TaskModel):
    """The loading half of a model that pretrains a small image encoder."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.images = Lite0(side, "pooled")

    def collate(self, samples: Sequence[Sample], views: Sequence[int]) -> PairBatch:
        """Load photos and texts."""
        pixels = [photo_item(self.images, s.images[0], view).load() for s, view in zip(samples, views, strict=True)]
        return PairBatch(torch.stack(pixels), [tuple(t["en"] for t in s.case.texts.values()) for s in samples])


def probe_index(folder: Path) -> dict[str, object]:
    """Open the shards, with or without indexes."""
    before, begin = memory(), time.perf_counter()
    dataset, _ = open_shards(folder)
    seconds, after = time.perf_counter() - begin, memory()
    pairs = len(dataset.samples("train")) + len(dataset.samples("valid"))
    return {"seconds": seconds, "pairs": pairs, "own": after.own - before.own}


def probe_read(folder: Path, side: int, workers: int, limit: int, start: float) -> dict[str, object]:
    """Read batches from a fraction `start` of the epoch on, as a training on these pairs would."""
    torch.set_num_threads(1)
    model = Collate(side)
    begin = time.perf_counter()
    samples = pair_samples(open_shards(folder)[0], "train")
    views = Views(samples, 0, shares=[Share(len(samples), 1.0, blocks_of(samples))])
    batches = WholeBatches(views, BATCH)
    batches.start = int(batches.total * start)
    wanted = max(1, min(len(batches), limit // BATCH) if limit else len(batches))
    loader = loader_for(model, views, Config(workers=workers), batches, False)
    marks = {max(1, round(wanted * part)): f"{part:.0%}" for part in (0.1, 0.5, 1.0)}
    found: dict[str, object] = {}
    with batches_of(loader, torch.device("cpu")) as source:
        for number, _batch in enumerate(source, 1):
            if number == 1:
                found["first"] = time.perf_counter() - begin
                begin = time.perf_counter()
            if number in marks:
                found[marks[number]] = vars(memory())
            if number == wanted:
                break
        seconds = time.perf_counter() - begin
    rate = (wanted - 1) * BATCH / seconds if wanted > 1 else 0.0
    return found | {"rate": rate, "pairs": wanted * BATCH}


def run(*words: object) -> dict[str, object]:
    """Return what a probe in a process of its own prints."""
    here = Path(__file__).resolve()
    environment = dict(os.environ) | {"PYTHONPATH": str(here.parents[2]), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(here), *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def at(found: dict[str, object], part: str) -> str:
    """Return memory at a part of the reading, as text."""
    value = found.get(part)
    return f"{value['own']:.0f} ({value['resident']:.0f})" if isinstance(value, dict) else "-"


def measure(folder: Path, side: int, limit: int) -> None:
    """Print the rows of one set of tars."""
    for path in folder.glob("*.magic-index"):
        path.unlink()
    for name in ("index", "open again"):
        found = run("--probe", "index", "--work", folder)
        rate = float(str(found["pairs"])) / float(str(found["seconds"]))
        print(
            f"{side} px  {name:<12}{found['pairs']:>8,} pairs {found['seconds']:8.2f} s {rate:10,.0f} a second,"
            f" {found['own']:.1f} MiB",
            flush=True,
        )
    for workers in (0, 2):
        most = limit if workers else min(limit or 10_000, 10_000)
        found = run("--probe", "read", "--work", folder, "--side", side, "--workers", workers, "--limit", most)
        memories = ", ".join(f"{part} {at(found, part)}" for part in ("10%", "50%", "100%"))
        print(
            f"{side} px  {workers} workers  {found['pairs']:>10,} pairs {'':>10} {found['rate']:10,.0f} a second,"
            f" MiB own (resident): {memories}",
            flush=True,
        )
    found = run("--probe", "read", "--work", folder, "--side", side, "--workers", 2, "--limit", BATCH, "--start", 0.5)
    print(f"{side} px  resume in the middle: first batch of {BATCH} after {found['first']:.2f} s", flush=True)


def main() -> None:
    """Make, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=413_369)
    parser.add_argument("--limit", type=int, default=0, help="pairs to read with two workers; 0 for all")
    parser.add_argument("--large", type=int, default=5_000, help="pairs of 224 x 224 pixels; 0 for none")
    parser.add_argument("--work", type=Path, help="folder to keep the tars in; a temporary one otherwise")
    parser.add_argument("--probe", choices=("index", "read"), help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--side", type=int, default=64, help=argparse.SUPPRESS)
    parser.add_argument("--start", type=float, default=0.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        probes = {
            "index": lambda: probe_index(options.work),
            "read": lambda: probe_read(options.work, options.side, options.workers, options.limit, options.start),
        }
        print(json.dumps(probes[options.probe]()))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = (options.work or Path(folder)).resolve()
        for side, pairs in ((64, options.pairs), (224, min(options.large, options.pairs))):
            if pairs:
                begin, place = time.perf_counter(), work / f"{side}-{pairs}"
                make(place, pairs, side)
                print(f"{side} px  {pairs:,} pairs made in {time.perf_counter() - begin:.0f} s", flush=True)
                measure(place, side, options.limit)


if __name__ == "__main__":
    main()

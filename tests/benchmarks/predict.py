"""Prediction by the `paper` preset on a full-size CLIPSeg with random weights, against the plain transformers loop.

Run: OMP_NUM_THREADS=1 python tests/benchmarks/predict.py [FOLDER [BEST.PT PREPARED [N]]]

FOLDER gets the checkpoint (600 MB, made once). With a best.pt and its prepared data the same is asked of that model:
what bfloat16 costs in masks, and what it saves. One thread, CPU seconds a photo, sides in turn, each in a process of
its own, medians.
The plain side encodes each photo's prompt anew, photo by photo, as a loop over transformers' processor and model does;
both sides read pixels that are decoded and shrunk. The encounters have three photos each, as the challenge's.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clipseg import NAME, cpu, inputs_of, make_checkpoint, make_samples, model_for, read_samples
from numpy.typing import NDArray
from transformers import CLIPSegForImageSegmentation

from magic_cli.commands import predict as predict_command
from magic_cli.config import resolve
from magic_cli.data.prepared import open_prepared
from magic_cli.models.cache import memo
from magic_cli.records import Prediction, Sample
from magic_cli.tasks.encoding import ToEncode
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.tasks.seg.decide import MaskPrediction
from magic_cli.tasks.seg.model import SegBatch, SegModel
from magic_cli.training.devices import accelerator_for
from magic_cli.training.inference import predict
from magic_cli.training.runtime import RuntimeOptions

Map = NDArray[np.floating[Any]]

PHOTOS, ROUNDS = 6, 3


def maps(predictions: Iterable[Prediction]) -> list[Map]:
    """Return the probabilities of predictions of photos."""
    probabilities = [prediction.probability for prediction in predictions if isinstance(prediction, MaskPrediction)]
    return [array for array in probabilities if array is not None]


def agreement(first: list[Map], second: list[Map], threshold: float) -> tuple[float, float, float]:
    """Return mean and least Dice between two sets of masks, and the part of pixels that differ."""
    dice, flips = [], []
    for a, b in zip(first, second, strict=True):
        x, y = a > threshold, b > threshold
        dice.append(1.0 if not (x.any() or y.any()) else 2 * (x & y).sum() / (x.sum() + y.sum()))
        flips.append((x != y).mean())
    return float(np.mean(dice)), float(np.min(dice)), float(np.mean(flips))


def compare(what: str, exact: list[Map], other: list[Map], threshold: float = 0.5) -> None:
    """Print how far two sets of masks agree."""
    mean, least, flips = agreement(exact, other, threshold)
    print(f"{what}: masks agree at Dice {mean:.4f} (worst photo {least:.4f}), {100 * flips:.2f} % of pixels differ")


def plain_side(net: CLIPSegForImageSegmentation, model: SegModel, samples: list[Sample]) -> list[Map]:
    """Return the probabilities that transformers' own forward gives, photo by photo."""
    probabilities = []
    for sample in samples:
        batch = model.collate([sample], [0])
        with torch.no_grad():
            pixels = model.images.normalise(inputs_of(batch.photos[0]))
            logits = net(pixel_values=pixels, **inputs_of(batch.prompts)).logits
        probabilities.append(torch.sigmoid(logits.view(352, 352)).numpy())
    return probabilities


def side(kind: str, folder: Path, work: Path, pipe: Connection) -> None:
    """Be one of the two processes: predict all photos when asked, send CPU seconds, at first also the masks."""
    torch.set_num_threads(1)
    samples = read_samples(work)
    samples = [replace(s, case=samples[i // 3 * 3].case) for i, s in enumerate(samples)]
    base = resolve(SegConfig, "paper", ["precision=no", "workers=0"], weights_dir=str(folder))
    model = model_for(base, None).eval()
    parts = {sample.id: model.collate([sample], [0]) for sample in samples}
    model.collate = lambda samples, _: joined(model, [parts[s.id] for s in samples])  # type: ignore
    if kind == "plain":
        net = CLIPSegForImageSegmentation.from_pretrained(folder / NAME).eval()
    else:
        accelerator = accelerator_for(base, "cpu")
    with torch.no_grad():  # random logits have a standard deviation of hundreds: all probabilities would be 0 or 1
        decoder: Any = net.decoder if kind == "plain" else model.head.decoder
        for parameter in decoder.transposed_convolution[-1].parameters():
            parameter *= 0.005
    pipe.send("ready")
    while (asked := pipe.recv()) != ("end", 0):
        start = time.process_time()
        if kind == "plain":
            probabilities = plain_side(net, model, samples)
        else:
            memo.clear(model.texts)  # as a new command, which has read no prompt yet
            config = replace(base, precision=asked[0], batch_size=asked[1])
            probabilities = maps(predict(model, samples, config, accelerator))
        pipe.send((time.process_time() - start, probabilities))


def full_size(folder: Path, work: Path) -> None:
    make_checkpoint(folder)
    make_samples(work, PHOTOS)
    context, pipes, children = get_context("spawn"), {}, []
    for kind in ("plain", "ours"):
        pipes[kind], other = context.Pipe()
        children.append(context.Process(target=side, args=(kind, folder, work, other)))
        children[-1].start()
        pipes[kind].recv()  # ready: nothing else of ours runs while a side is timed

    def ask(kind: str, what: tuple[str, int]) -> tuple[float, list[Map]]:
        pipes[kind].send(what)
        answer: tuple[float, list[Map]] = pipes[kind].recv()
        return answer

    ways = {"plain": ("plain", ("", 0)), "float32, photo by photo": ("ours", ("no", 1))}
    ways |= {f"{p}, by {b}": ("ours", (p, b)) for p, b in (("no", 3), ("bf16", 3))}
    exact = ask("plain", ("", 0))[1]
    for name, way in ways.items():
        ours = ask(*way)[1]
        off = max(np.abs(a - b).max() for a, b in zip(exact, ours, strict=True))
        print(f"{name}: probabilities differ from transformers' by at most {off:.1e}")
    compare("bf16, random weights", exact, ours, float(np.median(exact)))
    rows = [[ask(*way)[0] / PHOTOS for way in ways.values()] for _ in range(ROUNDS)]
    for column, name in enumerate(ways):
        ratios = [row[0] / row[column] for row in rows]
        seconds = statistics.median(row[column] for row in rows)
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"{name}: {seconds:.2f} CPU s a photo, ratio {statistics.median(ratios):.2f} (rounds {each})")
    for pipe, child in zip(pipes.values(), children, strict=True):
        pipe.send(("end", 0))
        child.join()


def joined(model: SegModel, parts: list[SegBatch]) -> SegBatch:
    """Return one batch of batches of one photo, prompts padded to the longest."""
    rows = [
        row[mask.bool()].tolist() for part in parts for row, mask in zip(*inputs_of(part.prompts).values(), strict=True)
    ]
    keys = [key for part in parts if isinstance(part.prompts, ToEncode) for key in part.prompts.keys]
    prompts = ToEncode(model.texts.batch(rows), keys)
    photos = ToEncode(torch.cat([inputs_of(part.photos[0]) for part in parts]))
    ids, shapes = ([x for part in parts for x in getattr(part, name)] for name in ("ids", "shapes"))
    return SegBatch(ids, shapes, prompts, [photos])


def of_checkpoint(ckpt: Path, data: Path, limit: int) -> None:
    prepared = open_prepared(data)

    def side(precision: str) -> list[Map]:
        on_cpu = RuntimeOptions("cpu", no_cache=True)
        options = predict_command.PredictOptions(limit=limit, precision=precision, runtime=on_cpu)
        return maps(predict_command.predictions("seg", [ckpt], prepared, "valid", options))

    full, rounded = side("no"), side("bf16")
    compare(f"{ckpt}, {len(full)} valid photos, bf16", full, rounded)
    rows = [(cpu(lambda: side("no")), cpu(lambda: side("bf16"))) for _ in range(ROUNDS)]
    exact, half = (statistics.median(column) / len(full) * 1000 for column in zip(*rows, strict=True))
    ratio = statistics.median(a / b for a, b in rows)
    print(f"with reading and shrinking photos: {exact:.0f} CPU ms a photo, bf16 {half:.0f}, ratio {ratio:.2f}")


def main(words: Sequence[str] | None = None) -> None:
    """Parse, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="folder of the checkpoint; a temporary one otherwise")
    parser.add_argument("best", type=Path, nargs="?", help="a best.pt to compare as well")
    parser.add_argument("prepared", type=Path, nargs="?", help="its prepared data")
    parser.add_argument("photos", type=int, nargs="?", default=40, help="how many of its photos")
    given = parser.parse_args(words)
    if given.best is not None and given.prepared is None:
        parser.error("a best.pt needs its prepared data")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        full_size(given.folder or Path(temporary), Path(temporary))
    if given.prepared is not None:
        of_checkpoint(given.best, given.prepared, given.photos)


if __name__ == "__main__":
    main()

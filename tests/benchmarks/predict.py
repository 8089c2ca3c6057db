"""Prediction by the `paper` preset on a full-size CLIPSeg with random weights, against the plain transformers loop.

Run: OMP_NUM_THREADS=1 python tests/benchmarks/predict.py [FOLDER [BEST.PT PREPARED [N]]]

FOLDER gets the checkpoint (600 MB, made once). With a best.pt and its prepared data the same is asked of that model:
what bfloat16 costs in masks, and what it saves. One thread, CPU seconds a photo, sides in turn, each in a process of
its own, medians.
The plain side encodes each photo's prompt anew, photo by photo, as a loop over transformers' processor and model does;
both sides read pixels that are decoded and shrunk. The encounters have three photos each, as the challenge's.
"""

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from clipseg import NAME, cpu, make_checkpoint, make_samples, model_for, read_samples
from transformers import CLIPSegForImageSegmentation

from magic_cli.commands import predict as predict_command
from magic_cli.config import resolve
from magic_cli.data.prepared import open_prepared
from magic_cli.models.cache import memo
from magic_cli.records import Sample
from magic_cli.tasks.encoding import ToEncode
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.tasks.seg.decide import MaskPrediction
from magic_cli.tasks.seg.model import SegBatch, SegModel
from magic_cli.training.devices import accelerator_for
from magic_cli.training.inference import predict
from magic_cli.training.runtime import RuntimeOptions

PHOTOS, ROUNDS = 6, 3


def agreement(one: list[MaskPrediction], other: list[MaskPrediction], threshold: float) -> tuple[float, float, float]:
    """Return mean and least Dice between two sets of masks, and the part of pixels that differ."""
    dice, flips = [], []
    for a, b in zip(one, other, strict=True):
        x, y = a.probability > threshold, b.probability > threshold
        dice.append(1.0 if not (x.any() or y.any()) else 2 * (x & y).sum() / (x.sum() + y.sum()))
        flips.append((x != y).mean())
    return float(np.mean(dice)), float(np.min(dice)), float(np.mean(flips))


def said(what: str, kept: list[MaskPrediction], found: list[MaskPrediction], threshold: float = 0.5) -> None:
    mean, least, flips = agreement(kept, found, threshold)
    print(f"{what}: masks agree at Dice {mean:.4f} (worst photo {least:.4f}), {100 * flips:.2f} % of pixels differ")


def plain_side(net: CLIPSegForImageSegmentation, model: SegModel, samples: list[Sample]) -> list[MaskPrediction]:
    found = []
    for sample in samples:
        batch = model.collate([sample], [0])
        with torch.no_grad():
            pixels = model.images.normalise(batch.photos.inputs)
            logits = net(pixel_values=pixels, **batch.prompts.inputs).logits
        mask = torch.sigmoid(logits.view(352, 352)).numpy()
        found.append(MaskPrediction(sample.id, mask, shape=batch.shapes[0]))
    return found


def side(kind: str, folder: Path, work: Path, pipe: Connection) -> None:
    """Be one of the two processes: predict all photos when asked, send CPU seconds, at first also the masks."""
    torch.set_num_threads(1)
    samples = read_samples(work)
    samples = [replace(s, case=samples[i // 3 * 3].case) for i, s in enumerate(samples)]
    base = resolve(SegConfig, "paper", ["precision=no", "workers=0"], weights_dir=str(folder))
    model = model_for(base, None).eval()
    parts = {sample.id: model.collate([sample], [0]) for sample in samples}
    model.collate = lambda asked, _: joined(model, [parts[s.id] for s in asked])  # type: ignore[method-assign]
    if kind == "plain":
        net = CLIPSegForImageSegmentation.from_pretrained(folder / NAME).eval()
    else:
        accelerator = accelerator_for(base, "cpu")
    with torch.no_grad():  # random logits have a standard deviation of hundreds: all probabilities would be 0 or 1
        for parameter in (net if kind == "plain" else model.head).decoder.transposed_convolution[-1].parameters():
            parameter *= 0.005
    pipe.send("ready")
    while (asked := pipe.recv()) != ("end", 0):
        start = time.process_time()
        if kind == "plain":
            found = plain_side(net, model, samples)
        else:
            memo.clear(model.texts)  # as a new command, which has read no prompt yet
            config = replace(base, precision=asked[0], batch_size=asked[1])
            found = list(predict(model, samples, config, accelerator))
        pipe.send((time.process_time() - start, found))


def full_size(folder: Path, work: Path) -> None:
    make_checkpoint(folder)
    make_samples(work, PHOTOS)
    context, pipes, children = get_context("spawn"), {}, []
    for kind in ("plain", "ours"):
        pipes[kind], other = context.Pipe()
        children.append(context.Process(target=side, args=(kind, folder, work, other)))
        children[-1].start()
        pipes[kind].recv()  # ready: nothing else of ours runs while a side is timed

    def ask(kind: str, what: tuple[str, int]) -> tuple[float, list[MaskPrediction]]:
        pipes[kind].send(what)
        found: tuple[float, list[MaskPrediction]] = pipes[kind].recv()
        return found

    ways = {"plain": ("plain", ("", 0)), "float32, photo by photo": ("ours", ("no", 1))}
    ways |= {f"{p}, by {b}": ("ours", (p, b)) for p, b in (("no", 3), ("bf16", 3))}
    kept = ask("plain", ("", 0))[1]
    for name, way in ways.items():
        found = ask(*way)[1]
        off = max(np.abs(a.probability - b.probability).max() for a, b in zip(kept, found, strict=True))
        print(f"{name}: probabilities differ from transformers' by at most {off:.1e}")
    said("bf16, random weights", kept, found, float(np.median([p.probability for p in kept])))
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
        row[mask.bool()].tolist() for part in parts for row, mask in zip(*part.prompts.inputs.values(), strict=True)
    ]
    prompts = ToEncode(model.texts.batch(rows), [key for part in parts for key in part.prompts.keys])
    photos = ToEncode(torch.cat([part.photos.inputs for part in parts]))
    ids, shapes = ([x for part in parts for x in getattr(part, name)] for name in ("ids", "shapes"))
    return SegBatch(ids, shapes, prompts, photos)


def of_checkpoint(ckpt: Path, data: Path, limit: int) -> None:
    prepared = open_prepared(data)

    def side(precision: str) -> list[MaskPrediction]:
        on_cpu = RuntimeOptions("cpu", no_cache=True)
        options = predict_command.PredictOptions(limit=limit, precision=precision, runtime=on_cpu)
        return list(predict_command.predictions("seg", [ckpt], prepared, "valid", options))

    kept, found = side("no"), side("bf16")
    said(f"{ckpt}, {len(kept)} valid photos, bf16", kept, found)
    rows = [(cpu(lambda: side("no")), cpu(lambda: side("bf16"))) for _ in range(ROUNDS)]
    exact, half = (statistics.median(column) / len(kept) * 1000 for column in zip(*rows, strict=True))
    ratio = statistics.median(a / b for a, b in rows)
    print(f"with reading and shrinking photos: {exact:.0f} CPU ms a photo, bf16 {half:.0f}, ratio {ratio:.2f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    given = sys.argv[1:]
    with tempfile.TemporaryDirectory() as temporary:
        full_size(Path(given[0] if given else temporary), Path(temporary))
    if len(given) > 2:
        of_checkpoint(Path(given[1]), Path(given[2]), int(given[3]) if len(given) > 3 else 40)

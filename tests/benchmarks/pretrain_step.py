"""A training step of contrastive pretraining on cached features of frozen encoders, beside the naive step.

    python tests/benchmarks/pretrain_step.py PREPARED... [--batch 64] [--steps 5] [--set key=value ...]

The naive step decodes and encodes every photo, and encodes every caption of every photo, in each step, as open_clip's
loop does with frozen towers; ours reads features that were computed once. Both compute the same loss and its gradient
for the projections. Medians of alternating steps in one run; all features are cached before the first.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from magic_cli import tasks
from magic_cli.config import resolve
from magic_cli.data.prepared import open_prepared
from magic_cli.data.questions import NO_QUESTIONS
from magic_cli.data.texts.pair_texts import pair_texts
from magic_cli.tasks.encoding import ToEncode, encoded, photo_item, text_windows
from magic_cli.tasks.pretrain.config import PretrainConfig
from magic_cli.tasks.pretrain.model import PretrainModel
from magic_cli.training import runtime
from magic_cli.training.devices import accelerator_for
from magic_cli.training.inference import fill_cache


def seconds(step: Callable[[], object]) -> float:
    """Return how long a step takes."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--set", dest="settings", nargs="*", default=[])
    given = parser.parse_args()
    task, config = tasks.get("pretrain"), resolve(PretrainConfig, "small", [*given.settings, "views=1"])
    sets = [task.training_samples(open_prepared(path), "train", config) for path in given.data]
    samples = [samples[i] for i in range(given.batch // len(sets) + 1) for samples in sets][: given.batch]
    accelerator = accelerator_for(config, "cpu")
    model = task.build(config, NO_QUESTIONS)
    if not isinstance(model, PretrainModel):
        raise TypeError("not the model of pretraining")
    cache = runtime.RuntimeOptions("cpu").runtime().features(config)
    model.cache = cache
    fill_cache(model, samples, 1, accelerator)
    model.begin(samples)
    model.train()
    views = [0] * len(samples)
    captions = [text for sample in samples for text in pair_texts(sample.case).all if text]

    def ours() -> None:
        model.cache = cache
        model(model.collate(samples, views)).backward()

    def naive() -> None:
        model.cache = None
        photos = model.images.batch([photo_item(model.images, s.images[0], 0).load() for s in samples])
        with torch.no_grad():
            features = model.images.features(photos)
            for first in range(0, len(captions), 64):
                windows = [item for text in captions[first : first + 64] for item in text_windows(model.texts, text)]
                encoded(model.texts, ToEncode(model.texts.batch([item.load() for item in windows])))
        batch = replace(cached, photos=replace(cached.photos, features=features))
        model(batch).backward()

    cached = model.collate(samples, views)
    naive(), ours()
    times = [(seconds(naive), seconds(ours)) for _ in range(given.steps)]
    slow, fast = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times)
    print(f"batch {len(samples)}, {len(captions)} captions, {len(set(captions))} distinct")
    print(f"naive {slow:.2f} s, cached {fast:.3f} s, ratio {ratio:.1f} (median of {given.steps} pairs)")


if __name__ == "__main__":
    main()

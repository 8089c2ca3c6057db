"""One training step of the mask model, part by part, for encoders with and without frozen first stages, in turn.

    python tests/benchmarks/mask_step.py [--size 256] [--rounds 7]

A step is 16 random views (crop, turn, colour), forward, backward and AdamW. Prints the median seconds of each part,
and the median of the ratios to the first row of the encoder, round by round. Pixels are noise: times do not depend on
what they show.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torchvision.transforms import v2

from magic_cli.models.augment import Augment
from magic_cli.models.efficientnet_lite import Lite0, Lite2
from magic_cli.models.fine_tuning import set_finetuning
from magic_cli.models.heads import PyramidDecoder
from magic_cli.models.masks.losses import supervised_loss
from magic_cli.training.devices import keep_memory

BATCH = 16


def seconds(run: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def step(kind: type[Lite0], size: int, frozen: int, deeply: bool = False) -> Callable[[], None]:
    """Return a training step on a batch of noise, with or without deep supervision."""
    encoder = kind(size, "pyramid")
    set_finetuning(encoder, "all", 8, frozen)
    encoder.train()
    decoder = PyramidDecoder(encoder.channels, 384, 64, 0.1, deeply=deeply)
    pixels = torch.randint(0, 256, (BATCH, 3, size, size)).to(torch.uint8)
    masks, text = torch.rand(BATCH, size, size), torch.randn(BATCH, 384)
    learning = [p for module in (encoder, decoder) for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning)

    def run() -> None:
        optimizer.zero_grad()
        supervised_loss(decoder.maps(encoder.features(pixels), text), masks, "bce+dice", 0.5).backward()
        optimizer.step()

    return run


def views(size: int, hue: float) -> Callable[[], None]:
    """Return the making of a batch of views, with the hue changed by up to `hue` or, at 0, left alone."""
    side = size * 3 // 2
    photo, mask = (torch.randint(0, 256, (c, side, side)).to(torch.uint8) for c in (3, 1))
    augment = Augment(size, 0.5, 0.2)
    augment.colour = v2.ColorJitter(0.2, 0.2, 0.2, hue)

    def run() -> None:
        for seed in range(BATCH):
            augment(photo, mask[0], seed)

    return run


def compare(name: str, runs: Sequence[tuple[str, Callable[[], None]]], rounds: int) -> None:
    """Print the medians of runs in turn, and the ratios to the first."""
    for _, run in runs:
        run()
    times = [[seconds(run) for _, run in runs] for _ in range(rounds)]
    for number, (label, _) in enumerate(runs):
        median = statistics.median(row[number] for row in times)
        ratio = statistics.median(row[0] / row[number] for row in times)
        print(f"{name}, {label}: {median:.2f} s a step of {BATCH}, {ratio:.2f} times as fast as the first", flush=True)


def main(words: Sequence[str] | None = None) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(words)
    keep_memory()
    torch.set_flush_denormal(True)
    for kind in (Lite0, Lite2):
        rows = [(f"{frozen} frozen stages", step(kind, given.size, frozen)) for frozen in (0, 2, 3)]
        rows.append(("2 frozen stages, deep supervision", step(kind, given.size, 2, deeply=True)))
        compare(f"network, {kind.kind}", rows, given.rounds)
    jitters = [("with hue", views(given.size, 0.025)), ("without", views(given.size, 0.0))]
    compare("views", jitters, given.rounds)


if __name__ == "__main__":
    main()

"""The `paper` preset on a full-size CLIPSeg with random weights: is it transformers' model, and what does a step cost?

Run: OMP_NUM_THREADS=1 python tests/benchmarks/clipseg.py [FOLDER]   (the checkpoint, 600 MB, is made in FOLDER once)

One thread, CPU seconds (user + system), both sides in turn, each in its own process, medians. The plain side is what
the paper describes: transformers' forward with both encoders (under no_grad) at every step, loss by `labels`, AdamW.
It is spared reading photos and masks; ours reads features and masks from the disk within the step.
"""

import argparse
import ctypes
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, CLIPTokenizerFast, ViTImageProcessor

from magic_cli.config import resolve
from magic_cli.data.imaging.masks import write_mask
from magic_cli.data.questions import load_questions
from magic_cli.io.files import sha256
from magic_cli.models.cache.features import FeatureCache
from magic_cli.records import Case, ImageRecord, Sample
from magic_cli.tasks.encoding import Encoded, ToEncode
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.tasks.seg.model import SegModel, build
from magic_cli.training.devices import accelerator_for
from magic_cli.training.loader import to_device
from magic_cli.training.updates import optimizer_for

NAME = "clipseg-rd64-refined"
PHOTO = (2100, 2400)  # five megapixels, as the challenge's mean
IMAGES, EPOCHS, BATCH, ROUNDS = 2474, 25, 4, 3


def make_checkpoint(folder: Path) -> Path:
    """Save a CLIPSeg of rd64-refined's sizes with random weights, a tokenizer of letters, and a processor."""
    place = folder / NAME
    if not (place / "preprocessor_config.json").is_file():
        torch.manual_seed(0)
        vision = {"patch_size": 16, "image_size": 224}  # everything else as CLIP ViT-B/16: the library's own defaults
        config = CLIPSegConfig(
            vision_config=vision, reduce_dim=64, extract_layers=[3, 6, 9], use_complex_transposed_convolution=True
        )
        CLIPSegForImageSegmentation(config).save_pretrained(place)
        letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
        vocabulary = {word: i for i, word in enumerate([*letters, *(f"{c}</w>" for c in letters)])}
        vocabulary |= {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
        place.joinpath("vocab.json").write_text(json.dumps(vocabulary))
        place.joinpath("merges.txt").write_text("#version: 0.2\n")
        CLIPTokenizerFast(str(place / "vocab.json"), str(place / "merges.txt")).save_pretrained(place)
        mean_std = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
        ViTImageProcessor(size={"height": 352, "width": 352}, resample=2, **mean_std).save_pretrained(place)
    return folder


def make_samples(folder: Path, count: int) -> None:
    """Write photos of five megapixels with an ellipse as lesion, and their masks."""
    height, width = PHOTO
    rows, columns = np.mgrid[:height, :width]
    for number in range(count):
        drawn = np.random.default_rng(number)
        y, x, r = drawn.uniform(0.3, 0.7) * height, drawn.uniform(0.3, 0.7) * width, drawn.uniform(0.1, 0.25) * height
        mask = ((rows - y) ** 2 + (columns - x) ** 2 <= r**2).astype(np.uint8)
        noise = Image.fromarray(drawn.integers(0, 80, (60, 70, 3), dtype=np.uint8)).resize((width, height))
        skin = np.asarray(noise) + np.where(mask[..., None] == 1, (90, 50, 40), (160, 120, 100)).astype(np.uint8)
        Image.fromarray(skin.astype(np.uint8)).save(folder / f"{number}.jpg", quality=90)
        write_mask(folder / f"{number}.tiff", mask)


def read_samples(folder: Path) -> list[Sample]:
    """Return the photos that `make_samples` wrote, each with a prompt of its own.

    Prompts fill the window of 77 tokens or nearly so, as in the challenge: a median of 86 tokens, 56 % above 77.
    """
    samples, questions = [], load_questions(None)
    answers = questions.to_slots(questions.empty_sets())
    for photo in sorted(folder.glob("*.jpg")):
        number = int(photo.stem)
        prompt = ("red itchy spots on the arm " * (4 - number % 3 // 2), "eczema try a cream " * (number % 3))
        case = Case(f"ENC{number:05}", "train", (), {}, *prompt, answers)
        mask, content = str(photo.with_suffix(".tiff")), sha256(photo)
        record = ImageRecord(photo.stem, case.case_id, case.split, str(photo), *PHOTO, mask=mask, sha256=content)
        samples.append(Sample(photo.stem, case, (record,)))
    return samples


def cpu(work: Callable[[], object]) -> float:
    """Return the CPU seconds of this process that `work` takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def peak(work: Callable[[], object]) -> float:
    """Return the most memory in MiB that the process held while `work` ran (Linux)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before is not this step's
    Path("/proc/self/clear_refs").write_text("5")
    work()
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def inputs_of(items: Encoded | ToEncode) -> Any:
    """Return what an encoder is given: a tensor of pixels, or tensors of token ids and their mask by name."""
    assert isinstance(items, ToEncode)
    return items.inputs


def model_for(config: SegConfig, root: Path | None) -> SegModel:
    model = build(config, load_questions(None))
    model.cache = FeatureCache(root, config.cache_dtype) if root else None
    return model.train()


def fill(model: SegModel, samples: list[Sample]) -> None:
    """Encode a batch's photos and prompts at a time: the same sums as transformers' forward on that batch."""
    assert model.cache is not None
    for first in range(0, len(samples), BATCH):
        wanted = list(model.frozen(samples[first : first + BATCH], 1))
        for encoder in (model.images, model.texts):
            items = [item for owner, item in wanted if owner is encoder]
            model.cache.fill(encoder, items, torch.device("cpu"), BATCH)


class Plain:
    """The plain loop over transformers' CLIPSegForImageSegmentation."""

    def __init__(self, folder: Path, model: SegModel, samples: list[Sample]) -> None:
        self.net = CLIPSegForImageSegmentation.from_pretrained(folder / NAME).train()
        self.net.clip.requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.net.decoder.parameters(), lr=9e-4)
        model.cache, cache = None, model.cache
        batch = model.collate(samples, [0] * len(samples))
        model.cache = cache
        assert batch.masks is not None
        self.text = inputs_of(batch.prompts)
        self.pixels = model.images.normalise(inputs_of(batch.photos[0]))
        self.masks = batch.masks.float() / 255

    def step(self) -> None:
        out = self.net(pixel_values=self.pixels, labels=self.masks, **self.text)
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.decoder.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def equivalence(plain: Plain, exact: SegModel, half: SegModel, samples: list[Sample]) -> None:
    batch = exact.collate(samples, [0] * len(samples))
    with torch.no_grad():
        torch.set_flush_denormal(False)  # theirs as anybody would run it
        theirs = plain.net.eval()(pixel_values=plain.pixels, **plain.text).logits
        torch.set_flush_denormal(True)
        ours, rounded = exact._logits(batch), half._logits(half.collate(samples, [0] * len(samples)))
    plain.net.train()
    off, spread = (rounded - theirs).abs().max().item(), theirs.std().item()
    a, b = rounded > theirs.median(), theirs > theirs.median()
    dice = 2 * (a & b).sum().item() / (a.sum() + b.sum()).item()
    print(f"logits on the float32 cache equal transformers' forward: {torch.equal(ours, theirs)}")
    print(f"float16 cache: logits differ by at most {off:.2g} (their sd {spread:.3g}), masks agree at Dice {dice:.4f}")
    before = {name: t.clone() for name, t in exact.state_dict().items() if not name.startswith("head.")}
    exact.loss(batch).backward()
    learning = [(name, p) for name, p in exact.named_parameters() if p.requires_grad]
    total = sum(p.numel() for p in plain.net.parameters())
    print(f"learning: {sum(p.numel() for _, p in learning):,} of transformers' {total:,} parameters, all in", end=" ")
    print({n.split(".")[0] for n, _ in learning}, "each with a gradient:", all(p.grad is not None for _, p in learning))
    optimizer_for(exact, exact.config).step()
    same = all(torch.equal(t, exact.state_dict()[name]) for name, t in before.items())
    no_gradient = all(p.grad is None for p in [*exact.images.parameters(), *exact.texts.parameters()])
    print(f"encoders after a step: bit-identical {same}, without gradients {no_gradient}")


def trained(folder: Path, work: Path, samples: list[Sample], pipe: Connection) -> Callable[[], None]:
    """Check that our model is transformers', time the cache build, and return a step as training/trainer.py does it."""
    common = {"weights_dir": str(folder)}
    kinds = ("float32", "float16")
    configs = [resolve(SegConfig, "paper", [f"cache_dtype={kind}", "workers=0"], **common) for kind in kinds]
    accelerator = accelerator_for(configs[1], "cpu")
    exact, half = (model_for(config, work / "features") for config in configs)
    first = samples[:BATCH]
    builds = [cpu(partial(fill, half, part)) / BATCH for part in (first, samples[BATCH:])]
    fill(exact, first)
    equivalence(Plain(folder, exact, first), exact, half, first)
    assert half.cache is not None
    size = sum(path.stat().st_size for path in half.cache.root.rglob("*.safetensors")) / len(samples)
    pipe.send((statistics.median(builds), size / 2**20))
    del exact
    gc.collect()
    optimizer = optimizer_for(half, configs[1])

    def step() -> None:
        (batch,) = to_device([half.collate(first, [0] * BATCH)], accelerator.device)
        accelerator.backward(half(batch))
        accelerator.clip_grad_norm_(half.head.parameters(), configs[1].grad_clip_norm)
        optimizer.step()
        optimizer.zero_grad()

    return step


def side(kind: str, folder: Path, work: Path, pipe: Connection) -> None:
    """Be one of the two processes: make a step ready, then take one and send its CPU seconds when asked."""
    torch.set_num_threads(1)
    samples = read_samples(work)
    if kind == "ours":
        step = trained(folder, work, samples, pipe)
    else:
        config = resolve(SegConfig, "paper", weights_dir=str(folder))
        model = model_for(config, None)
        plain = Plain(folder, model, samples[:BATCH])
        del model
        gc.collect()
        step = plain.step
    step()
    pipe.send("ready")
    while (asked := pipe.recv()) != "end":
        if asked == "denormals":
            torch.set_flush_denormal(False)
        pipe.send(peak(step) if asked == "peak" else cpu(step))


def compare(folder: Path, work: Path) -> None:
    """Make the checkpoint and the photos, run both sides in turn, print."""
    make_samples(work, 2 * BATCH)
    make_checkpoint(folder)
    context = get_context("spawn")
    pipes, children = {}, []
    for kind in ("ours", "plain"):
        pipes[kind], other = context.Pipe()
        children.append(context.Process(target=side, args=(kind, folder, work, other)))
        children[-1].start()
        if kind == "ours":
            build, size = pipes[kind].recv()
        pipes[kind].recv()  # ready: nothing else runs while a step is timed

    def ask(kind: str, what: str = "step") -> float:
        pipes[kind].send(what)
        cost: float = pipes[kind].recv()
        return cost

    pairs = [(ask("plain"), statistics.median(ask("ours") for _ in range(ROUNDS))) for _ in range(ROUNDS)]
    theirs, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = [a / b for a, b in pairs]
    print(f"step of {BATCH}: plain {theirs:.2f} CPU s, on cached features {ours:.3f} CPU s", end="; ")
    print(f"ratio {statistics.median(ratios):.1f} (pairs {', '.join(f'{ratio:.1f}' for ratio in ratios)})")
    print(f"peak memory: plain {ask('plain', 'peak'):.0f} MiB, ours {ask('ours', 'peak'):.0f} MiB; ", end="")
    print(f"cache {size:.2f} MiB an image")
    slow = statistics.median(ask("ours", "denormals") for _ in range(ROUNDS))
    print(f"(our step with denormal numbers computed: {slow:.3f} CPU s)")
    print(f"cache build {build:.2f} CPU s an image: its photo of five megapixels decoded, it and its prompt encoded")
    steps = EPOCHS * IMAGES / BATCH
    whole = IMAGES * build + steps * ours
    print(
        f"{EPOCHS} epochs of {IMAGES} images, the sum of these parts: plain {steps * theirs / 3600:.1f} CPU h,", end=" "
    )
    print(f"ours {whole / 3600:.2f} CPU h with the cache build; ratio {steps * theirs / whole:.1f}")
    for pipe in pipes.values():
        pipe.send("end")
    for child in children:
        child.join()


def main(words: Sequence[str] | None = None) -> None:
    """Parse, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="folder of the checkpoint; a temporary one otherwise")
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as temporary:
        compare(given.folder or Path(temporary), Path(temporary))


if __name__ == "__main__":
    main()

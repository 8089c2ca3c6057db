"""On one GPU, in eight minutes: whether everything works there, and how fast.

    python tests/benchmarks/gpu.py [--out gpu.json] [--minutes 7] [--only NAME ...]
    python tests/benchmarks/gpu.py --device cpu --tiny     # a rehearsal of the same code

It downloads nothing: data are drawn, and models of full size have random weights. It needs what `pip install .` brings,
but for the packages with weights. Prints a Markdown table, and with --out writes it as JSON; ends with 1 if anything is
not as expected. Checks come first (tests/builders/gpu_checks.py, which tests/gpu has, too), then speed: training steps
on batches that are on the GPU already, medians of alternating steps, beside plain loops of transformers and timm with
the same network, batch and precision; with `torch.compile`; with and without deterministic algorithms.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "builders"))

import torch
from full_size_models import CLIP, DINO, save_clip_model, save_dino
from gpu_checks import Check, Row, World, checks, timed
from torch import Tensor, nn
from torch.nn import functional as F

from magic_cli import tasks
from magic_cli.config import Config, resolve
from magic_cli.data.questions import NO_QUESTIONS
from magic_cli.errors import WeightsError
from magic_cli.models.heads import PyramidDecoder
from magic_cli.tasks import config_class
from magic_cli.tasks.encoding import ToEncode
from magic_cli.tasks.pretrain.memory import Comparison, Transformer, states
from magic_cli.tasks.pretrain.model import PretrainModel
from magic_cli.tasks.pretrain.model.contrastive import LEVELS, PretrainBatch
from magic_cli.tasks.seg.model import SegBatch, SegModel
from magic_cli.training.cached_accumulation import ChunkedModel, backward_in_parts
from magic_cli.training.devices import accelerator_for, set_determinism
from magic_cli.training.task_model import Batch, TaskModel
from magic_cli.training.updates import optimizer_for

WARM, STEPS = 3, 10

TEXTS = 11  # of a photo, as in MAKE: raw, disease, concept and eight sentences

Step = Callable[[], object]


@dataclass(frozen=True)
class Sizes:
    """What is timed; the tiny one is a rehearsal."""

    photos: int = 64
    pairs: int = 256
    side: int = 224
    dino_side: int = 504
    tokens: int = 77
    micro_batch: int = 128
    batches: tuple[int, ...] = (2048, 16_384)
    is_tiny: bool = False


TINY = Sizes(2, 4, 32, 56, 12, 2, (4, 8), is_tiny=True)


def built(world: World, task: str, preset: str, *settings: str) -> tuple[TaskModel, Config]:
    """Return a model on the device, in training, with random weights where it is from the Hub."""
    config = resolve(config_class(task), preset, settings, weights_dir=str(world.root / "weights"))
    model = tasks.get(task).build(config, NO_QUESTIONS)
    return model.to(world.device).train(), config


def our_step(world: World, model: TaskModel, config: Config, batch: Batch) -> Step:
    """Return a step of ours, as the trainer takes it, on a batch that is on the device."""
    accelerator = accelerator_for(config, world.device)
    wrapped, optimizer = accelerator.prepare(model, optimizer_for(model, config))

    def step() -> None:
        if isinstance(model, ChunkedModel) and model.is_divided:
            backward_in_parts(wrapped, model, batch, accelerator, 1.0, True)
        else:
            with accelerator.autocast():
                loss = wrapped(batch)
            accelerator.backward(loss)
        accelerator.clip_grad_norm_(wrapped.parameters(), 1.0)
        optimizer.step()
        model.constrain()
        optimizer.zero_grad()

    return step


def plain_step(world: World, model: nn.Module, loss_of: Callable[[], Tensor]) -> Step:
    """Return a step as one writes it without a library: autocast to bfloat16, backward, clipping, AdamW."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-4)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(world.device, torch.bfloat16):
            loss = loss_of()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def pixels(world: World, count: int, side: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8).to(world.device)


def scaled(photos: Tensor) -> Tensor:
    return (photos.float() / 255 - 0.45) / 0.22


def tokens(world: World, count: int, length: int) -> dict[str, Tensor]:
    """Return random letters between a start and an end."""
    ids = torch.randint(0, 50, (count, length))
    ids[:, 0], ids[:, -1] = 58, 59
    return {"input_ids": ids.to(world.device), "attention_mask": torch.ones_like(ids).to(world.device)}


def mask_batch(world: World, model: SegModel, count: int, side: int) -> SegBatch:
    prompts = ToEncode(model.texts.batch([[1, 5]] * count)).to(world.device)
    masks = torch.randint(0, 256, (count, side, side), dtype=torch.uint8).to(world.device)
    photos = [ToEncode(pixels(world, count, side))]
    return SegBatch([str(n) for n in range(count)], [(side, side)] * count, prompts, [*photos], masks)


def pair_batch(world: World, photos: Tensor, texts: dict[str, Tensor], each: int) -> PretrainBatch:
    """Return photos with `each` texts, all distinct."""
    count = len(photos)
    index = torch.arange(count * each).view(count, each)
    batch = PretrainBatch(
        ids=[str(n) for n in range(count)],
        photos=ToEncode(photos),
        windows=ToEncode(texts),
        owner=index.flatten(),
        index=index,
        mask=torch.ones(count, each, dtype=torch.bool),
        text_ids=index + 1,
        case_ids=torch.arange(count),
        paths=torch.zeros(count, LEVELS, dtype=torch.long),
    )
    return batch.to(world.device)


def dino(world: World, sizes: Sizes) -> dict[str, Callable[[], Step]]:
    """Masks with preset large; the plain loop has the network of transformers and one convolution."""
    from transformers import Dinov2Model

    side, count = sizes.dino_side, sizes.photos // 4 or 1
    settings = ("text_encoder=tiny", f"image_size={side}", f"batch_size={count}", "precision=bf16", "dropout=0")

    def ours(compiles: bool = False) -> Step:
        model, config = built(world, "seg", "large", *settings)
        if compiles:
            compile_encoder(model, sizes)
        return our_step(world, model, config, mask_batch(world, model, count, side))  # type: ignore[arg-type]

    def plain() -> Step:
        net = Dinov2Model.from_pretrained(world.root / "weights" / DINO).to(world.device).train()
        head = nn.Conv2d(net.config.hidden_size, 1, 1).to(world.device)
        photos, masks = pixels(world, count, side), torch.rand(count, side, side, device=world.device)
        places = side // net.config.patch_size

        def loss() -> Tensor:
            last = net(pixel_values=scaled(photos)).last_hidden_state[:, 1:]
            logits = head(last.transpose(1, 2).reshape(count, -1, places, places))
            whole = F.interpolate(logits.float(), (side, side), mode="bilinear", align_corners=False)[:, 0]
            return F.binary_cross_entropy_with_logits(whole, masks)

        return plain_step(world, nn.ModuleList([net, head]), loss)

    return {"plain transformers": plain, "magic": ours, "magic, compiled": partial(ours, compiles=True)}


def clip(world: World, sizes: Sizes) -> dict[str, Callable[[], Step]]:
    """CLIP with one text a photo: the very same network and loss in both loops."""
    from transformers import CLIPModel

    photos = pixels(world, sizes.pairs, sizes.side)
    texts = tokens(world, sizes.pairs, sizes.tokens)
    settings = ("objective=infonce", "local_weight=0", "subtexts=false", "gradient_checkpointing=false")
    settings += (
        f"image_size={sizes.side}",
        f"batch_size={sizes.pairs}",
        "precision=bf16",
        "crop=1",
        "colour=0",
        "grey=0",
    )

    def ours(compiles: bool = False) -> Step:
        model, config = built(world, "pretrain", "paper", *settings)
        if compiles:
            compile_encoder(model, sizes)
        return our_step(world, model, config, pair_batch(world, photos, texts, 1))

    def plain() -> Step:
        net = CLIPModel.from_pretrained(world.root / "weights" / CLIP).to(world.device).train()
        return plain_step(world, net, lambda: net(**texts, pixel_values=scaled(photos), return_loss=True).loss)

    return {"plain transformers": plain, "magic": ours, "magic, compiled": partial(ours, compiles=True)}


def lite0(world: World, sizes: Sizes) -> dict[str, Callable[[], Step]]:
    """Masks with EfficientNet-Lite0, all of it tuned; the plain loop has timm's network and our decoder."""
    import timm

    count, side = sizes.photos, 64 if sizes.is_tiny else 256
    settings = ("ensemble=", "text_encoder=tiny", "frozen_stages=0", f"image_size={side}", "precision=bf16", "crop=1")

    def ours(compiles: bool = False) -> Step:
        model, config = built(world, "seg", "small", *settings, "colour=0", f"batch_size={count}")
        if compiles:
            compile_encoder(model, sizes)
        return our_step(world, model, config, mask_batch(world, model, count, side))  # type: ignore[arg-type]

    def plain() -> Step:
        net = timm.create_model("efficientnet_lite0", pretrained=False, features_only=True).to(world.device).train()
        channels = net.feature_info.channels()[1:]
        head = PyramidDecoder(channels, 32, 64, 0.1).to(world.device)
        photos, masks = pixels(world, count, side), torch.rand(count, side, side, device=world.device)
        text = torch.zeros(count, 32, device=world.device)

        def loss() -> Tensor:
            levels = net(scaled(photos).contiguous(memory_format=torch.channels_last))[1:]
            logits = head({f"p{n}": level for n, level in enumerate(levels)}, text)
            whole = F.interpolate(logits.float()[:, None], (side, side), mode="bilinear", align_corners=False)[:, 0]
            return F.binary_cross_entropy_with_logits(whole, masks)

        return plain_step(world, nn.ModuleList([net, head]), loss)

    return {"plain timm": plain, "magic": ours, "magic, compiled": partial(ours, compiles=True)}


def compile_encoder(model: TaskModel, sizes: Sizes) -> None:
    """Compile the image encoder; the rehearsal leaves the compiler itself out."""
    model.get_submodule("images").compile(backend="eager" if sizes.is_tiny else "inductor")


def speed(
    world: World, sizes: Sizes, name: str, make: Callable[..., dict[str, Callable[[], Step]]], photos: int
) -> list[Row]:
    """Time the steps in turn; what cannot be made or compiled is told, and left out."""
    rows, runs = [], {}
    for label, build in make(world, sizes).items():
        try:
            run = build()
            first = timed(world, run)
        except WeightsError as error:
            rows.append(Row(name, label, f"left out: {str(error)[:60]}"))
            continue
        except Exception as error:
            if "compiled" not in label:
                raise
            rows.append(Row(name, label, f"left out: {type(error).__name__}: {str(error).splitlines()[0][:80]}"))
            continue
        runs[label] = partial(_varying, run) if label.startswith("plain") else run  # as one runs it
        rows.append(Row(name, f"{label}, first step", f"{first:.2f} s"))
    if "magic" in runs:
        runs["magic, not deterministic"] = partial(_varying, runs["magic"])
    warm, steps = (1, 2) if sizes.is_tiny else (WARM, STEPS)
    seconds: Mapping[str, list[float]] = {label: [] for label in runs}
    for _ in range(warm + steps):
        for label, run in runs.items():
            seconds[label].append(timed(world, run))
    medians = {label: statistics.median(times[warm:]) for label, times in seconds.items()}
    plain = next((medians[label] for label in medians if label.startswith("plain")), 0.0)
    for label, median in medians.items():
        beside = f", {plain / median:.2f} times the plain loop" if plain else ""
        rows.append(Row(name, label, f"{photos / median:,.0f} photos/s, {1000 * median:.0f} ms{beside}"))
    return rows


def _varying(run: Step) -> None:
    set_determinism(False)
    try:
        run()
    finally:
        set_determinism(None)


def large_batch(world: World, sizes: Sizes, photos: int) -> list[Row]:
    """A whole contrastive step of CLIP ViT-B/16 with 11 texts a photo, encoded in parts; memory beside arithmetic."""
    settings = (
        f"image_size={sizes.side}",
        f"batch_size={photos}",
        f"micro_batch={sizes.micro_batch}",
        "precision=bf16",
    )
    model, config = built(world, "pretrain", "paper", *settings, "crop=1", "colour=0", "grey=0", "chunk_rows=1024")
    assert isinstance(model, PretrainModel)
    texts = tokens(world, photos * TEXTS, sizes.tokens)
    run = our_step(world, model, config, pair_batch(world, pixels(world, photos, sizes.side), texts, TEXTS))
    rows: list[Row] = []
    name = f"step of {photos:,} photos"
    with world.memory(name, rows):
        seconds = timed(world, run)
    rows.append(Row(name, "seconds", f"{seconds:.1f}, {photos / seconds:,.0f} photos/s"))
    compared = Comparison(photos, TEXTS, TEXTS - 3, 512, 1, 196)
    kept = Transformer(197, 768, 12), Transformer(77, 512, 12)
    encoders = [each.activations(half=True, recomputed=True) for each in kept]
    parts = sizes.micro_batch * (encoders[0] + TEXTS * encoders[1])
    whole = states(149_600_000, 0) + parts + compared.loss(1024) + 2 * (compared.gathered + compared.local_vectors)
    says = "weights, moments, a part's activations, vectors and their gradients, the loss; without pixels"
    rows.append(Row(name, "by arithmetic", f"{whole / 1e6:,.0f} MB", says))
    return rows


def all_checks(sizes: Sizes) -> dict[str, Check]:
    """Return every check and every time by name, in the order of what one wants to know first."""
    found = dict(checks(sizes.is_tiny))
    found["speed pretrain"] = lambda w: speed(w, sizes, "speed pretrain, CLIP ViT-B/16", clip, sizes.pairs)
    found["speed seg"] = lambda w: speed(w, sizes, "speed seg, DINOv2 base", dino, sizes.photos // 4 or 1)
    found["speed lite0"] = lambda w: speed(w, sizes, "speed seg, Lite0", lite0, sizes.photos)
    for photos in sizes.batches:
        found[f"batch {photos}"] = partial(large_batch, sizes=sizes, photos=photos)
    return found


def run_checks(world: World, sizes: Sizes, chosen: Sequence[str], minutes: float) -> list[Row]:
    """Run the checks whose name has one of these words, all without any, as long as there is time."""
    rows: list[Row] = []
    start = time.monotonic()
    save_clip_model(world.root / "weights" / CLIP, sizes.is_tiny)
    save_dino(world.root / "weights" / DINO, sizes.is_tiny)
    for name, check in all_checks(sizes).items():
        if chosen and not any(word in name for word in chosen):
            continue
        if time.monotonic() - start > 60 * minutes:
            rows.append(Row(name, "not run", f"after {minutes:g} minutes"))
            continue
        began = time.monotonic()
        try:
            rows += check(world)
        except Exception as error:  # the others are still worth knowing
            traceback.print_exc()
            rows.append(Row(name, "failed", f"{type(error).__name__}: {str(error)[:160]}", ok=False))
        if world.is_cuda:
            torch.cuda.empty_cache()
        print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    return rows


def machine(world: World) -> dict[str, str]:
    """Return what ran: device, and versions."""
    import accelerate
    import timm
    import transformers

    modules = {"torch": torch, "transformers": transformers, "timm": timm, "accelerate": accelerate}
    device = torch.cuda.get_device_name() if world.is_cuda else "CPU, a rehearsal"
    return {"device": device, **{name: str(module.__version__) for name, module in modules.items()}}


def table(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table."""
    lines = ["| check | what | value | expected | |", "|---|---|---|---|---|"]
    for row in rows:
        cells = (row.check, row.what, row.value, row.expected, "" if row.ok else "**not so**")
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Parse, run, print, write; return 1 if anything is not as expected."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small models and batches")
    parser.add_argument("--minutes", type=float, default=7.0, help="nothing is begun after these")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="checks whose name has one of these")
    parser.add_argument("--out", type=Path, help="write JSON there")
    given = parser.parse_args(words)
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device here; --device cpu --tiny rehearses the code")
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), given.device)
        rows = run_checks(world, TINY if given.tiny else Sizes(), given.only, given.minutes)
    facts = machine(world)
    print(", ".join(f"{name} {value}" for name, value in facts.items()), "\n")
    print(table(rows))
    if given.out:
        found = {"machine": facts, "rows": [asdict(row) for row in rows]}
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(not all(row.ok for row in rows))


if __name__ == "__main__":
    sys.exit(main())

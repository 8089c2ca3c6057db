"""`magic predict`: its options, and how they become those of commands/predict.py and commands/vote.py."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from magic_cli.cli import options as opt
from magic_cli.cli.output import emit
from magic_cli.cli.usage_errors import given, stray_word
from magic_cli.io.progress import loading_torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from magic_cli.commands.prediction.options import PredictOptions
    from magic_cli.report.run_text import PredictResult, VoteResult
    from magic_cli.training.runtime import RuntimeOptions


def voting(context: typer.Context, task: str, ckpt: list[Path], preds: list[Path], vote: bool) -> bool:
    """Return whether `predict` merges predictions instead of loading checkpoints.

    Raises:
        typer.BadParameter: options of both, too few predictions, or a task whose predictions cannot be merged.
    """
    from magic_cli import tasks

    if vote and not tasks.get(task).supports_vote:
        able = " or ".join(name for name in tasks.NAMES if tasks.get(name).supports_vote)
        raise typer.BadParameter(f"--vote merges closed answers: magic predict {able} --vote ..., not {task}")
    if ckpt and vote:
        raise typer.BadParameter("--ckpt or --vote PRED..., not both")
    if preds and not vote:
        raise typer.BadParameter(stray_word(str(preds[0]), context))
    if not ckpt and not vote:
        raise typer.BadParameter("--ckpt FILE is missing")
    if vote and len(preds) < 2:
        raise typer.BadParameter(f"--vote needs two predictions or more, got {len(preds)}")
    if vote and (unused := given(context) - _VOTED):
        names = ", ".join(sorted(f"--{name.replace('_', '-')}" for name in unused))
        raise typer.BadParameter(f"--vote only merges finished answers; leave out {names}")
    return vote


def _merged(preds: list[Path], where: tuple[Path, str, Path | None], overwrite: bool, dry_run: bool) -> "VoteResult":
    """Return finished predictions merged; `where` is the dataset, its split and the output folder."""
    from magic_cli.commands import vote as votes

    return votes.vote(preds, *where, votes.VoteOptions(overwrite, dry_run))


_VOTED = {"task", "preds", "vote", "data", "split", "out", "overwrite", "dry_run", "as_json"}


_TTA = "Average over flipped views, or predict one; default: the model's."

Tta = Annotated[bool | None, typer.Option("--tta/--no-tta", help=_TTA)]

_ZOOM = (
    "seg: look again at small lesions, at a part of FACTOR sides of the first mask; 0: do not; default: the model's."
)

Zoom = Annotated[float | None, typer.Option(metavar="FACTOR", help=_ZOOM)]

_CUT = "seg: probability above which a pixel is lesion; default: the checkpoint's own."

Threshold = Annotated[float | None, typer.Option(min=0.001, max=0.999, help=_CUT)]

Largest = Annotated[bool, typer.Option("--largest", help="seg: keep only the largest region.")]

FillHoles = Annotated[bool, typer.Option("--fill-holes", help="seg: fill holes in lesions.")]

_PROMPT = "seg: the prepared text (own), or a step of the prompt ladder; default: as in training."

Prompt = Annotated[
    Literal["own", "p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9"] | None,
    typer.Option(metavar="own|p0...p9", help=_PROMPT),
]

_REWORD = (
    "Ask in other words: the query of seg and cvqa (synonyms, case, punctuation, frame, markup), the closed questions "
    "(question-1 to question-3), or zero-shot prompts of pretrain (templates-1, templates-2)."
)

Reword = Annotated[
    Literal[
        "synonyms",
        "case",
        "punctuation",
        "frame",
        "markup",
        "question-1",
        "question-2",
        "question-3",
        "templates-1",
        "templates-2",
    ]
    | None,
    typer.Option(metavar="RULE", help=_REWORD),
]
_ZERO_SHOT = "seg: masks of where photos are like this text, by a --ckpt of pretraining."

ZeroShot = Annotated[str | None, typer.Option("--zero-shot", metavar="TEXT", help=_ZERO_SHOT)]

_BACKGROUND = "seg: with --zero-shot, a text whose similarity is taken off, such as 'healthy skin'."

Background = Annotated[str | None, typer.Option(metavar="TEXT", help=_BACKGROUND)]

_SALIENCY = "seg: with --zero-shot, cosines of patches (default) or Grad-CAM."

Saliency = Annotated[Literal["similarity", "gradient"] | None, typer.Option(help=_SALIENCY)]

_SAM = "seg: with --zero-shot, a SAM (facebook/sam-vit-base) that makes a mask of the box around the region."

Sam = Annotated[str | None, typer.Option(metavar="NAME", help=_SAM)]

_DECODE = "cvqa: decide slot by slot, or choose the set with the highest expected score; default: as in training."

Decode = Annotated[Literal["slot", "set"] | None, typer.Option(help=_DECODE)]

_CLASSES = 'pretrain: classes to choose from, "a, b, c", or a file of them; default: those of the split.'

Classes = Annotated[str | None, typer.Option(metavar="NAMES|FILE", help=_CLASSES)]

_CONCEPTS = "pretrain: concepts, one per line, or JSON with synonyms; default: those of the split."

ConceptsFile = Annotated[Path | None, typer.Option("--concepts", metavar="FILE", help=_CONCEPTS)]

_TEMPLATES = "pretrain: sentences with {} for the class, one per line; default: the eight of MAKE."

TemplatesFile = Annotated[Path | None, typer.Option("--templates", metavar="FILE", help=_TEMPLATES)]

_PRESENCE = "pretrain: also write, of each class, the likeness of the likest place; scored as present or absent."

Presence = Annotated[bool, typer.Option("--presence", help=_PRESENCE)]

Probe = Annotated[bool, typer.Option("--probe", help="pretrain: score linear probes of the encoder instead.")]

_BY = "pretrain: classes by a linear model, fitted on train, of concept scores, sparse units or vectors."

ClassesBy = Annotated[Literal["concepts", "sparse", "joint", "encoder"] | None, typer.Option(help=_BY)]

_SPARSE = "pretrain, with classes by sparse: units of the autoencoder, and how many are active at once; 256,16."

Sparse = Annotated[str | None, typer.Option("--sparse", metavar="N,K", help=_SPARSE)]

_WHAT_IF = 'Concept bottlenecks: the answer to a case with concepts otherwise, "ID: ulcer=absent, scale=present".'

WhatIf = Annotated[str | None, typer.Option("--what-if", metavar="WORDS", help=_WHAT_IF)]

_ATTRIBUTES = "pretrain, with --probe: what vectors may tell instead of classes: sex,age,site, or ruler,hair."

Attributes = Annotated[str | None, typer.Option(metavar="NAME[,NAME]", help=_ATTRIBUTES)]

_NEIGHBOURS = "cvqa: case index (magic index build); similar train cases' answers are weighed in."

Neighbours = Annotated[str | None, typer.Option(metavar="PLACE", help=_NEIGHBOURS)]

_MODEL = "cvqa: the model that built that index; default: its own."

NeighboursCkpt = Annotated[Path | None, typer.Option("--neighbours-ckpt", metavar="FILE", help=_MODEL)]

_COUNT = "cvqa: how many similar cases."

NeighbourCount = Annotated[int, typer.Option("-k", "--neighbour-count", min=1, max=1000, help=_COUNT)]

_SHARE = "cvqa: their share of the probabilities; default: chosen on split valid."

NeighbourWeight = Annotated[float | None, typer.Option("--neighbour-weight", min=0, max=1, help=_SHARE)]

_GALLERY = "retrieve: photos to rank: split train (default), or loo, the queries' split without their own group."

Gallery = Annotated[Literal["train", "loo"] | None, typer.Option(help=_GALLERY)]

_CONTROLS = "retrieve: also rank by controls (random, text only, image cosine, ...), in OUT/controls/."

Controls = Annotated[bool, typer.Option("--controls", help=_CONTROLS)]

_BEIR = "retrieve: also write OUT/beir/, a BEIR folder. It has the words of all cases: patients' texts stay with you."

Beir = Annotated[bool, typer.Option("--beir", help=_BEIR)]

_IMAGES = "Photos, or folders of them at any depth, instead of a prepared dataset; may be repeated."

Images = Annotated[list[Path] | None, typer.Option("--images", metavar="DIR|FILE", help=_IMAGES)]

_TEXT = "What is written about --images: words or a .txt of one case, or a table with case_id and text."

Text = Annotated[str | None, typer.Option("--text", metavar="FILE|WORDS", help=_TEXT)]

_OVERLAYS = "seg: photos with their masks as PNG; default: with --images."

Overlays = Annotated[bool | None, typer.Option("--overlays/--no-overlays", help=_OVERLAYS)]

_DEPTH = "seg: probabilities as grey PNG of so many bits."

Depth = Annotated[Literal["8", "16"] | None, typer.Option("--probabilities", help=_DEPTH)]

Precision = Annotated[
    Literal["no", "bf16", "fp16"] | None, typer.Option(help="Mixed precision; default: as in training.")
]

_CKPTS = "Checkpoint, as given or in runs/TASK/, or a folder of runs (folds, seeds); several are averaged."

Ckpts = Annotated[list[Path] | None, typer.Option(help=_CKPTS)]

_SYSTEMS = "With --vote: JSON files, folders or zips of closed answers, from any system."

Preds = Annotated[list[Path] | None, typer.Argument(metavar="PRED", help=_SYSTEMS)]

_VOTE = (
    "cvqa: merge predictions. A question's answer is the option set with the highest mean accuracy (common options over"
    " the larger set), assuming all files are equally reliable; ties go to the file listed first."
)

Vote = Annotated[bool, typer.Option("--vote", help=_VOTE)]


def predict(
    context: typer.Context,
    task: opt.Task,
    preds: Preds = None,
    ckpt: Ckpts = None,
    vote: Vote = False,
    images: Images = None,
    text: Text = None,
    data: opt.Prepared = Path("prepared"),
    split: opt.Split = "test",
    out: Annotated[Path | None, typer.Option(help="Output folder; default predictions/TASK.")] = None,
    tta: Tta = None, zoom: Zoom = None,
    threshold: Threshold = None,
    largest: Largest = False,
    fill_holes: FillHoles = False,
    zero_shot: ZeroShot = None,
    background: Background = None,
    saliency: Saliency = None,
    sam: Sam = None,
    overlays: Overlays = None,
    probabilities: Depth = None,
    prompt: Prompt = None,
    reword: Reword = None,
    decode: Decode = None,
    classes: Classes = None,
    concepts: ConceptsFile = None,
    templates: TemplatesFile = None,
    presence: Presence = False,
    probe: Probe = False,
    classes_by: ClassesBy = None, sparse: Sparse = None, what_if: WhatIf = None, attributes: Attributes = None,
    neighbours: Neighbours = None,
    neighbours_ckpt: NeighboursCkpt = None,
    neighbour_count: NeighbourCount = 10,
    neighbour_weight: NeighbourWeight = None,
    gallery: Gallery = None,
    controls: Controls = False,
    beir: Beir = False,
    limit: Annotated[int | None, typer.Option(min=1, max=1_000_000_000, help="Only the first N samples.")] = None,
    precision: Precision = None,
    weights: opt.Weights = None,
    device: opt.Device = "auto", cache_dir: opt.CacheDir = None, no_cache: opt.NoCache = False,
    overwrite: opt.Overwrite = False, dry_run: opt.DryRun = False, as_json: opt.Json = False,
) -> None:  # fmt: skip
    """Predict a split or any photos: masks, one row of answers per encounter, or classes and vectors.

    Example: `magic predict seg --ckpt best.pt`, or of any photos `magic predict seg --ckpt best.pt --images DIR`
    """
    if voting(context, task, ckpt or [], preds or [], vote):
        return emit(as_json, "predict", _merged(preds or [], (data, split, out), overwrite, dry_run))
    options_class, run = _loaded()
    options = options_class(
        *(tta, threshold, largest, fill_holes, zero_shot, background, saliency, sam, prompt, reword, decode, classes),
        *(concepts, templates, presence, probe, neighbours, neighbours_ckpt, neighbour_count, neighbour_weight),
        *(gallery, controls, beir, tuple(images or ()), text, overlays, probabilities and int(probabilities), limit),
        *(precision, weights, overwrite, dry_run, _runtime(device, cache_dir, no_cache)),
        *(classes_by, sparse, what_if, attributes, zoom),
    )
    return emit(as_json, "predict", run(task, ckpt or [], data, split, out, options))


def _loaded() -> "tuple[type[PredictOptions], Callable[..., PredictResult]]":
    with loading_torch():
        from magic_cli.commands import predict as verb
    return verb.PredictOptions, verb.predict


def _runtime(device: str, cache_dir: Path | None, no_cache: bool) -> "RuntimeOptions":
    from magic_cli.training.runtime import RuntimeOptions

    return RuntimeOptions(device, cache_dir, no_cache)

"""Options that several commands share or whose declarations are long, and their checks."""

from pathlib import Path
from typing import Annotated

import typer

from magic_cli import __version__
from magic_cli.errors import printable


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"magic {__version__}")
        raise typer.Exit


def _task(name: str) -> str:
    from magic_cli import tasks

    if name not in tasks.NAMES:
        raise typer.BadParameter(f"{printable(name)!r} is not one of {', '.join(tasks.NAMES)}")
    return name


def _decode(way: str | None) -> str | None:
    if way not in (None, "slot", "set"):
        raise typer.BadParameter(f"{printable(way)!r} is not one of slot, set")
    return way


def _renamed(value: str | None) -> None:
    if value is not None:
        raise typer.BadParameter(f"renamed; use --finetune {printable(value)}")


def voting(context: typer.Context, task: str, ckpt: list[Path], preds: list[Path], vote: bool) -> bool:
    """Return whether `predict` merges predictions instead of loading checkpoints.

    Raises:
        typer.BadParameter: options of both, too few predictions, or a task whose predictions cannot be merged.
    """
    from magic_cli import tasks

    if vote and not tasks.get(task).supports_vote:
        able = " or ".join(name for name in tasks.NAMES if tasks.get(name).supports_vote)
        raise typer.BadParameter(f"--vote merges closed answers: magic predict {able} --vote ..., not {task}")
    if ckpt and (vote or preds):
        raise typer.BadParameter("--ckpt or --vote PRED..., not both")
    if not ckpt and not vote:
        raise typer.BadParameter("--ckpt FILE is missing" + (" (or --vote, for predictions)" if preds else ""))
    if vote and len(preds) < 2:
        raise typer.BadParameter(f"--vote needs two predictions or more, got {len(preds)}")
    if vote and (unused := _given(context) - _VOTED):
        names = ", ".join(sorted(f"--{name.replace('_', '-')}" for name in unused))
        raise typer.BadParameter(f"--vote only merges finished answers; leave out {names}")
    return vote


_VOTED = {"task", "preds", "vote", "data", "split", "out", "overwrite", "dry_run", "as_json"}


def _given(context: typer.Context) -> set[str]:
    """Return the parameters given on the command line."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def ablations(no_subtexts: bool, no_slra: bool, no_dkw: bool) -> list[str]:
    """Return the settings that leave out parts of MAKE's loss, as in the rows of its Table 3."""
    flags = {"subtexts=false": no_subtexts, "local_weight=0": no_slra, "weighting=none": no_dkw}
    return [setting for setting, is_given in flags.items() if is_given]


def one_dataset(data: list[Path]) -> Path:
    """Return the only dataset of a cross-validation.

    Raises:
        typer.BadParameter: there are several.
    """
    if len(data) > 1:
        line = f"got {len(data)} times --data, expected one with --folds, whose predictions are scored together"
        raise typer.BadParameter(f"{line}; cross-validate each by itself")
    return data[0]


Version = Annotated[
    bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
]

Task = Annotated[str, typer.Argument(metavar="TASK", help="seg, cvqa, pretrain or retrieve.", callback=_task)]

Prepared = Annotated[Path, typer.Option("--data", help="Folder written by `magic prepare`.")]

_DATASETS = (
    "Folder written by `magic prepare`; repeat it to train on several. Each is validated by itself; the best epoch has"
    " the highest mean score over them, each counting the same. See --data-weight."
)

PreparedSets = Annotated[list[Path], typer.Option("--data", help=_DATASETS)]

PREPARED = [Path("prepared")]

_DATA_WEIGHT = (
    "For each --data, in their order: how often an epoch draws each of its training samples, on average; default 1."
    " Of n samples, round(weight x n) are drawn, by the seed."
)

DataWeights = Annotated[list[float] | None, typer.Option("--data-weight", metavar="WEIGHT", help=_DATA_WEIGHT)]

RawData = Annotated[Path | None, typer.Option("--data", help="The dataset's folder, unpacked and unchanged.")]

Source = Annotated[str, typer.Option("--source", metavar="NAME", help="Which dataset it is, where several match.")]

_MAP = "Columns of a table: image, label, text, group, split, mask, id, patient, age, ...; repeatable."

ColumnsOf = Annotated[list[str] | None, typer.Option("--map", metavar="KEY=COLUMN,...", help=_MAP)]

_JOIN = "A second table with facts about photos or cases, matched by its first column."

Join = Annotated[Path | None, typer.Option("--join", metavar="FILE", help=_JOIN)]

Merge = Annotated[str, typer.Option(help="How to merge annotators' masks: or, majority, intersection, each.")]

ListSources = Annotated[bool, typer.Option("--list-sources", help="List the datasets that can be read.")]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")]

DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")]

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]

CacheDir = Annotated[Path | None, typer.Option(help="Folder of cached features; limit: MAGIC_CACHE_GB (20) gigabytes.")]

NoCache = Annotated[bool, typer.Option("--no-cache", help="Do not cache features of frozen encoders.")]

Weights = Annotated[
    Path | None, typer.Option(help="Folder with the Hugging Face checkpoints of presets paper and large.")
]

Folds = Annotated[
    int | None,
    typer.Option(min=2, help="Cross-validate on split train; encounters of a group (group_id) stay together."),
]
_DETERMINISTIC = "Fail on non-deterministic operations instead of warning."
Deterministic = Annotated[bool, typer.Option("--deterministic", help=_DETERMINISTIC)]
Split = Annotated[str, typer.Option(help="train, valid or test.")]

_VALID = "Share of the cases for valid, where the data has no splits."

ValidShare = Annotated[float, typer.Option("--valid", min=0, max=1, help=_VALID)]

TestShare = Annotated[float, typer.Option("--test", min=0, max=1, help="Share of the cases for test.")]

_BY = "What is never divided between splits; default: patient, else lesion, else photo."

SplitBy = Annotated[str, typer.Option("--split-by", metavar="patient|lesion|case|COLUMN", help=_BY)]

SplitSeed = Annotated[int, typer.Option("--seed", min=0, help="Random seed of the splits.")]

_KNOWLEDGE = "Make disease, concept and sentence texts; default: unless the challenge's, or the source has its own."

Knowledge = Annotated[bool | None, typer.Option("--knowledge/--no-knowledge", help=_KNOWLEDGE)]

OntologyFile = Annotated[
    Path | None, typer.Option("--ontology", help="Classes of diseases: JSON, or CSV child,parent.")
]

_ANSWERS = "Disease and concept terms that a language model found elsewhere, JSON lines."

LlmCacheFile = Annotated[Path | None, typer.Option("--llm-cache", help=_ANSWERS)]

Overflow = Annotated[str, typer.Option(metavar="drop|merge", help="Sentences beyond the eighth.")]

_FROM = "What queries are made from: attributes (default), captions up to where they tell the class, or both."

QueryFrom = Annotated[str, typer.Option(metavar="attributes|caption|both", help=_FROM)]

_NAMES = "Attributes that queries tell, such as age,sex,site; default: all that tell no class."

QueryAttributes = Annotated[str, typer.Option(metavar="NAME[,NAME]", help=_NAMES)]

_DUPLICATES = "Duplicate photos: never divided between splits and folds (group), left out (drop), or only listed."

DuplicatePhotos = Annotated[str, typer.Option("--duplicates", metavar="keep|drop|group", help=_DUPLICATES)]

_SETTINGS = "key=value, repeatable: --set epochs=5; --set help lists all settings."

Settings = Annotated[list[str] | None, typer.Option("--set", help=_SETTINGS)]

_INIT = "Earlier run of the task (folder or best.pt) whose weights training starts from."

Init = Annotated[Path | None, typer.Option("--init", metavar="RUN", help=_INIT)]

_TTA = "Average over flipped views, or predict one; default: as the preset says."

Tta = Annotated[bool | None, typer.Option("--tta/--no-tta", help=_TTA)]

_FINETUNE = "Encoder weights to train: head (none), last (stage), all, or lora."

Finetune = Annotated[str | None, typer.Option(metavar="head|last|all|lora", help=_FINETUNE)]

FormerTune = Annotated[str | None, typer.Option("--tune", hidden=True, callback=_renamed, help="Renamed: --finetune.")]

_CUT = "seg: probability above which a pixel is lesion; default: the checkpoint's own."

Threshold = Annotated[float | None, typer.Option(min=0.001, max=0.999, help=_CUT)]

Largest = Annotated[bool, typer.Option("--largest", help="seg: keep only the largest region.")]

FillHoles = Annotated[bool, typer.Option("--fill-holes", help="seg: fill holes in lesions.")]

_DECODE = "cvqa: decide slot by slot, or choose the set with the highest expected score; default: as in training."

Decode = Annotated[str | None, typer.Option(metavar="slot|set", help=_DECODE, callback=_decode)]

_QUERY = typer.Option("--encounter-text/--no-encounter-text", help="cvqa, head=options: use the query as input.")

EncounterText = Annotated[bool | None, _QUERY]

_CLASSES = 'pretrain: classes to choose from, "a, b, c", or a file of them; default: those of the split.'

Classes = Annotated[str | None, typer.Option(metavar="NAMES|FILE", help=_CLASSES)]

_CONCEPTS = "pretrain: concepts, one per line, or JSON with synonyms; default: those of the split."

ConceptsFile = Annotated[Path | None, typer.Option("--concepts", metavar="FILE", help=_CONCEPTS)]

_TEMPLATES = "pretrain: sentences with {} for the class, one per line; default: the eight of MAKE."

TemplatesFile = Annotated[Path | None, typer.Option("--templates", metavar="FILE", help=_TEMPLATES)]

Probe = Annotated[bool, typer.Option("--probe", help="pretrain: score linear probes of the encoder instead.")]

_NEIGHBOURS = "cvqa: case index (magic index build); similar train cases' answers are weighed in."

Neighbours = Annotated[str | None, typer.Option(metavar="PLACE", help=_NEIGHBOURS)]

_MODEL = "The model that built that index; default: its own."

NeighboursCkpt = Annotated[Path | None, typer.Option("--neighbours-ckpt", metavar="FILE", help=_MODEL)]

_COUNT = "How many similar cases."

NeighbourCount = Annotated[int, typer.Option("-k", "--neighbour-count", min=1, max=1000, help=_COUNT)]

_SHARE = "Their share of the probabilities; default: chosen on split valid."

NeighbourWeight = Annotated[float | None, typer.Option("--neighbour-weight", min=0, max=1, help=_SHARE)]

_GALLERY = "retrieve: photos to rank: split train (default), or loo, the queries' split without their own group."

Gallery = Annotated[str | None, typer.Option(metavar="train|loo", help=_GALLERY)]

_CONTROLS = "retrieve: also rank by controls (random, text only, image cosine, ...), in OUT/controls/."

Controls = Annotated[bool, typer.Option("--controls", help=_CONTROLS)]

_BEIR = "retrieve: also write OUT/beir/, a BEIR folder. It has the words of all cases: patients' texts stay with you."

Beir = Annotated[bool, typer.Option("--beir", help=_BEIR)]

_IDENTICAL = "pretrain: in retrieval, any photo with the very same text is a hit, or its own only."

GroupIdentical = Annotated[bool, typer.Option("--group-identical/--no-group-identical", help=_IDENTICAL)]

NoSubtexts = Annotated[bool, typer.Option("--no-subtexts", help="pretrain: no positives from single sentences.")]

NoSlra = Annotated[bool, typer.Option("--no-slra", help="pretrain: no local alignment of subtexts with patches.")]

NoDkw = Annotated[bool, typer.Option("--no-dkw", help="pretrain: all subtexts weigh the same.")]

_LANG = "cvqa: languages of the texts that the rules read: en, es, zh, comma-separated; default en."

Languages = Annotated[str | None, typer.Option(metavar="LANG[,LANG]", help=_LANG)]

_CKPTS = "Checkpoint, as given or in runs/TASK/, or a folder of runs (folds, seeds); several are averaged."

Ckpts = Annotated[list[Path] | None, typer.Option(help=_CKPTS)]

_SYSTEMS = "With --vote: JSON files, folders or zips of closed answers, from any system."

Preds = Annotated[list[Path] | None, typer.Argument(metavar="PRED", help=_SYSTEMS)]

_VOTE = (
    "cvqa: merge predictions. A question's answer is the option set with the highest mean accuracy (common options over"
    " the larger set), assuming all files are equally reliable; ties go to the file listed first."
)

Vote = Annotated[bool, typer.Option("--vote", help=_VOTE)]

StrictOnly = Annotated[bool, typer.Option("--strict", help="Only the strict scores; exit 4 if any item is rejected.")]

_FILES = "One or more predictions (JSON, folder or zip); gold last."

PredsAndGold = Annotated[list[Path], typer.Argument(metavar="PRED... GOLD", help=_FILES)]

"""The `magic` command: parse options, call the verb, print its result; imports no torch until a command needs it."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from magic_cli.cli import index
from magic_cli.cli import options as opt
from magic_cli.cli.output import emit
from magic_cli.cli.process import MagicGroup, open_streams, run_and_exit
from magic_cli.cli.search import search
from magic_cli.io.launcher import ignore_leftovers
from magic_cli.io.progress import log
from magic_cli.io.run_record import Origin, called_by
from magic_cli.io.signals import install_handlers

if TYPE_CHECKING:
    from magic_cli.report.run_text import PredictResult, VoteResult

app = typer.Typer(
    name="magic",
    cls=MagicGroup,
    help="Segment skin lesions and answer closed questions for MEDIQA-MAGIC 2025, from raw folder to submission.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.add_typer(index.app)
app.command()(search)


@app.callback()
def root(
    version: opt.Version = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Segment skin lesions and answer closed questions for MEDIQA-MAGIC 2025, from raw folder to submission."""


@app.command()
def prepare(
    data: opt.RawData = None,
    out: Annotated[Path, typer.Option(help="Folder for the prepared dataset.")] = Path("prepared"),
    source: opt.Source = "",
    mapping: opt.ColumnsOf = None,
    join: opt.Join = None,
    list_sources: opt.ListSources = False,
    merge: opt.Merge = "or",
    prompt: Annotated[str, typer.Option(help="Text per photo: qa, query, answer, fixed.")] = "qa",
    responses: Annotated[bool, typer.Option("--responses/--no-responses", help="Use the clinicians' answers.")] = True,
    valid: opt.ValidShare = 0.15,
    test: opt.TestShare = 0.15,
    split_by: opt.SplitBy = "",
    seed: opt.SplitSeed = 0,
    knowledge: opt.Knowledge = None,
    ontology: opt.OntologyFile = None,
    llm_cache: opt.LlmCacheFile = None,
    overflow: opt.Overflow = "drop",
    query_from: opt.QueryFrom = "",
    query_attributes: opt.QueryAttributes = "",
    duplicates: opt.DuplicatePhotos = "group",
    strict: Annotated[bool, typer.Option("--strict", help="Fail on unusable data instead of skipping it.")] = False,
    overwrite: opt.Overwrite = False,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
) -> None:
    """Turn a raw dataset, the challenge's or another one, into one clean, checked dataset.

    Example: `magic prepare --data DermaVQA/`, `magic prepare --data mine/ --map image=file,label=dx,group=patient`
    """
    if list_sources or data is None:
        _list_sources(list_sources, as_json)
        return
    from magic_cli.commands import prepare as module
    from magic_cli.data.preparation.case_texts import TextOptions

    options = module.PrepareOptions(
        merge=merge,
        prompt=prompt,
        responses=responses,
        strict=strict,
        overwrite=overwrite,
        dry_run=dry_run,
        valid=valid,
        test=test,
        split_by=split_by,
        seed=seed,
        source=source,
        mapping=tuple(mapping or ()),
        join=join,
        texts=TextOptions(knowledge, ontology, llm_cache, overflow, query_from, query_attributes.split(",")),
        duplicates=duplicates,
    )
    emit(as_json, "prepare", module.prepare(data, out, options))


def _list_sources(is_asked: bool, as_json: bool) -> None:
    """Print the datasets that can be read; without `is_asked`, `--data` is missing."""
    if not is_asked:
        raise typer.BadParameter("--data FOLDER is missing (or --list-sources)")
    from magic_cli.commands.list_sources import list_sources

    emit(as_json, "prepare", list_sources())


@app.command()
def train(
    task: opt.Task,
    data: opt.PreparedSets = opt.PREPARED,
    data_weight: opt.DataWeights = None,
    preset: Annotated[str, typer.Option(help="small (default), quick, tiny, paper or large.")] = "",
    settings: opt.Settings = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/TASK.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out where it stopped.")] = False,
    folds: opt.Folds = None,
    deterministic: opt.Deterministic = False,
    modality: Annotated[str | None, typer.Option(help="cvqa: inputs to use: both, text or image.")] = None,
    encounter_text: opt.EncounterText = None,
    lang: opt.Languages = None,
    no_subtexts: opt.NoSubtexts = False,
    no_slra: opt.NoSlra = False,
    no_dkw: opt.NoDkw = False,
    init: opt.Init = None,
    weights: opt.Weights = None,
    device: opt.Device = "auto",
    finetune: opt.Finetune = None,
    _tune: opt.FormerTune = None,
    seed: Annotated[int | None, typer.Option(help="Random seed.")] = None,
    cache_dir: opt.CacheDir = None,
    no_cache: opt.NoCache = False,
    overwrite: opt.Overwrite = False,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
) -> None:
    """Train a task on prepared datasets; writes best.pt, state.pt and metrics.jsonl, one set per fold with --folds.

    Example: `magic train seg`, `magic train seg --data a --data b`, `magic train cvqa --modality text --folds 5`
    """
    if _list_settings(task, preset, settings or [], as_json):
        return
    from magic_cli.commands.cross_validate import cross_validate
    from magic_cli.commands.run_setup import TrainOptions
    from magic_cli.commands.train import train as train_task
    from magic_cli.training.runtime import RuntimeOptions

    options = TrainOptions(
        preset=preset,
        settings=(*(settings or ()), *opt.ablations(no_subtexts, no_slra, no_dkw)),
        resume=resume,
        overwrite=overwrite,
        dry_run=dry_run,
        deterministic=deterministic,
        runtime=RuntimeOptions(device, cache_dir, no_cache),
        modality=modality,
        encounter_text=encounter_text,
        lang=lang,
        finetune=finetune,
        seed=seed,
        init=init,
        weights=weights,
        data_weights=data_weight or (),
    )
    if folds:
        emit(as_json, "train", cross_validate(task, folds, opt.one_dataset(data), out, options))
    else:
        emit(as_json, "train", train_task(task, data[0] if len(data) == 1 else data, out, options))


def _list_settings(task: str, preset: str, settings: Sequence[str], as_json: bool) -> bool:
    """Print all settings of a task if `--set help` asks for them, and return whether it does."""
    from magic_cli import tasks
    from magic_cli.commands import settings_help

    if settings_help.WORD not in settings:
        return False
    emit(as_json, "train", settings_help.settings_help(tasks.config_class(task), preset or "small"))
    return True


@app.command()
def predict(
    context: typer.Context,
    task: opt.Task,
    preds: opt.Preds = None,
    ckpt: opt.Ckpts = None,
    vote: opt.Vote = False,
    data: opt.Prepared = Path("prepared"),
    split: opt.Split = "test",
    out: Annotated[Path | None, typer.Option(help="Output folder; default predictions/TASK.")] = None,
    tta: opt.Tta = None,
    threshold: opt.Threshold = None,
    largest: opt.Largest = False,
    fill_holes: opt.FillHoles = False,
    decode: opt.Decode = None,
    classes: opt.Classes = None,
    concepts: opt.ConceptsFile = None,
    templates: opt.TemplatesFile = None,
    probe: opt.Probe = False,
    neighbours: opt.Neighbours = None,
    neighbours_ckpt: opt.NeighboursCkpt = None,
    neighbour_count: opt.NeighbourCount = 10,
    neighbour_weight: opt.NeighbourWeight = None,
    gallery: opt.Gallery = None,
    controls: opt.Controls = False,
    beir: opt.Beir = False,
    limit: Annotated[int | None, typer.Option(min=1, max=1_000_000_000, help="Only the first N samples.")] = None,
    precision: Annotated[str | None, typer.Option(help="no, bf16 or fp16; default: as in training.")] = None,
    weights: opt.Weights = None,
    device: opt.Device = "auto",
    cache_dir: opt.CacheDir = None,
    no_cache: opt.NoCache = False,
    overwrite: opt.Overwrite = False,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
) -> None:
    """Predict a split: masks under the official names, one row of answers per encounter, or classes and vectors.

    Example: `magic predict seg --ckpt best.pt`, `magic predict pretrain --ckpt best.pt --classes "melanoma, nevus"`
    """
    if opt.voting(context, task, ckpt or [], preds or [], vote):
        from magic_cli.commands.vote import VoteOptions
        from magic_cli.commands.vote import vote as merge

        result: VoteResult | PredictResult = merge(preds or [], data, split, out, VoteOptions(overwrite, dry_run))
    else:
        from magic_cli.commands import predict as verb
        from magic_cli.training.runtime import RuntimeOptions

        options = verb.PredictOptions(
            *(tta, threshold, largest, fill_holes, decode, classes, concepts, templates, probe),
            *(neighbours, neighbours_ckpt, neighbour_count, neighbour_weight, gallery, controls, beir),
            limit=limit,
            precision=precision,
            weights=weights,
            overwrite=overwrite,
            dry_run=dry_run,
            runtime=RuntimeOptions(device, cache_dir, no_cache),
        )
        result = verb.predict(task, ckpt or [], data, split, out, options)
    emit(as_json, "predict", result)


@app.command()
def score(
    files: opt.PredsAndGold,
    split: opt.Split = "valid",
    official: Annotated[bool, typer.Option("--official", help="Only the official scores.")] = False,
    strict: opt.StrictOnly = False,
    empty: Annotated[str, typer.Option(help="Strict score of two empty masks: one, zero or skip.")] = "one",
    accept_255: Annotated[bool, typer.Option("--accept-255", help="Strict: read masks of 0/255 as 0/1.")] = False,
    group_identical: opt.GroupIdentical = True,
    against: Annotated[
        Path | None, typer.Option(help="Other predictions to compare with: paired differences, p-values.")
    ] = None,
    leaderboard: Annotated[bool, typer.Option("--leaderboard", help="Show the published test-set scores.")] = False,
    resamples: Annotated[
        int, typer.Option(min=100, max=1_000_000, help="Number of bootstrap resamples and of sign flips.")
    ] = 10_000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Threads that read and score masks.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder for report.html, per_item.csv, *.json.")] = None,
    run: Annotated[Path | None, typer.Option(help="Run folder, for training curves in report.html.")] = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Score predictions: official scores, strict scores with 95 % intervals, and trivial baselines.

    Example: `magic score preds.json gold.json`, `magic score runA.zip runB.zip prepared/ --out report`
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads cost more than they save here
    if len(files) < 2 or (official and strict):
        raise typer.BadParameter("PRED... GOLD needs two paths or more" if len(files) < 2 else "--official or --strict")
    from magic_cli.commands import score as module

    *preds, gold = files
    options = module.ScoreOptions(
        split=split,
        track="official" if official else "strict" if strict else "both",
        empty=empty,
        accept_255=accept_255,
        group_identical=group_identical,
        resamples=resamples,
        workers=workers,
        against=against,
        leaderboard=leaderboard,
        out=out,
        run=run,
        overwrite=overwrite,
    )
    report = module.score(preds, gold, options)
    emit(as_json, "score", report)
    raise typer.Exit(report.exit_code)


@app.command()
def package(
    seg: Annotated[Path | None, typer.Option(help="Folder of predicted masks.")] = None,
    cvqa: Annotated[Path | None, typer.Option(help="data_cvqa_sys.json, or the folder that contains it.")] = None,
    data: opt.Prepared = Path("prepared"),
    split: opt.Split = "test",
    out: Annotated[Path, typer.Option(help="The zip to upload.")] = Path("submission.zip"),
    check_only: Annotated[Path | None, typer.Option(metavar="SUBMISSION", help="Only check a zip or folder.")] = None,
    overwrite: opt.Overwrite = False,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
) -> None:
    """Check predictions for everything that the official scorer crashes on or scores as zero, then zip them.

    Example: `magic package --seg predictions/seg --cvqa predictions/cvqa --split test`
    """
    from magic_cli.commands import package as module

    if check_only is not None:
        checked = module.check_submission(check_only, data, split)
        emit(as_json, "package", checked)
        return
    packed = module.package(seg, cvqa, data, split, out, module.PackageOptions(overwrite, dry_run))
    emit(as_json, "package", packed)


@app.command()
def rerun(
    record: Annotated[Path, typer.Argument(metavar="RUN_JSON", help="run.json of a result, or its folder.")],
    out: Annotated[Path | None, typer.Option(help="New folder; default: OUT.rerun beside the old result.")] = None,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
) -> None:
    """Repeat the call recorded in a run.json in a new folder and compare the results (exit 4 if they differ).

    Example: `magic rerun runs/cvqa/run.json`
    """
    from magic_cli.commands import rerun as module

    result = module.rerun(record, out, dry_run)
    emit(as_json, "rerun", result)
    raise typer.Exit(result.exit_code)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to work in.")] = Path("magic-demo"),
    preset: Annotated[str, typer.Option(help="quick, small or tiny.")] = "quick",
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Generate a small synthetic dataset and run all five verbs on it; takes minutes on a CPU.

    Example: `magic demo`
    """
    from magic_cli.commands import demo as module

    result = module.run(out, preset, overwrite)
    emit(as_json, "demo", result)


@app.command()
def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Also verify checksums, and query torch for devices.")] = False,
    clear_cache: Annotated[bool, typer.Option("--clear-cache", help="Remove cached features and photos.")] = False,
    cache_dir: opt.CacheDir = None,
    as_json: opt.Json = False,
) -> None:
    """Report what is installed, what is missing and how to fix it, and what the cache contains.

    Example: `magic doctor`, `magic doctor --clear-cache`
    """
    from magic_cli.commands import doctor as module

    report = module.inspect(deep, cache_dir, clear_cache)
    emit(as_json, "doctor", report)
    raise typer.Exit(report.exit_code)


def _may_be_one_of_several(words: Sequence[str]) -> bool:
    """Return whether several processes may share a command: training, predicting with checkpoints, encoding cases."""
    verb = next((word for word in words if not word.startswith("-")), "")
    return verb in ("train", "index") or (verb == "predict" and "--vote" not in words)


def main() -> None:
    """Run the command line; cli/process.py says how it ends."""
    install_handlers()
    open_streams()
    note = ignore_leftovers(alone=not _may_be_one_of_several(sys.argv[1:]))
    if note:
        log(f"note: {note}")
    with called_by(Origin(tuple(word for word in sys.argv[1:] if word != "--debug"))):
        run_and_exit(app)

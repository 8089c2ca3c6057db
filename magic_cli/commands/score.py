"""Score predictions: one or more systems against one gold, with intervals and paired comparisons."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from magic_cli import __version__, tasks
from magic_cli.commands.recording import recorded
from magic_cli.data.gold import AnswerGold, Gold, MaskGold, open_gold
from magic_cli.data.prepared import open_prepared
from magic_cli.data.questions import NO_QUESTIONS
from magic_cli.data.texts.prompt_ladder import tells_gold
from magic_cli.errors import ConfigError, DataError, UsageError, printable, problem
from magic_cli.io import environment, run_record
from magic_cli.io.files import StrPath
from magic_cli.io.ownership import check_target
from magic_cli.metrics import bootstrap
from magic_cli.metrics.resampling import resamples_of
from magic_cli.metrics.row_scores import shared
from magic_cli.metrics.subgroups import subgroups, widest_gaps
from magic_cli.metrics.unchanged import unchanged
from magic_cli.records import Rules, TaskScores
from magic_cli.report import leaderboard
from magic_cli.report.controls.calibration import CalibrationScores
from magic_cli.report.controls.unimodal import UnimodalControl, unimodal_controls
from magic_cli.report.score_report import (
    FILES,
    Comparison,
    PhotoChoice,
    Provenance,
    ScoreFiles,
    ScoreReport,
    ScoreSettings,
    SystemScores,
)
from magic_cli.report.subgroups import SubgroupScores, by_name
from magic_cli.submission.expected import OtherSplit
from magic_cli.submission.pairs import find_pairs
from magic_cli.submission.rankings import RankingFiles, asked_of, find_rankings, ranked_ids
from magic_cli.submission.reader import Submission, holds_only_pairs, holds_only_rankings, open_predictions
from magic_cli.training.seen import exposure_lines

EMPTY = ("one", "zero", "skip")

TRACKS = ("both", "official", "strict")

EXPORTS = ("", "fiftyone")

PHOTOS = get_args(PhotoChoice)

MOST_RESAMPLES = 1_000_000

_PACKAGES = ("numpy", "tifffile", "pillow")


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """How `score` scores, what it compares with, and where it writes.

    Attributes:
        split: "train", "valid" or "test": which part of a prepared dataset is the gold.
        track: "both", "official" or "strict": which scores are shown, and which problems end with exit code 4.
        empty: strict: an empty mask against an empty mask counts "one", "zero", or is left out ("skip").
        accept_255: strict: read masks of 0 and 255 as 0 and 1; otherwise they are rejected and count as zero.
        resamples: bootstrap resamples of intervals, and random sign flips of p-values; 2 to a million.
        seed: seed of both.
        group_identical: retrieval: any photo with the very same text is a hit; False: only the own one is.
        workers: number of masks that are read in parallel; scores do not depend on it.
        against: other predictions, with which every system is compared encounter by encounter. None: the first system
            of a task is compared with the others; of contrastive pretraining, the others with the first.
        leaderboard: add the published scores of the challenge's test set.
        out: folder for report.html, per_item.csv, scores.tex, scores.md, report.json and scores.json; None: no files.
        run: run folder of `magic train`, for training curves in report.html.
        photos: "all", "worst" or "none": which photos report.html shows.
        overwrite: replace an earlier report in `out`.
        by: attributes of the cases of a prepared dataset, by whose values scores are divided: names of attributes,
            "label", "photos" (how many a case has), closed questions as CQID011, or artefacts: "artefact" for all.
        export: "fiftyone": masks and their scores also as a dataset that FiftyOne reads, in the folder `out`; "": none.
    """

    split: str = "valid"
    track: str = "both"
    empty: str = "one"
    accept_255: bool = False
    group_identical: bool = True
    resamples: int = 10_000
    seed: int = 2025
    workers: int = 1
    against: StrPath | None = None
    leaderboard: bool = False
    out: StrPath | None = None
    run: StrPath | None = None
    photos: PhotoChoice = "all"
    overwrite: bool = False
    by: Sequence[str] = ()
    export: str = ""

    def __post_init__(self) -> None:
        """Refuse values that the command line cannot check by type."""
        given = (("--empty", self.empty, EMPTY), ("track", self.track, TRACKS), ("--export", self.export, EXPORTS))
        for name, value, choices in (*given, ("--photos", self.photos, PHOTOS)):
            if value not in choices:
                raise ConfigError(problem(name, value, " or ".join(choices), "choose one of these"))
        if self.export and self.out is None:
            raise ConfigError(problem("--export", f"{self.export} alone", "a folder to write to", "add --out DIR"))
        if not (isinstance(self.resamples, int) and 2 <= self.resamples <= MOST_RESAMPLES):
            expected = f"a whole number from 2 to {MOST_RESAMPLES}"
            raise ConfigError(problem("--resamples", str(self.resamples), expected, "give another number"))
        if not (isinstance(self.seed, int) and self.seed >= 0):
            raise ConfigError(problem("seed", str(self.seed), "a whole number from 0", "give another one"))

    @property
    def rules(self) -> Rules:
        """The rules of the strict scores."""
        return Rules(self.empty, self.accept_255, self.group_identical)

    @property
    def settings(self) -> ScoreSettings:
        """The settings as recorded in the report."""
        return ScoreSettings(self.track, self.empty, self.accept_255, self.resamples, self.seed, self.group_identical)


@recorded
def score(preds: StrPath | Sequence[StrPath], gold: StrPath, options: ScoreOptions = ScoreOptions()) -> ScoreReport:
    """Score one or more systems against a gold, strictly and as the official scorer would.

    Args:
        preds: predictions of each system: JSON, CSV or TREC file, folder of masks, predictions folder or zip.
        gold: gold file, folder of annotators' masks, challenge folder, prepared dataset, CSV file of photos, or
            judgements of rankings (TREC's qrels, a BEIR folder).
        options: split, rules, resampling, what to compare with and where to write.

    Returns:
        The scores; `report.systems[0].of("seg").scores["dice_meanofmax"]` is one of them.

    Raises:
        DataError: there is no gold or it is damaged, or `options.out` exists or cannot be written.
        SubmissionError: predictions that cannot be read. UsageError: no predictions are given.

    Example:
        >>> report = score("predictions/seg", "prepared", ScoreOptions(out="report"))  # doctest: +SKIP
    """
    paths = (preds,) if isinstance(preds, str | os.PathLike) else preds
    if not paths:
        raise UsageError("nothing to score: give the predictions of at least one system")
    against, out, run = (None if path is None else Path(path) for path in (options.against, options.out, options.run))
    files = ScoreFiles(tuple(map(Path, paths)), Path(gold), against, run, out, export=options.export)
    opened = _open_gold(files, options.split)
    divisions = _divisions(files.gold, options)
    if out is not None:
        inputs = [path for path in (*files.preds, files.gold, against, run) if path is not None]
        if all(path.exists() for path in inputs):  # one that is missing is told instead
            check_target(out, "score", options.overwrite, FILES, inputs)  # before the work
    report = score_systems(files, opened, options)
    divided, sure = tuple(_subgroups(report, divisions, options)), tuple(_calibration(report, options))
    report = replace(report, subgroups=divided, calibration=sure, unimodal=tuple(_unimodal(report)))
    if out is None:
        return report
    from magic_cli.commands.score_files import write_report  # the page and Pillow are of no use to the terminal

    return write_report(report, opened, options.photos)


def _divisions(gold: Path, options: ScoreOptions) -> dict[str, dict[str, str]]:
    """Return the values of the encounters by the attributes of --by.

    Raises:
        DataError: the gold is no prepared dataset. ConfigError: an attribute that no case has.
    """
    if not options.by:
        return {}
    prepared = open_prepared(gold, texts=False)
    return by_name(prepared, options.split, options.by)


def _subgroups(
    report: ScoreReport, divisions: Mapping[str, Mapping[str, str]], options: ScoreOptions
) -> Iterator[SubgroupScores]:
    for name, values in divisions.items():
        for system in report.systems:
            for scores in system.tasks:
                if scores.encounter_sums is not None:
                    rows = tuple(subgroups(scores.encounter_sums, values, options.resamples, options.seed))
                    shown = [k for k in report.tasks[scores.task].headline_scores if k in rows[0].scores][:1]
                    gaps = widest_gaps(scores.encounter_sums, values, options.resamples, options.seed)
                    yield SubgroupScores(scores.task, system.name, name, rows, tuple(shown), gaps)


def _calibration(report: ScoreReport, options: ScoreOptions) -> Iterator[CalibrationScores]:
    for system in report.systems:
        for scores in system.tasks:
            if scores.confidence is not None:
                of = scores.confidence
                yield CalibrationScores.of(scores.task, system.name, of, options.resamples, options.seed)


def _unimodal(report: ScoreReport) -> Iterator[UnimodalControl]:
    for name, task in report.tasks.items():
        found = report.by_system(name)
        pairs = zip(report.systems, report.files.preds, strict=True)
        folders = {
            system.name: path if path.is_dir() else path.parent for system, path in pairs if system.name in found
        }
        yield from unimodal_controls(task, {of: run_record.recorded_settings(at) for of, at in folders.items()})


def _open_gold(files: ScoreFiles, split: str) -> Gold:
    """Return the gold of what the predictions are about: masks and answers, photos' classes and texts, or all.

    Raises:
        DataError: there is none, or it is damaged.
    """
    systems = [path for path in (*files.preds, files.against) if path is not None]
    rankings = [found for path in systems if (found := find_rankings(path)) is not None]
    if rankings:
        return _with_rankings(files.gold, split, rankings, all(map(holds_only_rankings, systems)))
    if not any(find_pairs(path) for path in systems):
        return open_gold(files.gold, split)
    from magic_cli.data.sources.photo_tables import open_pair_gold  # not at the top: scoring masks is timed

    if all(map(holds_only_pairs, systems)):
        pairs = open_pair_gold(files.gold, split)
        return Gold(pairs.source, MaskGold(pairs.source), AnswerGold(pairs.source, NO_QUESTIONS), pairs)
    gold = open_gold(files.gold, split)
    try:
        return replace(gold, pairs=open_pair_gold(files.gold, split))
    except DataError:  # the other tasks are scored
        return gold


def _with_rankings(path: Path, split: str, rankings: Sequence[RankingFiles], alone: bool) -> Gold:
    """Return the gold of case retrieval; with masks and answers, if there are any, unless nothing else is predicted."""
    from magic_cli.data.retrieval.judgements import open_ranking_gold

    ids, asked = (photo for files in rankings for photo in ranked_ids(files)), asked_of(rankings)
    gold = open_ranking_gold(path, split, ids, asked.protocol, asked.classes or "")
    empty = Gold(gold.source, MaskGold(gold.source), AnswerGold(gold.source, NO_QUESTIONS), rankings=gold)
    if alone:
        return empty
    try:
        return replace(open_gold(path, split), rankings=gold)
    except DataError:  # retrieval is scored
        return empty


def score_systems(files: ScoreFiles, gold: Gold, options: ScoreOptions) -> ScoreReport:
    """Score the systems that `files` names, and compare each with `files.against`; nothing is written.

    Raises:
        DataError: a system has no task in common with the one to compare with.
        SubmissionError: predictions that cannot be read.
    """
    systems = tuple(_score_system(path, gold, options) for path in files.preds)
    other = None if files.against is None else _score_system(files.against, gold, options)
    scored = {scores.task: tasks.get(scores.task) for system in systems for scores in system.tasks}
    notes = list(leaderboard.sentences(scored)) if options.leaderboard else []
    comparisons = tuple(_comparisons(systems, other, options, notes))
    return ScoreReport(
        source=printable(gold.source),
        split=options.split,
        settings=options.settings,
        systems=tuple(_with_intervals(system, options) for system in systems),
        comparisons=comparisons,
        provenance=_provenance(),
        files=files,
        tasks=scored,
        notes=tuple(notes),
        published={task: leaderboard.entries(task) for task in scored} if options.leaderboard else None,
    )


def _score_system(path: Path, gold: Gold, options: ScoreOptions) -> SystemScores:
    with open_predictions(path) as submission:
        scored = []
        for deliverable in submission.deliverables_with(gold):
            task = tasks.get(tasks.BY_DELIVERABLE[deliverable])
            predictions = submission.of(deliverable, gold.answers.questions.by_qid)
            try:
                scored.append(task.score(task.gold_in(gold), predictions, options.rules, options.workers))
            except OtherSplit as error:
                raise OtherSplit(error.got, path) from None
        notes = (*submission.notes, *_exposure(path))
        return SystemScores(printable(path), notes, tuple(_as_one_run(submission, scored)))


def _exposure(path: Path) -> list[str]:
    """Return what is recorded of how many samples were learned from or chosen on; of a folder of several, of each."""
    settings = run_record.recorded_settings(path if path.is_dir() else path.parent)
    lines = exposure_lines(settings)
    if tells_gold(str(settings.get("prompt", ""))):
        lines.append(f"the text was prompt {settings['prompt']}, which tells gold answers: scores are upper bounds")
    if lines or not path.is_dir():
        return lines
    parts = sorted(part for part in path.iterdir() if part.is_dir())
    return [f"{part.name}: {line}" for part in parts for line in exposure_lines(run_record.recorded_settings(part))]


def _as_one_run(submission: Submission, scored: Sequence[TaskScores]) -> Iterator[TaskScores]:
    """Yield scores as one run of the official scorer gives them: an error in one task costs both their scores."""
    stopped = [scores.task for scores in scored if scores.official_errors]
    for scores in scored:
        errors = (*submission.official_errors, *scores.official_errors) if scores.has_official else ()
        if stopped and not errors and scores.has_official:
            errors = (f"the official scorer crashes on the other task ({', '.join(stopped)}), so neither is scored",)
        yield replace(scores, official=None, official_errors=errors) if errors else scores


def _with_intervals(system: SystemScores, options: ScoreOptions) -> SystemScores:
    return replace(system, tasks=tuple(_add_intervals(scores, options) for scores in system.tasks))


def _add_intervals(scores: TaskScores, options: ScoreOptions) -> TaskScores:
    if scores.encounter_sums is None:
        return scores
    drawn, wanted = resamples_of(scores.encounter_sums, options.resamples), options.resamples
    fewer = f"{drawn:,} resamples instead of {wanted:,}, because scores of ranks of so many photos take long"
    notes = (*scores.notes, f"intervals and p-values are from {fewer}") if drawn < wanted else scores.notes
    few = bootstrap.remark_on_few(len(scores.encounter_sums.ids))
    notes = (*notes, few) if few else notes
    intervals = bootstrap.intervals(scores.encounter_sums, options.resamples, options.seed)
    return _against_annotators(replace(scores, intervals=intervals, notes=notes), options)


def _against_annotators(scores: TaskScores, options: ScoreOptions) -> TaskScores:
    """Add to the agreement of annotators the paired differences of the system to them, and the encounters of these."""
    if not scores.agreement or scores.agreement_sums is None:
        return scores
    system, human = scores.agreement_sums
    differences = bootstrap.paired(system, human, options.resamples, options.seed)
    rows = {name: asdict(row) for name, row in differences.items()}
    return replace(scores, agreement={**scores.agreement, "encounters": len(system.ids), "differences": rows})


def _comparisons(
    systems: Sequence[SystemScores], other: SystemScores | None, options: ScoreOptions, notes: list[str]
) -> Iterator[Comparison]:
    """Yield each system compared with `other`; without one, the first system of each task with the others.

    Of contrastive pretraining the others are compared with the first, as the rows of an ablation with its reference.
    Nobody asked for comparisons with the first system: one that is impossible is told in `notes`.
    """
    if other is not None:
        for system in systems:
            if system.name != other.name:
                yield from _compare(system, other, options)
        return
    for system in systems:
        for task in (scores.task for scores in system.tasks):
            first = next(each for each in systems if each.of(task) is not None)
            if first.name == system.name:
                continue
            pair = (system, first) if tasks.get(task).deliverable == "pairs" else (first, system)
            try:
                yield from list(_compare(_only(pair[0], task), _only(pair[1], task), options))
            except DataError:
                why = "they have not the same photos, or no scores in common"
                notes.append(f"{system.name} is not compared with {first.name}: {why}")


def _only(system: SystemScores, task: str) -> SystemScores:
    return replace(system, tasks=tuple(scores for scores in system.tasks if scores.task == task))


def _compare(system: SystemScores, other: SystemScores, options: ScoreOptions) -> Iterator[Comparison]:
    if not {scores.task for scores in system.tasks} & {scores.task for scores in other.tasks}:
        raise DataError(f"{other.name}: has no task in common with {system.name}; give predictions of the same task")
    for mine in system.tasks:
        theirs = other.of(mine.task)
        if theirs is not None and mine.encounter_sums is not None and theirs.encounter_sums is not None:
            ours, others = shared(mine.encounter_sums, theirs.encounter_sums)
            differences = bootstrap.paired(ours, others, options.resamples, options.seed)
            same = unchanged(mine, theirs, options.resamples, options.seed)
            yield Comparison(mine.task, system.name, other.name, len(ours.ids), differences, same)


def _provenance() -> Provenance:
    versions = {"magic": __version__} | {name: environment.version(name) for name in ("python", *_PACKAGES)}
    made = datetime.now(UTC).isoformat(timespec="seconds")
    words = run_record.ORIGIN.get().words
    argv = ("magic_cli.score",) if words is None else ("magic", *words)  # called from Python, or by a command line
    return Provenance(tuple(map(printable, argv)), versions, made)

"""report.html: one page from a score report, with pictures of where a system succeeds and fails.

It holds ids, scores and photos, but no patient's text except for the examples of retrieval in contrastive
pretraining (report/pairs/); it says so at its top. It names no absolute path, and loads nothing.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from magic_cli.data.gold import Gold
from magic_cli.data.pair_gold import PairGold
from magic_cli.data.prepared import Prepared
from magic_cli.metrics.bootstrap import FEW, FEWEST
from magic_cli.records import TaskScores
from magic_cli.report import page, plots, score_tables
from magic_cli.report.answers.confusions import Confusion, confusions
from magic_cli.report.answers.wrong_answers import WrongCase, wrong_cases
from magic_cli.report.bottleneck import BottleneckContent, bottleneck_content
from magic_cli.report.gallery.content import WORST, Gallery, Masks, gallery
from magic_cli.report.gallery.photos import PhotoStore, relative_link
from magic_cli.report.leaderboard import Entry
from magic_cli.report.pairs.content import PairContent, pair_content
from magic_cli.report.score_images import ImageContent, Row, image_content
from magic_cli.report.score_report import LATEX, MARKDOWN, Comparison, PhotoChoice, ScoreReport
from magic_cli.report.score_text import (
    ACCURACY,
    SCORE_NAMES,
    best_of,
    bounds,
    is_defined,
    is_rank,
    names_in,
    official,
    quality_scores,
    questions_of,
    verdict_of,
)
from magic_cli.report.verdict import detailed_system
from magic_cli.submission.bottleneck import BOTTLENECK_FILE, read_bottleneck
from magic_cli.training.task import Task, of_class

if TYPE_CHECKING:
    from markupsafe import Markup

_LONGEST_TABLE = 10_000  # letters of a table to copy; longer ones are in their file alone

_SAME = 5e-5  # official and strict scores closer than this are shown as the same

_NO_SHARES = ("concepts_above_", "grounding_cnr", "grounding_abs_cnr")  # scores that are not between 0 and 1


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A score with its interval, the official one as printed, and those of trivial answers.

    `best_trivial` is the name and score of the best trivial answer, None if none is defined. Ranks and counts
    are `beyond` [0, 1].
    """

    name: str
    what: str
    value: float | None
    interval: tuple[float, float] | None
    official: str | None
    differs: bool
    trivial: tuple[float | None, ...]
    best_trivial: tuple[str, float] | None
    beyond: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """A score in the table of several systems; `best` marks the best of its row."""

    value: float | None
    interval: tuple[float, float] | None
    best: bool


@dataclass(frozen=True, slots=True)
class SystemsTable:
    """Several systems side by side: their names, then name, explanation and cells of each score."""

    systems: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[Cell, ...]], ...]


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """A paired difference with a verdict: "higher", "lower" or "no clear difference"."""

    name: str
    difference: float
    low: float
    high: float
    p: float
    verdict: str


@dataclass(frozen=True, slots=True)
class PagePhotos:
    """Photos of a page: "all", "worst" or "none" of the gallery, and the page's folder, for links; None: no links."""

    choice: PhotoChoice = "all"
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class TaskContent:
    """The page's content about a task; its details are those of `system`, the first one that has it.

    `bottleneck` is None unless bottleneck.json is beside the predictions.
    `paired` are comparisons with their rows, `images` is None for a task without images. `pairs` is None but for
    contrastive pretraining; then `system` is the one with the highest score that training goes by.
    """

    name: str
    title: str
    unit: str
    count: float | None
    systems: Mapping[str, TaskScores]
    system: str
    first: TaskScores
    cards: list[ScoreRow]
    scores: list[ScoreRow]
    comparison: SystemsTable | None
    paired: list[tuple[Comparison, list[DifferenceRow]]]
    images: ImageContent | None
    gallery: Gallery | None
    confusions: list[Confusion]
    errors: tuple[WrongCase, ...]
    pairs: PairContent | None
    bottleneck: BottleneckContent | None


@dataclass(frozen=True, slots=True)
class TrainingContent:
    """Training curves as inline SVGs."""

    plots: list["Markup"]


@dataclass(frozen=True, slots=True)
class PublishedContent:
    """Published scores of a task beside those of this report, `ours`: the name and scores of each system.

    `table` names the table of a paper, whose scores are of its own datasets, so that none of ours is beside them.
    """

    title: str
    table: str
    columns: list[str]
    heads: list[str]
    entries: Sequence[Entry]
    ours: list[tuple[str, Mapping[str, float]]]


def html(
    report: ScoreReport,
    gold: Gold,
    masks: Mapping[str, Masks],
    history: Sequence[Row] = (),
    prepared: Prepared | None = None,
    photos: PagePhotos = PagePhotos(),
) -> str:
    """Return the page of a report.

    Args:
        report: what `magic_cli.commands.score` returns.
        gold: the gold of that report, for annotators' masks and photos.
        masks: by system, readers of its mask of each image, (H, W) uint8 {0, 1}; called once for each photo shown.
        history: rows of a run's metrics.jsonl, for training curves; none without a run.
        prepared: the dataset of the gold, for photos of cases without masks, and of cases similar to them.
        photos: which photos are shown.
    """
    given, shown = [system.name for system in report.systems], report.for_people()
    readers = {system.name: masks.get(name, {}) for system, name in zip(shown.systems, given, strict=True)}
    store = PhotoStore(gold.masks, prepared, photos.choice != "none")
    link = partial(relative_link, folder=photos.folder)
    galleries = {  # first: what else shows a photo takes it from there
        name: gallery(shown.by_system(name), gold.masks, readers, store, photos.choice, link)
        for name, task in report.tasks.items()
        if task.deliverable == "masks"
    }
    tasks = [_task_content(shown, name, gold, store, galleries.get(name)) for name in report.tasks]
    sections = [(content.name, content.title) for content in tasks]
    training = _training(report, history)
    published = [
        _published(shown, name, [entry for entry in rows if entry.table == table])
        for name, rows in (report.published or {}).items()
        for table in dict.fromkeys(entry.table for entry in rows)
    ]
    sections += [("training", "Training")] if training else []
    sections += [("published", "Published scores")] if published else []
    sections += [("tables", "Tables to copy")] if (copied := _copied(report)) else []
    return page.render(
        "report.html.jinja",
        report=shown,
        verdicts=shown.verdicts,
        tasks=tasks,
        store=store.photos,
        printed=WORST,
        sections=[*sections, ("reading", "How to read this"), ("provenance", "Provenance")],
        training=training,
        published=published,
        settings=asdict(report.settings),
        command=shlex.join(shown.provenance.argv),
        fewest=FEWEST,
        copied=copied,
        few=FEW,
    )


def _copied(report: ScoreReport) -> list[tuple[str, str, "Markup"]]:
    """Return the tables for working notes: format, name of the file, text; none that is too long for a page."""
    from markupsafe import escape  # here and not by the page, which would show the ends of lines

    tables = score_tables.score_tables(report)
    texts = [("LaTeX", LATEX, score_tables.latex(tables)), ("Markdown", MARKDOWN, score_tables.markdown(tables))]
    return [(kind, name, escape(text)) for kind, name, text in texts if tables and len(text) <= _LONGEST_TABLE]


def _task_content(
    report: ScoreReport, name: str, gold: Gold, store: PhotoStore, pictures: Gallery | None
) -> TaskContent:
    task, systems = report.tasks[name], report.by_system(name)
    is_pairs = task.deliverable == "pairs"
    system = detailed_system(task, systems)
    first = systems[system]
    pairs = None
    if is_pairs:
        pairs = pair_content(report, name, system, of_class(task.gold_in(gold), PairGold), store.are_shown)
    names, questions = list(quality_scores(first, task)), questions_of(first)
    headlines = [key for key in task.headline_scores if key in names] or names[:2]
    wordings = {row["parent"]: row["question"] for row in questions.values()}
    wrong = wrong_cases(first.errors, wordings, store)  # before confusions: photos are few, and these come first
    return TaskContent(
        name=name,
        title=task.title.capitalize(),
        unit=task.unit,
        count=first.scores.get(task.count_score),
        systems=systems,
        system=system,
        first=first,
        cards=[_score_row(first, task, key) for key in headlines],
        scores=[_score_row(first, task, key) for key in names],
        comparison=_comparison(systems, task) if len(systems) > 1 and not is_pairs else None,
        paired=[(row, _paired(row, questions)) for row in report.comparisons if row.task == name and not is_pairs],
        images=image_content(first),
        gallery=pictures,
        confusions=confusions(first.summary_rows, first.per_item, store),
        errors=wrong,
        pairs=pairs,
        bottleneck=_bottleneck(report, system, task, wordings),
    )


def _bottleneck(report: ScoreReport, system: str, task: Task, wordings: Mapping[str, str]) -> BottleneckContent | None:
    """Return what is shown of a concept bottleneck, the detailed system or else the first; None where none is one."""
    if BOTTLENECK_FILE not in task.outputs:
        return None
    paths = dict(zip((row.name for row in report.systems), report.files.preds, strict=False))  # made reports have none
    order = sorted(paths, key=lambda name: name != system)  # the one that is shown in detail, if it is a bottleneck
    found = next(((name, file) for name in order if (file := read_bottleneck(paths[name]))), None)
    return None if found is None else bottleneck_content(*found, wordings)


def _wording(key: str, questions: Mapping[str, Row]) -> tuple[str, str]:
    if key in questions:
        return questions[key]["question"] or questions[key]["parent"], questions[key]["parent"]
    return SCORE_NAMES.get(key, (key, ""))


def _score_row(scores: TaskScores, task: Task, key: str) -> ScoreRow:
    value = quality_scores(scores, task).get(key)
    trivial = {name: row.get(key) for name, row in scores.baselines.items()}
    defined = [(name, other) for name, other in trivial.items() if other is not None and is_defined(other)]
    name, what = _wording(key, questions_of(scores))
    return ScoreRow(
        name=name,
        what=what,
        value=value,
        interval=bounds(scores.intervals.get(key)),
        official=None if key in scores.extra else official(scores, key) or None,
        differs=scores.official is not None and key in scores.official and _differ(value, scores.official[key]),
        trivial=tuple(trivial.values()),
        best_trivial=(min if is_rank(key) else max)(defined, key=lambda pair: pair[1], default=None),
        beyond=is_rank(key) or key.startswith(_NO_SHARES) or (value is not None and value > 1),
    )


def _differ(strict: float | None, printed: float) -> bool:
    return strict is None or not is_defined(strict) or not is_defined(printed) or abs(printed - strict) > _SAME


def _comparison(systems: Mapping[str, TaskScores], task: Task) -> SystemsTable:
    """Return a row per score and a column per system; the best of each row is marked, ties all of them."""
    values = [quality_scores(scores, task) for scores in systems.values()]
    best, questions = best_of(values), questions_of(next(iter(systems.values())))
    rows = []
    for key in names_in(values):
        cells = (
            Cell(row.get(key), bounds(scores.intervals.get(key)), (line, key) in best)
            for line, (scores, row) in enumerate(zip(systems.values(), values, strict=True))
        )
        rows.append((*_wording(key, questions), tuple(cells)))
    return SystemsTable(tuple(systems), tuple(rows))


def _column(key: str) -> str:
    return SCORE_NAMES.get(key, (key.removeprefix(ACCURACY), ""))[0]


def _paired(comparison: Comparison, questions: Mapping[str, Row]) -> list[DifferenceRow]:
    """Return the rows of a comparison."""
    rows = []
    for key, row in comparison.differences.items():
        words = _wording(key, questions)[0]
        rows.append(DifferenceRow(words, row.difference, row.low, row.high, row.p, verdict_of(row)))
    return rows


def _training(report: ScoreReport, history: Sequence[Row]) -> TrainingContent | None:
    """Return training curves: the loss, and up to two headline scores."""
    rows = [row for row in history if isinstance(row.get("epoch"), (int, float))]
    known = [key for row in rows for key, value in row.items() if isinstance(value, float)]
    headlines = [key for task in report.tasks.values() for key in task.headline_scores]
    scores = [key for key in dict.fromkeys((*headlines, "f1_macro")) if key in known]
    scores = (scores or [key for key in dict.fromkeys(known) if key != "loss"])[:2]
    if not rows or not known:
        return None
    kinds = [("Training loss", ["loss"], "loss", ""), ("Score on the valid split", scores, "score", (*scores, "")[0])]
    return TrainingContent(
        [
            plots.curves(rows, keys, title=title, axis=axis, best=best)
            for title, keys, axis, best in kinds
            if set(keys) & set(known)
        ]
    )


def _published(report: ScoreReport, name: str, entries: Sequence[Entry]) -> PublishedContent:
    columns = list(dict.fromkeys(key for entry in entries for key in entry.scores))
    table = entries[0].table
    ours = [] if table else [(system, scores.scores) for system, scores in report.by_system(name).items()]
    title = report.tasks[name].title.capitalize()
    return PublishedContent(
        title, table, columns, [_column(column).replace("_", " ") for column in columns], entries, ours
    )

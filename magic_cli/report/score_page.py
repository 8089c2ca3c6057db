"""report.html: one page from a score report, with pictures of where a system fails.

It holds ids, scores and pictures, no patient's text, and loads nothing. Plots need the extra `report`; without it
the same numbers are tables.
"""

import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from magic_cli.data.gold import Gold
from magic_cli.errors import DataError, ExtraError
from magic_cli.records import Mask, TaskScores
from magic_cli.report import overlays, page, plots
from magic_cli.report.leaderboard import Entry
from magic_cli.report.score_report import Comparison, ScoreReport
from magic_cli.report.score_text import (
    ACCURACY,
    best_of,
    bounds,
    is_defined,
    official,
    quality_scores,
    questions_of,
)
from magic_cli.training.task import Task

Row = Mapping[str, Any]

Masks = Mapping[str, Callable[[], Mask]]

_WORDS = {
    "jaccard_meanofmax": ("Jaccard, mean of max", "of each image the best annotator"),
    "jaccard_meanofmean": ("Jaccard, mean of mean", "of each image the mean over annotators"),
    "dice_meanofmax": ("Dice, mean of max", "of each image the best annotator"),
    "dice_meanofmean": ("Dice, mean of mean", "of each image the mean over annotators"),
    "jaccard": ("Jaccard, pooled", "pixels of all images against the majority mask"),
    "dice": ("Dice, pooled", "pixels of all images against the majority mask"),
    "accuracy_all": ("Accuracy, all questions", "mean over the parent questions"),
    "f1_macro": ("Macro F1", "over slots in canonical order; not an official score"),
}

_SHOWN, _SIDE = 4, 480

_MOST_CONFUSIONS = 4

_SAME = 5e-5  # official and strict scores nearer than this look the same


@dataclass(frozen=True, slots=True)
class Picture:
    """A photo with contours: `source` is a data URI, `size` (width, height), `item` its row of the report."""

    item: Row
    source: str
    size: tuple[int, int]
    alt: str


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A score with its interval, the official one as printed, and those of trivial answers.

    `best_trivial` is the name and score of the best trivial answer, None if none is defined.
    """

    name: str
    what: str
    value: float | None
    interval: tuple[float, float] | None
    official: str | None
    differs: bool
    trivial: tuple[float | None, ...]
    best_trivial: tuple[str, float] | None


@dataclass(frozen=True, slots=True)
class Cell:
    """A score in the table of several systems; `best` marks the best of its column."""

    value: float | None
    interval: tuple[float, float] | None
    best: bool


@dataclass(frozen=True, slots=True)
class SystemsTable:
    """Several systems side by side: names of the columns, then each system's name and cells."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """A paired difference with a verdict: "higher", "lower" or "no clear difference"."""

    name: str
    difference: float
    low: float
    high: float
    p: float
    verdict: str


def html(report: ScoreReport, gold: Gold, masks: Masks, history: Sequence[Row] = ()) -> str:
    """Return the page of a report.

    Args:
        report: what `magic_cli.commands.score` returns.
        gold: the gold of that report, for annotators' masks and photos of the images shown.
        masks: reader of the first system's mask of each image, (H, W) uint8 {0, 1}; called for a dozen of them.
        history: rows of a run's metrics.jsonl, for training curves; none without a run.
    """
    tasks = [_task_content(report, name, gold, masks) for name in report.tasks]
    sections = [(content["name"], content["title"]) for content in tasks]
    training = _training(report, history)
    published = [_published(report, name, rows) for name, rows in (report.published or {}).items() if rows]
    sections += [("training", "Training")] if training else []
    sections += [("published", "Published scores")] if published else []
    return page.render(
        "report.html.jinja",
        report=report,
        tasks=tasks,
        sections=[*sections, ("reading", "How to read this"), ("provenance", "Provenance")],
        training=training,
        published=published,
        settings=asdict(report.settings),
        command=shlex.join(report.provenance.argv),
        remedy=plots.REMEDY,
    )


def _task_content(report: ScoreReport, name: str, gold: Gold, masks: Masks) -> dict[str, Any]:
    """Return all that the page says about a task; its details are those of the first system that has it."""
    task, systems = report.tasks[name], report.by_system(name)
    system, first = next(iter(systems.items()))
    names = list(quality_scores(first, task))
    headlines = [key for key in task.headline_scores if key in names] or names[:2]
    images = [item for item in first.per_item if "dice_max" in item]
    content = {
        "name": name,
        "title": task.title.capitalize(),
        "system": system,
        "systems": systems,
        "first": first,
        "count": first.scores.get(task.count_score),
        "unit": task.unit,
        "main": _wording(headlines[0], questions_of(first))[0] if headlines else "",
        "cards": [_score_row(first, task, key) for key in headlines],
        "scores": [_score_row(first, task, key) for key in names],
        "comparison": _comparison(systems, task) if len(systems) > 1 else None,
        "paired": [(row, _paired(row, questions_of(first))) for row in report.comparisons if row.task == name],
        "images": images,
        "confusions": [_confusion(row) for row in first.summary_rows if row.get("confusion")],
    }
    return content | (_of_images(images, first, gold, masks) if images else {})


def _wording(key: str, questions: Mapping[str, Row]) -> tuple[str, str]:
    if key in questions:
        return questions[key]["question"] or questions[key]["parent"], questions[key]["parent"]
    return _WORDS.get(key, (key, ""))


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
        best_trivial=max(defined, key=lambda pair: pair[1], default=None),
    )


def _differ(strict: float | None, printed: float) -> bool:
    return strict is None or not is_defined(strict) or not is_defined(printed) or abs(printed - strict) > _SAME


def _comparison(systems: Mapping[str, TaskScores], task: Task) -> SystemsTable:
    """Return a row per system and a column per score; the best of each column is marked, ties all of them."""
    values = [quality_scores(scores, task) for scores in systems.values()]
    best, keys = best_of(values), list(values[0])
    rows = []
    for line, ((system, scores), row) in enumerate(zip(systems.items(), values, strict=True)):
        cells = (Cell(row.get(key), bounds(scores.intervals.get(key)), (line, key) in best) for key in keys)
        rows.append((system, tuple(cells)))
    return SystemsTable(tuple(map(_column, keys)), tuple(rows))


def _column(key: str) -> str:
    return _WORDS.get(key, (key.removeprefix(ACCURACY), ""))[0]


def _paired(comparison: Comparison, questions: Mapping[str, Row]) -> list[DifferenceRow]:
    """Return the rows of a comparison with a verdict: only where the p-value and the interval say the same."""
    rows = []
    for key, row in comparison.differences.items():
        clear = row.p < 0.05 and row.low * row.high > 0  # false where one of them is NaN
        verdict = ("higher" if row.low > 0 else "lower") if clear else "no clear difference"
        rows.append(DifferenceRow(_wording(key, questions)[0], row.difference, row.low, row.high, row.p, verdict))
    return rows


def _of_images(items: Sequence[Row], first: TaskScores, gold: Gold, masks: Masks) -> dict[str, Any]:
    """Return what a page shows of images: distribution, size, agreement, and a dozen overlays."""
    scored = [item for item in items if is_defined(item["dice_max"])]
    sized = [item for item in scored if (item["lesion"] or 0) > 0]
    jaccards = [item["jaccard_max"] for item in scored if is_defined(item["jaccard_max"])]
    sizes, dices = [item["lesion"] for item in sized], [item["dice_max"] for item in sized]
    chosen = [(words, list(_pictures(rows, gold, masks))) for words, rows in choose(scored)]
    shown = [picture.item["image"] for _, pictures in chosen for picture in pictures]
    most = max((len(gold.images[image].annotators) for image in shown), default=0)
    return {
        "pictures": [(words, pictures) for words, pictures in chosen if pictures],
        "annotator_lines": [overlays.line_of(number) for number in range(most)],
        "prediction_line": overlays.PREDICTION,
        "bins": [(k / plots.BINS, (k + 1) / plots.BINS, int(n)) for k, n in enumerate(plots.bins(jaccards))],
        "plots": list(_plots(jaccards, sizes, dices)),
        "sizes": plots.groups(sizes, dices) if sizes else (),
        "empty": len(scored) - len(sized),
        "skipped": len(items) - len(scored),
        "faulty": sum(bool(item["fault"]) for item in items),
        "annotators": _annotators(first),
        "agreement": _agreement(first.agreement),
    }


def choose(scored: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Return the images to show by rising Dice (best annotator): four of the best, the middle and the worst.

    Files that count as zero have nothing to show and are left out; fewer than a dozen images are shown all.
    """
    ranked = sorted((item for item in scored if not item["fault"]), key=lambda i: (i["dice_max"], i["image"]))
    number = min(_SHOWN, math.ceil(len(ranked) / 3))
    low = max(number, (len(ranked) - number) // 2)
    best = ranked[max(len(ranked) - number, low) :]
    middle = ranked[low : min(low + number, len(ranked) - len(best))]
    return [("Best", best[::-1]), ("Around the median", middle), ("Worst", ranked[:number])]


def _pictures(items: Sequence[Row], gold: Gold, masks: Masks) -> Iterator[Picture]:
    for item in items:
        name = item["image"]
        if name not in gold.images:
            continue
        try:
            truth = list(gold.images[name].masks())
            prediction = masks[name]() if name in masks else None
        except DataError:
            continue  # scoring has said so already
        photo = gold.photos.get(name)
        picture = overlays.overlay(photo, truth, prediction, _SIDE, gold.upright.get(name))
        people = f"{len(truth)} annotator{'s' if len(truth) > 1 else ''}"
        alt = f"{name}: contours of {people} and of the prediction{'' if photo else ', without the photo'}"
        yield Picture(item, page.data_uri(picture, _SIDE), picture.size, f"{alt}; Dice {item['dice_max']:.2f}")


def _plots(jaccards: Sequence[float], sizes: Sequence[float], dices: Sequence[float]) -> Iterator[tuple[Any, str]]:
    """Yield inline SVGs with their captions; none without matplotlib."""
    from markupsafe import Markup  # of jinja2; the SVGs are our own

    try:
        if jaccards:
            title, axis = "Jaccard of each image", "Jaccard with the best annotator"
            svg = plots.histogram(jaccards, name="jaccard", title=title, axis=axis)
            yield Markup(svg), "Each image's Jaccard with its best annotator, in bins of 0.05."  # noqa: S704
        if sizes:
            title, axis = "Dice against lesion size", "lesion, share of the photo (log scale)"
            svg = plots.scatter(sizes, dices, name="size", title=title, x_axis=axis, y_axis="Dice, best annotator")
            yield Markup(svg), _points(len(sizes))  # noqa: S704
    except ExtraError:
        return


def _points(number: int) -> str:
    text = "A point is an image; its lesion is the mean over annotators."
    if number <= plots.POINTS:
        return text
    return f"{text} {plots.POINTS:,} of {number:,} images are drawn; the medians are those of all."


def _annotators(first: TaskScores) -> list[tuple[str, Row | None, Row | None]]:
    """Return a row per annotator: the name, the system against them, and they themselves scored as a system."""
    human = {row["annotator"]: row for row in (first.agreement or {}).get("annotators", ())}
    system = {row["annotator"]: row for row in first.summary_rows if "annotator" in row}
    return [(name, system.get(name), human.get(name)) for name in {**system, **human}]


def _agreement(agreement: Row | None) -> dict[str, Any] | None:
    if not agreement:
        return None
    human, system = agreement["human"], agreement["system"]
    rows = [(*_WORDS.get(key, (key, "")), value, system.get(key)) for key, value in human.items()]
    return {"images": agreement["images"], "rows": rows}


def _confusion(row: Row) -> dict[str, Any]:
    """Return a parent's confusion as a heat table of what occurs, and its most frequent confusions in words."""
    table, options = row["confusion"], [*row["options"], "no answer"]
    last = len(table) - 1
    names = [options[k] if k < len(row["options"]) else str(k) for k in range(last)] + [None]
    used = [k for k in range(last) if any(table[k]) or any(line[k] for line in table)]
    total = [sum(line) for line in table]
    pairs = sorted(
        ((n, g, p) for g, line in enumerate(table) for p, n in enumerate(line) if g != p and n >= 1),
        key=lambda pair: (-pair[0], pair[1], pair[2]),
    )
    return {
        **{key: row[key] for key in ("parent", "question", "accuracy", "n")},
        "names": names,
        "rows": [k for k in (*used, last) if k < last or any(table[last])],
        "columns": [k for k in (*used, last) if k < last or any(line[last] for line in table)],
        "table": table,
        "shares": [[n / total[g] if total[g] else 0 for n in line] for g, line in enumerate(table)],
        "last": last,
        "absent": [names[k] for k in range(last) if k not in used],
        "pairs": pairs[:_MOST_CONFUSIONS],
    }


def _training(report: ScoreReport, history: Sequence[Row]) -> dict[str, Any] | None:
    """Return training curves or their table: the loss, and up to two scores of those a run is chosen by."""
    from markupsafe import Markup

    rows = [row for row in history if isinstance(row.get("epoch"), (int, float))]
    known = [key for row in rows for key, value in row.items() if isinstance(value, float)]
    headlines = [key for task in report.tasks.values() for key in task.headline_scores]
    scores = [key for key in dict.fromkeys((*headlines, "f1_macro")) if key in known]
    scores = (scores or [key for key in dict.fromkeys(known) if key != "loss"])[:2]
    if not rows or not known:
        return None
    kinds = [("Training loss", ["loss"], "loss", ""), ("Score on the valid split", scores, "score", (*scores, "")[0])]
    try:
        svgs = [
            plots.curves(rows, keys, name=axis, title=title, axis=axis, best=best)
            for title, keys, axis, best in kinds
            if set(keys) & set(known)
        ]
    except ExtraError:
        svgs = []
    return {"rows": rows, "columns": ["loss", *scores], "plots": [Markup(svg) for svg in svgs]}  # noqa: S704


def _published(report: ScoreReport, name: str, entries: Sequence[Entry]) -> dict[str, Any]:
    columns = list(dict.fromkeys(key for entry in entries for key in entry.scores))
    ours = [(system, scores.scores) for system, scores in report.by_system(name).items()]
    title = report.tasks[name].title.capitalize()
    return {"title": title, "columns": columns, "heads": list(map(_column, columns)), "entries": entries, "ours": ours}

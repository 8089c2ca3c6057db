"""Scores for the terminal: a system in detail, systems side by side, paired differences, published scores."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from magic_cli.metrics.bootstrap import Difference
from magic_cli.records import Interval, TaskScores
from magic_cli.report.leaderboard import Entry
from magic_cli.report.table import Table
from magic_cli.training.task import Task

ACCURACY = "accuracy_"

SCORE_NAMES = {
    "jaccard_meanofmax": ("Jaccard, mean of max", "best annotator of each image"),
    "jaccard_meanofmean": ("Jaccard, mean of mean", "mean over the annotators of each image"),
    "dice_meanofmax": ("Dice, mean of max", "best annotator of each image"),
    "dice_meanofmean": ("Dice, mean of mean", "mean over the annotators of each image"),
    "jaccard": ("Jaccard, pooled", "pixels of all images against the majority mask"),
    "dice": ("Dice, pooled", "pixels of all images against the majority mask"),
    "accuracy_all": ("Accuracy, all questions", "mean over the parent questions"),
    "top1": ("Top-1 accuracy", "the class with the highest probability"),
    "top5": ("Top-5 accuracy", "the class is among the five with the highest probability"),
    "balanced_accuracy": ("Balanced accuracy", "mean recall of the classes"),
    "weighted_f1": ("Weighted F1", "F1 of each class, weighted by its photos"),
    "macro_auroc": ("Macro AUROC", "mean over the classes, each against the rest"),
    "concept_auroc": ("Concept AUROC", "mean over the concepts that are defined"),
    "concepts_above_0.7": ("Concepts above 0.7", "number of concepts with an AUROC above 0.7"),
    "presence_auroc": ("Presence AUROC", "classes that are there against those that are not, by the likest place"),
    "grounding_cnr": ("Grounding CNR", "contrast to noise of the own text's map inside the mask, with its sign"),
    "grounding_abs_cnr": ("Grounding |CNR|", "the same without its sign, as BioViL has it"),
    "grounding_miou": ("Grounding mIoU", "of the own text's map with the mask, at thresholds 0.1 to 0.5"),
    "recall@10": ("Recall at 10", "a hit among the first ten, mean of both directions"),
    "mean_of_tasks": ("Mean of tasks", "of balanced accuracy, concept AUROC and recall at 10, where defined"),
    "macro_map": ("Macro mAP", "average precision, mean over the classes of the queries"),
    "balanced_acc@1": ("Balanced Acc@1", "the first case is of the query's class, mean over classes"),
    "balanced_acc@2": ("Balanced Acc@2", "one of the first two cases is, mean over classes"),
    "balanced_acc@4": ("Balanced Acc@4", "one of the first four cases is, mean over classes"),
    "balanced_acc@10": ("Balanced Acc@10", "one of the first ten cases is, mean over classes"),
    "map": ("mAP", "average precision, mean over queries"),
    "acc@1": ("Acc@1", "the first case is of the query's class"),
    "acc@2": ("Acc@2", "one of the first two cases is"),
    "acc@4": ("Acc@4", "one of the first four cases is; compare with a random order"),
    "vote@4": ("Vote of 4", "most of the first four cases are of the query's class"),
    "balanced_vote@4": ("Balanced vote of 4", "the same, mean over classes"),
    "macro_ndcg@10": ("Macro nDCG at 10", "graded by class and attributes, mean over classes"),
    "ndcg@10": ("nDCG at 10", "graded by class and attributes"),
    "f1_macro": ("Macro F1", "over slots in canonical order; not an official score"),
}

"""Scores by their key: the name for people and what it is."""


def _retrieval_names() -> Iterator[tuple[str, tuple[str, str]]]:
    for way, words, other in (("i2t", "Photo to text", "text"), ("t2i", "Text to photo", "photo")):
        for k in (10, 50, 100):
            yield f"{way}_recall_any@{k}", (f"{words}, recall at {k}", f"a hit among the first {k}")
            yield f"{way}_recall_fraction@{k}", (f"{words}, share at {k}", f"of all hits, those among the first {k}")
        for kind in ("median", "mean"):
            yield f"{way}_{kind}_rank", (f"{words}, {kind} rank", f"of the own {other}; lower is better")


SCORE_NAMES |= dict(_retrieval_names())

_MOST_SENTENCES, _MOST_ERRORS, _MOST_ROWS = 20, 5, 30

_AGREEMENT_SCORES = ("dice_meanofmax", "dice_meanofmean")


def task_lines(scores: TaskScores, task: Task, track: str, empty: str) -> Iterator[str]:
    """Yield one system's scores of a task as a table, and the remarks on them.

    Args:
        scores: of one system.
        task: the task that was scored.
        track: "both", "official" or "strict": the columns that are shown.
        empty: what an empty mask against an empty mask counts as.
    """
    baselines = [] if track == "official" else list(scores.baselines)
    columns = {
        "both": ("strict", "95 % interval", "official"),
        "strict": ("strict", "95 % interval"),
        "official": ("official",),
    }[track if scores.has_official else "strict"]
    questions = questions_of(scores)
    rows = []
    for name, value in quality_scores(scores, task).items():
        if name in scores.extra and track == "official":
            continue
        cells = {"strict": number(value), "95 % interval": interval(bounds(scores.intervals.get(name)))}
        cells["official"] = official(scores, name)
        row = (name, *(cells[column] for column in columns))
        row += tuple(number(scores.baselines[baseline].get(name)) for baseline in baselines)
        rows.append(row + ((_cut(questions.get(name, {}).get("question", "")),) if questions else ()))
    head = ("", *columns, *baselines, *(("",) if questions else ()))
    words = frozenset({len(head) - 1} if questions else ())
    yield from Table(_title(scores, task, track, empty), head, tuple(rows), words=words).lines()
    for kind in ("class", "concept"):
        rows_of_kind = [row for row in scores.summary_rows if kind in row]
        if rows_of_kind and "queries" in rows_of_kind[0]:
            yield from _query_rows(rows_of_kind).lines()
        elif rows_of_kind:
            yield from _named_rows(kind, rows_of_kind, scores).lines()
    yield from _sentences(scores, track)
    if scores.errors and track != "official":
        yield from _errors(scores.errors[:_MOST_ERRORS]).lines()


def _title(scores: TaskScores, task: Task, track: str, empty: str) -> str:
    count = scores.scores.get(task.count_score)
    rule = f"; empty against empty counts as {empty}" if task.deliverable == "masks" and track != "official" else ""
    return f"{task.title}: {'' if count is None else f'{count:.0f} {task.unit}'}{rule}"


def _sentences(scores: TaskScores, track: str) -> Iterator[str]:
    if scores.agreement and track != "official":
        human, system = scores.agreement["human"], scores.agreement["system"]
        gaps = scores.agreement.get("differences", {})
        pairs = (
            f"{key} {number(human[key])} (this system {number(system[key])}{_gap(gaps.get(key))})"
            for key in _AGREEMENT_SCORES
        )
        images = scores.agreement["images"]
        yield f"annotators against each other, one left out, on {images} images: {', '.join(pairs)}"
    kinds = [("official run stops: ", scores.official_errors), ("official differs: ", scores.differences)]
    if track != "official":
        kinds.append(("counted as zero: ", scores.rejected))
    for label, sentences in kinds:
        yield from (label + sentence for sentence in sentences[:_MOST_SENTENCES])
        if len(sentences) > _MOST_SENTENCES:
            yield f"{label}{len(sentences) - _MOST_SENTENCES} more, all of them in --json and --out"
    yield from (f"note: {note}" for note in scores.notes)


def _gap(row: Mapping[str, float] | None) -> str:
    """Return ", difference +0.0200, -0.0100 to +0.0500", "" where there is no interval."""
    sure = "" if row is None else between(row["low"], row["high"])
    return f", difference {signed(row['difference'])}, {sure}" if row is not None and sure else ""


def _named_rows(kind: str, rows: Sequence[Mapping[str, Any]], scores: TaskScores) -> Table:
    """Return a row per class or concept: photos, recall and AUROC, and the interval of the first of the two."""
    main = "recall" if kind == "class" else "auroc"
    prefix = main if kind == "class" else "concept_auroc"
    cells = []
    for row in rows[:_MOST_ROWS]:
        pair = bounds(scores.intervals.get(f"{prefix}[{row[kind]}]"))
        recall = (number(row["recall"]),) if kind == "class" else ()
        area = number(row["auroc"]) or "undefined"
        rest = number(row.get("specificity")) or "undefined"
        values = (*recall, interval(pair), area, rest) if kind == "class" else (area, interval(pair))
        cells.append((_cut(row[kind]), str(row["photos"]), *values))
    head = (
        ("recall", "95 % interval", "AUROC", "specificity at sensitivity 0.9")
        if kind == "class"
        else ("AUROC", "95 % interval")
    )
    more = f"; {len(rows) - _MOST_ROWS} more in --json and --out" if len(rows) > _MOST_ROWS else ""
    return Table(f"per {kind}{more}", ("", "photos", *head), tuple(cells))


def _query_rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return a row per class of the queries of case retrieval, with the chance level beside each score."""
    names = [name for name in rows[0] if name not in ("class", "queries")]
    cells = tuple(
        (_cut(r["class"]), str(r["queries"]), *(number(r[name]) for name in names)) for r in rows[:_MOST_ROWS]
    )
    more = f"; {len(rows) - _MOST_ROWS} more in --json and --out" if len(rows) > _MOST_ROWS else ""
    return Table(f"per class{more}", ("", "queries", *names), cells)


def _errors(errors: Sequence[Mapping[str, Any]]) -> Table:
    cells = tuple(
        (row["encounter"], row["parent"], f"{row['probability']:.2f}", _cut(row["answer"]), _cut(row["gold"]))
        for row in errors
    )
    title = "most confident wrong answers, by the probabilities in predictions.jsonl"
    return Table(title, ("", "question", "probability", "answer", "gold"), cells, words=frozenset({1, 3, 4}))


def side_by_side(task: Task, systems: Mapping[str, TaskScores]) -> Table:
    """Return a row per system and a column per strict score, intervals below, the best of each column marked.

    Of case retrieval, rows of trivial rankings come last.
    """
    values = [quality_scores(scores, task) for scores in systems.values()]
    names = names_in(values)
    rows = tuple(
        (system, *(f"{number(row.get(n))}\n{interval(bounds(scores.intervals.get(n)))}" for n in names))
        for (system, scores), row in zip(systems.items(), values, strict=True)
    )
    marked = frozenset((line, names.index(name) + 1) for line, name in best_of(values))
    if task.deliverable == "rankings":  # chance differs from score to score
        trivial = next(iter(systems.values())).baselines
        rows += tuple((label, *(number(row.get(name)) for name in names)) for label, row in trivial.items())
    head = ("", *(name.removeprefix(ACCURACY) for name in names))
    return Table(f"{task.title}: strict scores, * is best", head, rows, marked)


def remarks(systems: Mapping[str, TaskScores], track: str) -> Iterator[str]:
    """Yield the remarks on systems that are shown side by side, and what counts as zero, with the systems' names.

    What is said of all systems is a line without a name.
    """
    kinds = {"note: ": {name: scores.notes for name, scores in systems.items()}}
    if track != "official":
        kinds["counted as zero: "] = {name: scores.rejected for name, scores in systems.items()}
    for label, of_system in kinds.items():
        sentences = list(dict.fromkeys(chain.from_iterable(of_system.values())))
        for sentence in sentences[:_MOST_SENTENCES]:
            names = [name for name, known in of_system.items() if sentence in known]
            yield label + ("" if len(names) == len(systems) else f"{' and '.join(names)}: ") + sentence
        if len(sentences) > _MOST_SENTENCES:
            yield f"{label}{len(sentences) - _MOST_SENTENCES} more, all of them in --json and --out"


def difference_table(title: str, differences: Mapping[str, Difference]) -> Table:
    """Return a row per score: the difference of two systems, its interval and its p-value."""
    rows = tuple(
        (name, signed(row.difference), between(row.low, row.high), number(row.p)) for name, row in differences.items()
    )
    return Table(title, ("", "difference", "95 % interval", "p (sign flips)"), rows)


def published_tables(task: Task, entries: Sequence[Entry]) -> Iterator[Table]:
    """Yield the published tables of a task, with a row per run."""
    for place in dict.fromkeys(entry.table for entry in entries):
        table = [entry for entry in entries if entry.table == place]
        names = list(max(table, key=lambda entry: len(entry.scores)).scores)
        cells = ((row.name, *(f"{row.scores[n]:g}" if n in row.scores else "" for n in names)) for row in table)
        yield Table(f"{task.title}: published, {place or 'test set'}", ("", *names), tuple(cells))


def quality_scores(scores: TaskScores, task: Task) -> dict[str, float]:
    """Return the strict scores by name, without the count; those that the official scorer lacks come last."""
    return {name: value for name, value in {**scores.scores, **scores.extra}.items() if name != task.count_score}


def questions_of(scores: TaskScores) -> dict[str, Mapping[str, Any]]:
    """Return the rows of parent questions by the names of their scores."""
    return {ACCURACY + row["parent"]: row for row in scores.summary_rows if "parent" in row}


def best_of(rows: Sequence[Mapping[str, float]]) -> set[tuple[int, str]]:
    """Return row number and name of every score that no other row betters."""
    defined = {name: [row[name] for row in rows if is_defined(row.get(name))] for name in names_in(rows)}
    return {
        (line, name)
        for name, values in defined.items()
        for top in [(min if is_rank(name) else max)(values, default=None)]
        for line, row in enumerate(rows)
        if top is not None and row.get(name) == top
    }


def names_in(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the names of all scores, in order of appearance: a system may lack those that need probabilities."""
    return list(dict.fromkeys(name for row in rows for name in row))


def is_rank(name: str) -> bool:
    """Return whether a score is a rank: at least 1, and lower is better."""
    return name.endswith("_rank")


def verdict_of(row: Difference) -> str:
    """Return "higher", "lower" or "no clear difference"; clear is p below 0.05 and an interval without 0."""
    clear = row.p < 0.05 and row.low * row.high > 0  # false where one of them is NaN
    return ("higher" if row.low > 0 else "lower") if clear else "no clear difference"


def official(scores: TaskScores, name: str) -> str:
    """Return what the official scorer prints for a score: a number, "NaN", "stops", or "" if it has no such score."""
    if scores.official is None:
        return "stops" if scores.official_errors else ""
    if name not in scores.official:
        return ""
    return number(scores.official[name]) or "NaN"


def is_defined(value: float | None) -> bool:
    """Return whether a value is a number; None and NaN are not."""
    return value is not None and math.isfinite(value)


def number(value: float | None) -> str:
    """Return a score with four decimals, "" for None and NaN."""
    return f"{value:.4f}" if is_defined(value) else ""


def signed(value: float | None) -> str:
    """Return a difference with its sign and four decimals, "" for None and NaN."""
    return f"{value:+.4f}" if is_defined(value) else ""


def between(low: float | None, high: float | None) -> str:
    """Return "-0.0100 to +0.0700", "" if a bound is None or NaN."""
    return f"{signed(low)} to {signed(high)}" if is_defined(low) and is_defined(high) else ""


def bounds(pair: Interval | None) -> tuple[float, float] | None:
    """Return the bounds of an interval; None if there is none, or a bound is NaN."""
    return (pair.low, pair.high) if pair is not None and is_defined(pair.low) and is_defined(pair.high) else None


def interval(pair: Sequence[float | None] | None) -> str:
    """Return "0.741-0.815", "" if there is no interval or a bound is None or NaN."""
    return "" if pair is None or not all(map(is_defined, pair)) else f"{pair[0]:.3f}-{pair[1]:.3f}"


def _cut(text: str, width: int = 40) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3] + "..."

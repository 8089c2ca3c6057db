"""report.html: one page from the referee's report, with pictures of where a system fails.

It holds ids, figures and pictures, no patient's text, and loads nothing. Plots need the extra `report`; without it
the same numbers are tables.
"""

import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from magic_cli.data.gold import Gold
from magic_cli.errors import DataError, ExtraError
from magic_cli.records import Mask
from magic_cli.report import overlays, page, plots
from magic_cli.report.score_text import ACCURACY, TITLES, UNITS, best_of, official, questions_of, shown

Row = Mapping[str, Any]

CARDS = {"seg": ("dice_meanofmax", "jaccard_meanofmax"), "cvqa": ("accuracy_all",)}

_WORDS = {
    "jaccard_meanofmax": ("Jaccard, mean of max", "of each image the best annotator"),
    "jaccard_meanofmean": ("Jaccard, mean of mean", "of each image the mean over annotators"),
    "dice_meanofmax": ("Dice, mean of max", "of each image the best annotator"),
    "dice_meanofmean": ("Dice, mean of mean", "of each image the mean over annotators"),
    "jaccard": ("Jaccard, pooled", "pixels of all images against the majority mask"),
    "dice": ("Dice, pooled", "pixels of all images against the majority mask"),
    "accuracy_all": ("Accuracy, all questions", "mean over the parent questions"),
    "f1_macro": ("Macro F1", "over slots in canonical order; not an official figure"),
}

_SHOWN, _SIDE = 4, 480

_MOST_CONFUSIONS = 4


@dataclass(frozen=True, slots=True)
class Picture:
    """A photo with contours: `source` is a data URI, `size` (width, height), `item` its row of the report."""

    item: Row
    source: str
    size: tuple[int, int]
    alt: str


def html(
    report: dict[str, Any],
    gold: Gold,
    masks: Mapping[str, Callable[[], Mask]],
    history: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """Return the page of a report.

    Args:
        report: what `referee.judge` returns (schemas/report.schema.json).
        gold: the gold of that report, for annotators' masks and photos of the images shown.
        masks: reader of the first system's mask of each image, (H, W) uint8 {0, 1}; called for a dozen of them.
        history: rows of a run's metrics.jsonl, for training curves.
    """
    systems = report["systems"]
    names = list(dict.fromkeys(one["task"] for system in systems for one in system["reports"]))
    tasks = [_task(report, name, gold, masks) for name in names]
    sections = [(task["name"], task["title"]) for task in tasks]
    runs, published = _training(history or ()), report.get("leaderboard", ())
    sections += [(name, title) for name, title, there in (
        ("training", "Training", runs), ("published", "Published figures", published)) if there]  # fmt: skip
    return page.render(
        "report.html.jinja",
        report=report,
        tasks=tasks,
        sections=[*sections, ("reading", "How to read this"), ("provenance", "Provenance")],
        training=runs,
        published=[_published(report, name, published) for name in dict.fromkeys(row["task"] for row in published)],
        command=shlex.join(report["provenance"]["argv"]),
        remedy=plots.REMEDY,
    )


def _task(report: Row, name: str, gold: Gold, masks: Mapping[str, Callable[[], Mask]]) -> dict[str, Any]:
    """Return all that the page says about a task; its details are those of the first system that has it."""
    found = [(s["name"], one) for s in report["systems"] for one in s["reports"] if one["task"] == name]
    system, first = found[0]
    questions, keys = questions_of(first), list(shown(first))
    task = {
        "name": name,
        "title": TITLES[name].capitalize(),
        "system": system,
        "systems": found,
        "first": first,
        "counts": [(first["figures"][key], unit) for key, unit in UNITS.items() if key in first["figures"]],
        "cards": [_headline(first, key, questions) for key in CARDS.get(name, keys[:2]) if key in keys],
        "figures": [_headline(first, key, questions) for key in keys],
        "comparison": _comparison(found, keys) if len(found) > 1 else None,
        "paired": [_paired(row, questions) for row in report["comparisons"] if row["task"] == name],
        "images": [item for item in first["items"] if "dice_max" in item],
        "confusions": [_confusion(row) for row in first["rows"] if row.get("confusion")],
    }
    return task | (_of_images(task["images"], first, gold, masks) if task["images"] else {})


def _wording(key: str, questions: Mapping[str, Row]) -> tuple[str, str]:
    if key in questions:
        return questions[key]["question"] or questions[key]["parent"], questions[key]["parent"]
    return _WORDS.get(key, (key, ""))


def _headline(one: Row, key: str, questions: Mapping[str, Row]) -> dict[str, Any]:
    """Return a figure with its interval, the official one and those of trivial answers."""
    value, printed = shown(one).get(key), one["official"] or {}
    trivial = {name: row.get(key) for name, row in one["baselines"].items()}
    known = {name: figure for name, figure in trivial.items() if figure is not None}
    name, what = _wording(key, questions)
    low, high = one["intervals"].get(key) or (None, None)
    return {
        "key": key,
        "name": name,
        "what": what,
        "value": value,
        "interval": None if low is None or high is None else (low, high),
        "official": (official(one, key) or None) if key not in one["extra"] else None,
        "differs": key in printed and (None in (value, printed[key]) or abs(printed[key] - value) > 5e-5),
        "trivial": list(trivial.values()),
        "best_trivial": max(known.items(), key=lambda item: item[1], default=None),
    }


def _comparison(found: Sequence[tuple[str, Row]], keys: Sequence[str]) -> dict[str, Any]:
    """Return a row a system and a column a figure; the best of each column is marked, ties all of them."""
    values = [shown(one) for _, one in found]
    best = best_of(values)
    rows = []
    for line, ((system, one), row) in enumerate(zip(found, values, strict=True)):
        cells = [
            {
                "value": row.get(key),
                "interval": None if None in (pair := one["intervals"].get(key) or [None]) else pair,
                "best": (line, key) in best,
            }
            for key in keys
        ]
        rows.append({"system": system, "cells": cells})
    heads = [_WORDS.get(key, (key.removeprefix(ACCURACY), ""))[0] for key in keys]
    return {"heads": heads, "rows": rows}


def _paired(comparison: Row, questions: Mapping[str, Row]) -> dict[str, Any]:
    """Return the rows of a comparison with a verdict: only where the p-value and the interval say the same."""
    rows = []
    for key, found in comparison["figures"].items():
        p, low, high = found["p"], found["low"], found["high"]
        clear = None not in (p, low, high) and p < 0.05 and low * high > 0
        verdict = ("higher" if low > 0 else "lower") if clear else "no clear difference"
        rows.append({"name": _wording(key, questions)[0], "verdict": verdict, **found})
    return {**comparison, "rows": rows}


def _of_images(items: Sequence[Row], first: Row, gold: Gold, masks: Mapping[str, Callable[[], Mask]]) -> dict[str, Any]:
    """Return what a page shows of images: distribution, size, agreement, and a dozen overlays."""
    scored = [item for item in items if item["dice_max"] is not None]
    sized = [item for item in scored if (item["lesion"] or 0) > 0]
    jaccards = [item["jaccard_max"] for item in scored if item["jaccard_max"] is not None]
    sizes, dices = [item["lesion"] for item in sized], [item["dice_max"] for item in sized]
    pictures = [(words, list(_pictures(rows, gold, masks))) for words, rows in choose(scored)]
    most = max((len(gold.images[p.item["image"]].annotators) for _, found in pictures for p in found), default=0)
    return {
        "pictures": [(words, found) for words, found in pictures if found],
        "lines": [overlays.line_of(number) for number in range(most)],
        "found_line": overlays.FOUND,
        "bins": [(k / plots.BINS, (k + 1) / plots.BINS, int(n)) for k, n in enumerate(plots.bins(jaccards))],
        "plots": list(_plots(jaccards, sizes, dices)),
        "sizes": plots.groups(sizes, dices) if sizes else (),
        "empty": len(scored) - len(sized),
        "skipped": len(items) - len(scored),
        "faulty": sum(bool(item["fault"]) for item in items),
        "annotators": _annotators(first),
        "agreement": _agreement(first["agreement"]),
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


def _pictures(items: Sequence[Row], gold: Gold, masks: Mapping[str, Callable[[], Mask]]) -> Iterator[Picture]:
    for item in items:
        name = item["image"]
        if name not in gold.images:
            continue
        try:
            truth = list(gold.images[name].masks())
            found = masks[name]() if name in masks else None
        except DataError:
            continue  # scoring has said so already
        photo = gold.photos.get(name)
        picture = overlays.overlay(photo, truth, found, _SIDE, gold.upright.get(name))
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


def _annotators(first: Row) -> list[dict[str, Any]]:
    """Return a row an annotator: the system against them, and they themselves scored as if they were a system."""
    people = {row["annotator"]: row for row in (first["agreement"] or {}).get("annotators", ())}
    mine = {row["annotator"]: row for row in first["rows"] if "annotator" in row}
    return [{"name": name, "system": mine.get(name), "human": people.get(name)} for name in {**mine, **people}]


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


def _training(history: Sequence[Row]) -> dict[str, Any] | None:
    """Return training curves or their table: the loss, and up to two figures of those a run is judged by."""
    from markupsafe import Markup

    rows = [row for row in history if isinstance(row.get("epoch"), (int, float))]
    known = [key for row in rows for key, value in row.items() if isinstance(value, float)]
    scores = [key for key in (*CARDS["seg"], *CARDS["cvqa"], "f1_macro") if key in known]
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
    return {"rows": rows, "keys": ["loss", *scores], "plots": [Markup(svg) for svg in svgs]}  # noqa: S704


def _published(report: Row, name: str, rows: Sequence[Row]) -> dict[str, Any]:
    teams = [row for row in rows if row["task"] == name]
    keys = list(dict.fromkeys(key for row in teams for key in row["figures"]))
    mine = [(s["name"], one["figures"]) for s in report["systems"] for one in s["reports"] if one["task"] == name]
    heads = [_WORDS.get(key, (key.removeprefix(ACCURACY), ""))[0] for key in keys]
    return {"title": TITLES[name].capitalize(), "keys": keys, "heads": heads, "teams": teams, "mine": mine}

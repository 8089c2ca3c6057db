"""The part of report.html about images in numbers: agreement of annotators, distribution, lesion size."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from magic_cli.records import Interval, TaskScores
from magic_cli.report import plots
from magic_cli.report.plots import Group
from magic_cli.report.score_text import SCORE_NAMES, bounds, is_defined

if TYPE_CHECKING:
    from markupsafe import Markup

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Annotators and the system scored against the same masks.

    Each row has a name, an explanation, both scores, and the interval of their difference.
    """

    images: int
    rows: tuple[tuple[str, str, float | None, float | None, Interval | None], ...]


@dataclass(frozen=True, slots=True)
class ImageContent:
    """The page's content about a task's images.

    Attributes:
        plots: inline SVGs with their captions.
        sizes: groups of images by lesion size.
        n_empty: images without a lesion.
        n_skipped: images without a defined score.
        n_faulty: images whose mask counts as zero.
        annotators: name of each, the system's row against them, and their own row as if they were a system.
        agreement: None without a second annotator.
    """

    plots: tuple[tuple["Markup", str], ...]
    sizes: tuple[Group, ...]
    n_empty: int
    n_skipped: int
    n_faulty: int
    annotators: tuple[tuple[str, Row | None, Row | None], ...]
    agreement: Agreement | None


def image_content(scores: TaskScores) -> ImageContent | None:
    """Return the page's content about the images of one system's scores, None for a task without images."""
    items = [item for item in scores.per_item if "dice_max" in item]
    if not items:
        return None
    scored = [item for item in items if is_defined(item["dice_max"])]
    sized = [item for item in scored if (item["lesion"] or 0) > 0]
    jaccards = [item["jaccard_max"] for item in scored if is_defined(item["jaccard_max"])]
    sizes, dices = _column(sized, "lesion"), _column(sized, "dice_max")
    return ImageContent(
        plots=tuple(_plots(jaccards, sized)),
        sizes=plots.groups(sizes, dices) if sizes else (),
        n_empty=len(scored) - len(sized),
        n_skipped=len(items) - len(scored),
        n_faulty=sum(bool(item["fault"]) for item in items),
        annotators=_annotators(scores),
        agreement=_agreement(scores.agreement),
    )


def _plots(jaccards: Sequence[float], sized: Sequence[Row]) -> Iterator[tuple["Markup", str]]:
    """Yield inline SVGs with their captions."""
    if jaccards:
        title, axis = "Jaccard of each image", "Jaccard with the best annotator"
        caption = "Each image's Jaccard with its best annotator, in bins of 0.05."
        yield plots.histogram(jaccards, title=title, axis=axis), caption
    if sized:
        title, axis, names = (
            "Dice against lesion size",
            "lesion, share of the photo (log scale)",
            _column(sized, "image"),
        )
        sizes, dices = _column(sized, "lesion"), _column(sized, "dice_max")
        plot = plots.scatter(sizes, dices, title=title, x_axis=axis, y_axis="Dice, best annotator", names=names)
        yield plot, _points(len(sized))


def _column(rows: Sequence[Row], key: str) -> list[Any]:
    return [row[key] for row in rows]


def _points(number: int) -> str:
    text = "A point is an image; its lesion is the mean over annotators."
    if number <= plots.POINTS:
        return text
    return f"{text} {plots.POINTS:,} of {number:,} images are drawn; the medians are those of all."


def _annotators(scores: TaskScores) -> tuple[tuple[str, Row | None, Row | None], ...]:
    human = {row["annotator"]: row for row in (scores.agreement or {}).get("annotators", ())}
    system = {row["annotator"]: row for row in scores.summary_rows if "annotator" in row}
    return tuple((name, system.get(name), human.get(name)) for name in {**system, **human})


def _agreement(agreement: Row | None) -> Agreement | None:
    if not agreement:
        return None
    human, system = agreement["human"], agreement["system"]
    gaps = agreement.get("differences", {})
    rows = (
        (*SCORE_NAMES.get(key, (key, "")), value, system.get(key), _interval(gaps.get(key)))
        for key, value in human.items()
    )
    return Agreement(agreement["images"], tuple(rows))


def _interval(row: Row | None) -> Interval | None:
    """Return the interval of a difference, None if there is none."""
    pair = None if row is None else Interval(row["low"], row["high"])
    return pair if bounds(pair) is not None else None

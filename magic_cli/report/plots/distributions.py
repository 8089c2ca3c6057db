"""Distributions: histograms of values, bars of counts, and points over a share with the medians of groups."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from magic_cli.report.plots.frame import SERIES, Axis, Frame, count_axis, units, words

BINS = 20

POINTS = 2_000  # in one plot: tens of thousands make a page of megabytes that a browser scrolls slowly

_NAMED = 500  # points that say their name when pointed at; names of more would make a page of megabytes


@dataclass(frozen=True, slots=True)
class Group:
    """Points with x in [low, high]: their number, and the quartiles of their y."""

    low: float
    high: float
    size: int
    quartiles: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts in bins of equal width, for `count_bars`; places on the x axis are counted in bins from 0.

    Attributes:
        numbers: of each bin, at least one bin. texts: of each bin, its range: "0.85 to 0.90".
        ticks: place and text of each tick: (10, "0.5") of twenty bins over [0, 1].
        marks: place and text of dashed lines, such as a median.
    """

    numbers: Sequence[int]
    texts: Sequence[str]
    ticks: Sequence[tuple[float, str]]
    marks: Sequence[tuple[float, str]] = ()


def bins(values: Sequence[float]) -> NDArray[np.int64]:
    """Count values in [0, 1] in 20 bins of 0.05; the last one includes 1."""
    return np.histogram(np.asarray(values, float), BINS, (0, 1))[0].astype(np.int64)


def groups(x: Sequence[float], y: Sequence[float], most: int = 4) -> tuple[Group, ...]:
    """Return groups of equal size by rising x (the last may differ by one), each with the quartiles of y.

    >>> [(g.low, g.high, g.quartiles[1]) for g in groups([4, 1, 2, 3], [0.4, 0.1, 0.2, 0.3], 2)]
    [(1.0, 2.0, 0.15000000000000002), (3.0, 4.0, 0.35)]
    """
    order = np.argsort(np.asarray(x, float), kind="stable")
    parts = []
    for part in np.array_split(order, min(most, max(1, len(order) // 2))):
        if part.size:
            xs, ys = np.asarray(x, float)[part], np.asarray(y, float)[part]
            low, middle, high = (float(q) for q in np.quantile(ys, (0.25, 0.5, 0.75)))
            parts.append(Group(float(xs[0]), float(xs[-1]), part.size, (low, middle, high)))
    return tuple(parts)


def histogram(values: Sequence[float], *, title: str, axis: str, things: str = "images") -> Markup:
    """Return the histogram of values in [0, 1] with a line at their median, 20 bins.

    Args:
        values: finite, at least one.
        title: of the plot.
        axis: what the values are.
        things: what is counted.
    """
    median = float(np.median(values))
    counts = Counts(
        bins(values).tolist(),
        [f"{k / BINS:.2f} to {(k + 1) / BINS:.2f}" for k in range(BINS)],
        [(BINS * k / 4, f"{k / 4:g}") for k in range(5)],
        [(BINS * median, f"median {median:.2f}")],
    )
    return count_bars(counts, title=title, axis=axis, things=things)


def count_bars(counts: Counts, *, title: str, axis: str, things: str) -> Markup:
    """Return a bar for each bin of `counts`, with their marks. Arguments as for `histogram`."""
    numbers = counts.numbers
    marked = ", ".join(text for _, text in counts.marks)
    label = f"{title}: histogram of {sum(numbers):,} {things} over {axis}{f'; {marked}' if marked else ''}."
    x = Axis(axis, 0.0, float(len(numbers)), tuple(counts.ticks))
    frame = Frame(title, label, x, count_axis(f"number of {things}", max(numbers)))
    width = frame.across(1) - frame.across(0)
    gap = min(1.0, width / 5)
    bars = [
        f'<rect x="{units(frame.across(k) + gap / 2)}" y="{units(frame.up(n))}" width="{units(width - gap)}"'
        f' height="{units(frame.bottom - frame.up(n))}"><title>{words(f"{text}: {n:,} {things}")}</title></rect>'
        for k, (n, text) in enumerate(zip(numbers, counts.texts, strict=True))
        if n
    ]
    marks = [frame.mark(place, text, row=row) for row, (place, text) in enumerate(counts.marks)]
    return frame.svg([f'<g fill="{SERIES[0]}">', *bars, "</g>", *marks])


def scatter(
    x: Sequence[float], y: Sequence[float], *, title: str, x_axis: str, y_axis: str, names: Sequence[str] = ()
) -> Markup:
    """Return points of y in [0, 1] over x, a share in (0, 1] on a log axis, with the quartiles of each quarter of x.

    At most POINTS points are drawn, evenly spaced by rank of x; the medians are of all points.

    Args:
        x: at least one. y: as many.
        title: of the plot. x_axis, y_axis: what the values are.
        names: of the points, shown when one is pointed at; () for none.
    """
    medians, drawn = groups(x, y), _drawn(x)
    values = ", ".join(f"{group.quartiles[1]:.2f}" for group in medians)
    label = f"{title}: {len(x)} points; median {y_axis} by rising {x_axis}: {values}."
    decades = max(1, math.ceil(-math.log10(min(x)) - 1e-9))
    ticks = tuple((10.0**-k, _percent(10.0**-k)) for k in range(decades, -1, -(1 + decades // 6)))
    vertical = Axis(y_axis, -0.02, 1.02, tuple((k / 5, f"{k / 5:g}") for k in range(6)))
    frame = Frame(title, label, Axis(x_axis, 10.0**-decades, 1.0, ticks, is_log=True), vertical)
    points = [_point(frame, x[k], y[k], names[k] if names and len(drawn) <= _NAMED else "") for k in drawn]
    boxes, lines = [], []
    for group in medians:
        left = frame.across(group.low)
        width = max(2.0, frame.across(group.high) - left)
        low, middle, high = (frame.up(value) for value in group.quartiles)
        boxes.append(f'<rect x="{units(left)}" y="{units(high)}" width="{units(width)}" height="{units(low - high)}"/>')
        lines.append(f"M{units(left)} {units(middle)}h{units(width)}")
    part = "a quarter" if len(medians) == 4 else "a group"
    line = f'<path d="{{}}" stroke="{SERIES[1]}" stroke-width="2.4"/>'
    swatch = f'<rect y="-4" width="18" height="8" fill="{SERIES[1]}" opacity=".2"/>{line.format("M0 0H18")}'
    marks = [f'<g fill="{SERIES[1]}" opacity=".16">', *boxes, "</g>"]
    marks += [f'<g fill="{SERIES[0]}" fill-opacity=".5">', *points, "</g>", line.format("".join(lines))]
    return frame.svg(marks, [(swatch, f"median and middle half of {part} of the images")])


def _point(frame: Frame, x: float, y: float, name: str) -> str:
    head = f'<circle cx="{units(frame.across(x))}" cy="{units(frame.up(y))}" r="2.4"'
    return f"{head}><title>{words(f'{name}: {y:.2f}')}</title></circle>" if name else f"{head}/>"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _drawn(x: Sequence[float]) -> Sequence[int]:
    """Return the indices of the points that are drawn, sorted; the lowest and the highest x are among them."""
    if len(x) <= POINTS:
        return range(len(x))
    picked = np.argsort(np.asarray(x, float), kind="stable")[np.linspace(0, len(x) - 1, POINTS).round().astype(int)]
    return sorted(picked.tolist())
